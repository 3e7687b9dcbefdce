"""The rules of a whole schema: what every type and field takes, all that holds for it put together."""

from collections.abc import Iterator
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
)

from permissions.declared import Declared, declared
from permissions.rules import Rule, both

PAGING = frozenset({"after", "before", "first", "last"})
"""Arguments that say which part of a list is given and nothing of what is in it."""


class SchemaRules:
    """By coordinate. ``types``: what takes any record of the type; a page or an edge takes what its records take.
    ``fields``: the field's own rule, its type's and that of the type which it gives, all together; a field of a part
    without a rule of its own is not in it, as it takes what the field takes that gave the part."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        named = [type_ for name, type_ in schema.type_map.items() if not name.startswith("__")]
        self.objects = [type_ for type_ in named if isinstance(type_, GraphQLObjectType)]
        self.abstract = [
            type_ for type_ in named if isinstance(type_, GraphQLInterfaceType | GraphQLUnionType)
        ]
        self.inputs = [type_ for type_ in named if isinstance(type_, GraphQLInputObjectType)]
        self.enums = [type_ for type_ in named if isinstance(type_, GraphQLEnumType)]
        self.of_type: dict[str, Declared] = {
            type_.name: declared(type_) for type_ in [*self.objects, *self.abstract]
        }
        self.of_field: dict[tuple[str, str], Declared] = {
            (type_.name, name): declared(field)
            for type_ in [*self.objects, *self.abstract]
            for name, field in getattr(type_, "fields", {}).items()
        }
        self.roots = {
            type_.name
            for type_ in (schema.query_type, schema.mutation_type, schema.subscription_type)
            if type_
        }
        self.pages: dict[str, Any] = {
            type_.name: found for type_ in self.objects if (found := _record_of(type_)) is not None
        }
        """The type of the records by the name of their connection or edge."""
        self.types: dict[str, Rule] = {}
        for type_ in self.objects:
            rule = both(*self.of_type[type_.name].rules)
            if record := self.pages.get(type_.name):
                rule = both(rule, *self.of_type[record.name].rules)
            if rule is not None:
                self.types[type_.name] = rule
        self.fields: dict[tuple[str, str], Rule] = {}
        self.beside: dict[tuple[str, str], Rule] = {}
        """What fields take beside what their type takes."""
        for type_ in self.objects:
            for name, field in type_.fields.items():
                beside = self.given(type_.name, name, field)
                found = both(self.types.get(type_.name), beside)
                if found is not None:
                    self.fields[type_.name, name] = found
                if beside is not None:
                    self.beside[type_.name, name] = beside

    def given(self, type_name: str, name: str, field: GraphQLField) -> Rule | None:
        """What the field takes beside what its type takes."""
        return both(*self.of_field[type_name, name].rules, self.types.get(get_named_type(field.type).name))

    def coordinate(self, text: str) -> tuple[Any, str] | None:
        """The type and the field's name in ``Type.field``; None where the schema has none of it."""
        type_name, _, name = text.partition(".")
        type_ = self.schema.type_map.get(type_name)
        return (type_, name) if type_ is not None and name in getattr(type_, "fields", {}) else None

    def each_field(self) -> Iterator[tuple[GraphQLObjectType, str, GraphQLField, Declared]]:
        """Of every object type."""
        for type_ in self.objects:
            for name, field in type_.fields.items():
                yield type_, name, field, self.of_field[type_.name, name]

    def is_part(self, type_: Any) -> bool:
        """Is it a value within what gives it?"""
        return type_.name in self.of_type and self.of_type[type_.name].part

    def tells_alone(self, type_: Any) -> bool:
        """Does a field of this type tell something without giving a record: a leaf, or a part?"""
        named = get_named_type(type_)
        return bool(is_leaf_type(named)) or self.is_part(named)

    def is_abstract(self, type_: Any) -> bool:
        """Is it known only from each value which type it has?"""
        named = get_named_type(type_)
        return bool(is_abstract_type(self._record(named)))

    def _record(self, named: Any) -> Any:
        return self.pages.get(named.name, named)


def _record_of(type_: GraphQLObjectType) -> Any:
    """What a connection or an edge has pages of, by Relay's connection specification."""
    fields = type_.fields
    if "pageInfo" in fields and "edges" in fields:
        if "nodes" in fields:
            return get_named_type(fields["nodes"].type)
        return _record_of(get_named_type(fields["edges"].type))
    if "node" in fields and "cursor" in fields:
        return get_named_type(fields["node"].type)
    return None
