"""Restricted arguments: what of a field's arguments takes scopes of its own, and whether a request uses it.

Looked for in what was sent, before any conversion: in the document's literals and in the variables as they came.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphql import (
    EnumValueNode,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputObjectType,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    Undefined,
    VariableNode,
    get_named_type,
)

from permissions.declared import declared
from permissions.rules import Rule, satisfied
from permissions.schema_rules import SchemaRules

Place = tuple[str, str]


class Guard:
    """One field's arguments for one caller. ``closed``: what the caller may not use of them, by coordinate."""

    def __init__(
        self, coordinate: str, arguments: Mapping[str, GraphQLArgument], closed: Mapping[str, Rule]
    ) -> None:
        self._coordinate, self._arguments, self._closed = coordinate, arguments, closed

    def refusal(self, given: Sequence[Any], sources: Mapping[str, Any]) -> tuple[str, Rule] | None:
        """The first that a request uses all the same. ``given``: the document's argument nodes; ``sources``:
        graphql-core's variables with the values that were sent."""
        for node in given:
            definition = self._arguments.get(node.name.value)
            if definition is not None:
                for coordinate in self._used(definition.type, node.value, sources):
                    return coordinate, self._closed[coordinate]
                argument = f"{self._coordinate}({node.name.value}:)"
                if argument in self._closed and _says_something(node.value, sources):
                    return argument, self._closed[argument]
        return None

    def _used(self, type_: Any, value: Any, sources: Mapping[str, Any]) -> Iterator[str]:
        """Of a literal, or of a variable's value."""
        if isinstance(value, VariableNode):
            value = _sent(value, sources)
        named = get_named_type(type_)
        for item in _items(value):
            if isinstance(item, VariableNode):
                yield from self._used(type_, item, sources)
            elif isinstance(named, GraphQLInputObjectType):
                for name, inner in _entries(item):
                    field = named.fields.get(name)
                    if field is None or not _says_something(inner, sources):
                        continue
                    if f"{named.name}.{name}" in self._closed:
                        yield f"{named.name}.{name}"
                    yield from self._used(field.type, inner, sources)
            elif isinstance(named, GraphQLEnumType):
                name = item.value if isinstance(item, EnumValueNode) else item
                if f"{named.name}.{name}" in self._closed:
                    yield f"{named.name}.{name}"


class Arguments:
    """All restricted arguments of a schema."""

    def __init__(self, rules: SchemaRules) -> None:
        self.rules: dict[str, Rule] = {}
        """By coordinate: ``Type.field(argument:)``, ``Input.field`` or ``Enum.VALUE``."""
        self.reached: dict[Place, frozenset[str]] = {}
        """What of it each field's arguments can use."""
        self._arguments: dict[Place, Mapping[str, GraphQLArgument]] = {}
        for type_, name, field, _ in rules.each_field():
            found: set[str] = set()
            for argument, definition in field.args.items():
                self._learn(f"{type_.name}.{name}({argument}:)", definition, found)
                self._inside(get_named_type(definition.type), found, set())
            if found:
                self.reached[type_.name, name] = frozenset(found)
                self._arguments[type_.name, name] = field.args

    def guards(self, held: frozenset[str]) -> Mapping[Place, Guard]:
        """For the fields of whose arguments a holder of these may not use all."""
        closed = {place for place, rule in self.rules.items() if not satisfied(rule, held)}
        return {
            place: Guard(
                ".".join(place), self._arguments[place], {one: self.rules[one] for one in reached & closed}
            )
            for place, reached in self.reached.items()
            if reached & closed
        }

    def _learn(self, coordinate: str, element: Any, found: set[str]) -> None:
        for rule in declared(element).rules:
            self.rules[coordinate] = rule
            found.add(coordinate)

    def _inside(self, named: Any, found: set[str], seen: set[str]) -> None:
        if named.name in seen:
            return
        seen.add(named.name)
        if isinstance(named, GraphQLEnumType):
            for name, value in named.values.items():
                self._learn(f"{named.name}.{name}", value, found)
        elif isinstance(named, GraphQLInputObjectType):
            for name, field in named.fields.items():
                self._learn(f"{named.name}.{name}", field, found)
                self._inside(get_named_type(field.type), found, seen)


def _sent(variable: VariableNode, sources: Mapping[str, Any]) -> Any:
    """A variable's value: what was sent, else the literal that the document gives as its default, else None."""
    source = sources.get(variable.name.value)
    if source is None:
        return None
    if source.value is not Undefined:
        return source.value
    return source.signature.default.literal if source.signature.default else None


def _says_something(value: Any, sources: Mapping[str, Any]) -> bool:
    if isinstance(value, VariableNode):
        value = _sent(value, sources)
    return value is not None and not isinstance(value, NullValueNode)


def _items(value: Any) -> Iterator[Any]:
    """Of a list in a list, all of them; of anything else, itself."""
    if isinstance(value, ListValueNode):
        value = value.values
    if isinstance(value, list | tuple):
        for item in value:
            yield from _items(item)
    elif value is not None and not isinstance(value, NullValueNode):
        yield value


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, ObjectValueNode):
        yield from ((field.name.value, field.value) for field in value.fields)
    elif isinstance(value, Mapping):
        yield from value.items()
