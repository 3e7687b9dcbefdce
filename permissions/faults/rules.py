"""Faults in the rules themselves: none, unknown, contradicting, not enforceable where they stand."""

from collections.abc import Iterator
from typing import Any

from graphql import (
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    is_object_type,
)

from permissions.declared import Declared, declared
from permissions.personal import CATEGORIES
from permissions.rules import AUTHENTICATED, PUBLIC, both, implies, missing, scopes_in
from permissions.schema_rules import SchemaRules
from permissions.scopes import SCOPES

WRITE = "@public, @authenticated or @requiresScopes(scopes: [[...]])"


def faults_of_rules(rules: SchemaRules) -> Iterator[str]:
    """All of this topic."""
    yield from _as_written(rules)
    yield from _without(rules)
    yield from _non_null(rules)
    yield from _abstract(rules)
    yield from _laxer(rules)
    yield from _personal(rules)


def elements(rules: SchemaRules) -> Iterator[tuple[str, Declared]]:
    """Everything in the schema that can carry a directive, by coordinate."""
    yield from rules.of_type.items()
    for (type_name, name), said in rules.of_field.items():
        yield f"{type_name}.{name}", said
    for type_ in [*rules.objects, *rules.abstract]:
        for name, field in getattr(type_, "fields", {}).items():
            for argument, definition in field.args.items():
                yield f"{type_.name}.{name}({argument}:)", declared(definition)
    for input_ in rules.inputs:
        for name, field in input_.fields.items():
            yield f"{input_.name}.{name}", declared(field)
    for enum in rules.enums:
        for name, value in enum.values.items():
            yield f"{enum.name}.{name}", declared(value)


def _as_written(rules: SchemaRules) -> Iterator[str]:
    for coordinate, said in elements(rules):
        if len(said.rules) > 1:
            yield f"{coordinate}: {len(said.rules)} rules; write one of {WRITE}"
        for rule in said.rules:
            for scope in sorted(scopes_in(rule) - SCOPES.keys()):
                yield f"{coordinate}: unknown scope {scope}; add it to permissions/scopes.py"
            if not rule:
                yield f"{coordinate}: @requiresScopes without a list, which nobody satisfies; name the scopes"


def _without(rules: SchemaRules) -> Iterator[str]:
    """Deny by default: what says nothing is not open."""
    for type_, name, _, said in rules.each_field():
        inherits = type_.name in rules.types or type_.name in rules.pages or rules.is_part(type_)
        if not said.rules and not inherits:
            yield f"{type_.name}.{name}: no rule; write {WRITE} on it or on its type"


def _non_null(rules: SchemaRules) -> Iterator[str]:
    """A denied field reads null. Where all of a type is denied, nothing of it is there that could be."""
    for type_, name, field, _ in rules.each_field():
        rule = rules.fields.get((type_.name, name))
        if rule is None or not isinstance(field.type, GraphQLNonNull):
            continue
        if not implies(rules.types.get(type_.name, PUBLIC), rule):
            yield f"{type_.name}.{name}: restricted but non-null; make its type nullable"


def _abstract(rules: SchemaRules) -> Iterator[str]:
    for type_ in rules.abstract:
        kind = "interface" if isinstance(type_, GraphQLInterfaceType) else "union"
        instead = "each type that implements it" if kind == "interface" else "each of its types"
        said = rules.of_type[type_.name]
        if said.rules or said.scoped_by or said.part:
            yield f"{type_.name}: a rule on an {kind}; write it on {instead}".replace("an union", "a union")
        for name in getattr(type_, "fields", {}):
            if rules.of_field[type_.name, name].rules:
                yield f"{type_.name}.{name}: a rule on an interface; write it on {instead}"


def _laxer(rules: SchemaRules) -> Iterator[str]:
    for type_ in rules.objects:
        for interface in type_.interfaces:
            for name, field in interface.fields.items():
                floor = rules.given(interface.name, name, field)
                has = rules.fields.get((type_.name, name), PUBLIC)
                if floor is not None and not implies(has, floor):
                    yield (
                        f"{type_.name}.{name}: laxer than {interface.name}.{name}, which takes {missing(floor)}; "
                        f"it has to take that too"
                    )


def _personal(rules: SchemaRules) -> Iterator[str]:
    for coordinate, said in elements(rules):
        if said.personal is None:
            continue
        if said.personal not in CATEGORIES:
            yield (
                f"{coordinate}: unknown category {said.personal}; there are {', '.join(sorted(CATEGORIES))} "
                "(permissions/personal.py)"
            )
        if not implies(_takes(rules, coordinate), AUTHENTICATED):
            yield f"{coordinate}: personal data that anyone may read; write @authenticated or @requiresScopes"


def _takes(rules: SchemaRules, coordinate: str) -> Any:
    """What a type or a field takes."""
    found = rules.coordinate(coordinate)
    if found is None:
        type_ = rules.schema.type_map[coordinate]
        return rules.types.get(coordinate, AUTHENTICATED if rules.is_part(type_) else PUBLIC)
    type_, name = found
    if not is_object_type(type_):
        return AUTHENTICATED
    assert isinstance(type_, GraphQLObjectType)
    if rules.is_part(type_):
        return both(AUTHENTICATED, rules.fields.get((type_.name, name)))
    return rules.fields.get((type_.name, name), PUBLIC)
