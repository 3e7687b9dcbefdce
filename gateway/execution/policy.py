"""graphql-core's executor, told by the policy which fields not to execute."""

from collections.abc import Sequence
from typing import Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLObjectType,
    VariableValues,
    is_non_null_type,
    located_error,
)
from graphql.execution.collect_fields import FieldDetails, collect_fields
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from permissions.rules import Rule
from resolvers.context import Context
from resolvers.errors import Forbidden

Refused = tuple[str, Rule]
"""The coordinate of what is refused, and the rule that it takes."""


class Refusals:
    """What the caller of one request is refused, and what of it they were told."""

    __slots__ = ("_told", "denied", "guards", "held")

    def __init__(self, context: Context) -> None:
        policy, held = context.policy, context.principal.held
        self.held, self.denied, self.guards = held, policy.denied(held), policy.guards(held)
        self._told: set[tuple[str, ...]] = set()

    def of(self, type_: GraphQLObjectType, node: FieldNode, variables: VariableValues) -> Refused | None:
        """Of a field as it is asked for."""
        place = (type_.name, node.name.value)
        if place in self.denied:
            return ".".join(place), self.denied[place]
        guard = self.guards.get(place)
        return None if guard is None else guard.refusal(node.arguments or (), variables.sources)

    def error(self, coordinate: str, rule: Rule) -> Forbidden:
        """That says so."""
        return Forbidden(coordinate, rule, self.held)

    def first_of_its_place(self, error: Forbidden, path: Sequence[str | int]) -> bool:
        """Has it not been told yet, of this row or another?"""
        place = (error.coordinate, *(part for part in path if isinstance(part, str)))
        if place in self._told:
            return False
        self._told.add(place)
        return True


class PolicyExecutor(StrawberryGraphQLCoreExecutionContext):
    """A denied field is not executed: it reads null, with one error however many rows it would have had. So does one
    whose arguments use what the caller may not use, and one whose loader refuses the type that it would read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refusals = Refusals(self.context_value)

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: list[FieldDetails],
        path: Path,
        position_context: Any,
    ) -> Any:
        """As graphql-core's, but for denied fields."""
        refused = self.refusals.of(parent_type, field_details_list[0].node, self.variable_values)
        if refused is None:
            return super().execute_field(parent_type, source, field_details_list, path, position_context)
        field = parent_type.fields[field_details_list[0].node.name.value]
        self.handle_field_error(self.refusals.error(*refused), field.type, field_details_list, path)
        return None

    def handle_field_error(self, raw_error: Any, return_type: Any, details: Any, path: Path) -> None:
        """As graphql-core's, but for what was told of the same place before."""
        error = getattr(raw_error, "original_error", None) or raw_error
        if isinstance(error, Forbidden) and not is_non_null_type(return_type):
            where = getattr(raw_error, "path", None) or path.as_list()
            if not self.refusals.first_of_its_place(error, where):
                return
        super().handle_field_error(raw_error, return_type, details, path)

    def root_denials(self) -> list[GraphQLError]:
        """The errors of the operation's own fields that are denied."""
        root = self.schema.get_root_type(self.operation.operation)
        assert root is not None
        fields, _, _ = collect_fields(
            self.schema,
            self.fragments,
            self.variable_values,
            root,
            self.operation,
            self.hide_suggestions,
        )
        errors = []
        for key, details in fields.items():
            refused = self.refusals.of(root, details[0].node, self.variable_values)
            if refused is not None:
                error = self.refusals.error(*refused)
                errors.append(located_error(error, [detail.node for detail in details], [key]))
        return errors
