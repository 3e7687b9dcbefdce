"""Which fields an operation asks for, by coordinate, as the audit trail names them."""

from collections.abc import Mapping
from functools import lru_cache, partial
from sys import intern
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    NamedTypeNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

from permissions.policy import Policy

Place = tuple[str, str]
"""A type's name and a field's."""

KEPT_CHOICES = 16
"""Of one operation: by what its callers are denied, and by its @skip and @include."""


class Asked(NamedTuple):
    """What one operation asks for that its caller may have."""

    type: OperationType
    name: str | None
    coordinates: tuple[str, ...]
    personal: tuple[str, ...]
    """Categories of personal data among them."""
    denied: tuple[str, ...]
    """What else it asks for, by coordinate; what stands below is not looked at."""


class Coordinates:
    """Of one operation of a valid document; each choice is worked out once."""

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        policy: Policy,
    ) -> None:
        fragments = {
            found.name.value: found
            for found in document.definitions
            if isinstance(found, FragmentDefinitionNode)
        }
        self._booleans = {
            variable.variable.name.value: getattr(variable.default_value, "value", None)
            for variable in operation.variable_definitions or ()
            if _is_boolean(variable.type)
        }
        """Variables that may leave something out, with their defaults."""
        # Not by a method of its own: then it would hold itself, and wait for the garbage collector when it is forgotten.
        self._chosen = lru_cache(maxsize=KEPT_CHOICES)(
            partial(_walked, schema, operation, policy, fragments, tuple(self._booleans))
        )

    def asked(self, held: frozenset[str], variables: Mapping[str, Any]) -> Asked:
        """By a caller who holds these. What is denied, and what stands below it, is not read."""
        choices: tuple[bool, ...] = ()
        if self._booleans:
            choices = tuple(
                variables.get(name, default) is not False for name, default in self._booleans.items()
            )
        return self._chosen(held, choices)


def _walked(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    policy: Policy,
    fragments: Mapping[str, FragmentDefinitionNode],
    booleans: tuple[str, ...],
    held: frozenset[str],
    choices: tuple[bool, ...],
) -> Asked:
    denied, chosen = policy.denied(held), dict(zip(booleans, choices, strict=True))
    places: set[Place] = set()
    refused: set[Place] = set()
    root = schema.get_root_type(operation.operation)
    todo: list[tuple[Any, SelectionSetNode]] = [(root, operation.selection_set)]
    spread: set[str] = set()
    while todo:
        parent, selections = todo.pop()
        for selection in selections.selections:
            if _left_out(selection, chosen):
                continue
            if isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name not in spread:
                    spread.add(name)
                    fragment = fragments[name]
                    type_ = schema.type_map[fragment.type_condition.name.value]
                    todo.append((type_, fragment.selection_set))
            elif isinstance(selection, FieldNode):
                place = (parent.name, selection.name.value)
                field = schema.get_field(parent, selection.name.value)
                if place in denied:
                    refused.add(place)
                if field is None or place in denied or place[1] == "__typename":
                    continue
                places.add(place)
                if selection.selection_set and not place[1].startswith("__"):
                    todo.append((get_named_type(field.type), selection.selection_set))
            else:
                condition: Any = getattr(selection, "type_condition", None)
                type_ = schema.type_map[condition.name.value] if condition else parent
                todo.append((type_, selection.selection_set))  # type: ignore[attr-defined]
    coordinates = _names(places)
    declared = policy.rules.of_field
    personal = {declared[place].personal for place in places if place in declared}
    called = operation.name.value if operation.name else None
    categories = tuple(sorted(filter(None, personal)))
    return Asked(operation.operation, called, coordinates, categories, _names(refused))


def _names(places: set[Place]) -> tuple[str, ...]:
    # The schema's names, of which there is one each, however many documents are kept.
    return tuple(sorted(intern(f"{type_name}.{field}") for type_name, field in places))


def _is_boolean(type_: Any) -> bool:
    named = getattr(type_, "type", type_)
    return isinstance(named, NamedTypeNode) and named.name.value == "Boolean"


def _left_out(selection: SelectionNode, chosen: Mapping[str, bool]) -> bool:
    """By @skip or @include."""
    for directive in selection.directives or ():
        leaves_out = {"skip": True, "include": False}.get(directive.name.value)
        if leaves_out is None:
            continue
        for argument in directive.arguments or ():
            value = argument.value
            if isinstance(value, VariableNode):
                given: Any = chosen.get(value.name.value)
            else:
                given = getattr(value, "value", None)
            if given is leaves_out:
                return True
    return False
