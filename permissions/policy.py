"""Compiles the directives of a schema into what the executor asks: is this field denied to this caller?"""

from functools import lru_cache
from typing import Any

from graphql import GraphQLNonNull, GraphQLObjectType, GraphQLSchema, get_named_type, is_object_type

from permissions.directives import RequiresScopes
from permissions.principal import Principal, Rule, rule_of
from permissions.scopes import SCOPES


class PolicyError(Exception):
    """The schema states a rule that cannot be enforced as it stands; one fault per line."""


class Policy:
    """The rules of one schema, by coordinate. Built once at start-up; raises PolicyError with every fault found.

    A type's rule holds for every field that gives the type, beside the field's own.
    """

    def __init__(self, schema: GraphQLSchema) -> None:
        self.types: dict[str, Rule] = {}
        self.fields: dict[tuple[str, str], Rule] = {}
        faults: list[str] = []
        objects = [type_ for type_ in schema.type_map.values() if is_object_type(type_)]
        for type_ in objects:
            if rule := _rule(type_.extensions):
                self.types[type_.name] = rule
                faults += _unknown(type_.name, rule)
        for type_ in objects:
            faults += self._read_fields(type_)
        if faults:
            raise PolicyError("\n".join(faults))
        self.denied = lru_cache(maxsize=512)(self._denied)

    def _read_fields(self, type_: GraphQLObjectType) -> list[str]:
        faults: list[str] = []
        for name, field in type_.fields.items():
            rule = _both(_rule(field.extensions), self.types.get(get_named_type(field.type).name))
            if not rule:
                continue
            coordinate = f"{type_.name}.{name}"
            self.fields[type_.name, name] = rule
            faults += _unknown(coordinate, rule)
            if isinstance(field.type, GraphQLNonNull):
                faults.append(f"{coordinate}: restricted but non-null; make its type nullable")
        return faults

    def _denied(self, scopes: frozenset[str]) -> dict[tuple[str, str], Rule]:
        """The fields that a holder of exactly these scopes may not read, with their rules."""
        return {
            place: rule for place, rule in self.fields.items() if not any(needed <= scopes for needed in rule)
        }

    def may_see(self, principal: Principal, type_name: str) -> bool:
        """May the caller be given a record of this type at all (``node`` asks)?"""
        rule = self.types.get(type_name)
        return rule is None or principal.satisfies(rule)


def _rule(extensions: dict[str, Any]) -> Rule | None:
    definition = extensions.get("strawberry-definition")
    for directive in getattr(definition, "directives", None) or ():
        if isinstance(directive, RequiresScopes):
            return rule_of(directive.scopes)
    return None


def _both(one: Rule | None, other: Rule | None) -> Rule | None:
    """What takes a way through each of the two; a way that needs more than another is left out."""
    if not one or not other:
        return one or other
    ways = {needed | more for needed in one for more in other}
    return tuple(sorted((way for way in ways if not any(less < way for less in ways)), key=sorted))


def _unknown(coordinate: str, rule: Rule) -> list[str]:
    return [
        f"{coordinate}: unknown scope {scope}; add it to permissions/scopes.py"
        for scope in sorted(frozenset().union(*rule) - SCOPES.keys())
    ]
