"""graphql-core's executor, told by the policy which fields not to execute."""

from collections.abc import Sequence
from typing import Any

from graphql import GraphQLError, GraphQLObjectType, is_non_null_type, located_error
from graphql.execution.collect_fields import FieldDetails, collect_fields
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from permissions.arguments import Guard
from permissions.rules import Rule
from resolvers.context import Context
from resolvers.errors import Forbidden


class PolicyExecutor(StrawberryGraphQLCoreExecutionContext):
    """A denied field is not executed: it reads null, with one error however many rows it would have had. So does one
    whose arguments use what the caller may not use, and one whose loader refuses the type that it would read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        context: Context = self.context_value
        self.held = context.principal.held
        self.denied = context.policy.denied(self.held)
        self.guards = context.policy.guards(self.held)
        self._told: set[tuple[str, ...]] = set()

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: list[FieldDetails],
        path: Path,
        position_context: Any,
    ) -> Any:
        """As graphql-core's, but for denied fields."""
        place = (parent_type.name, field_details_list[0].node.name.value)
        denied = place in self.denied
        if not denied and place not in self.guards:
            return super().execute_field(parent_type, source, field_details_list, path, position_context)
        refused = (
            (".".join(place), self.denied[place])
            if denied
            else self.refusal(self.guards[place], field_details_list[0].node)
        )
        if refused is None:
            return super().execute_field(parent_type, source, field_details_list, path, position_context)
        error = self.forbidden(*refused)
        self.handle_field_error(error, parent_type.fields[place[1]].type, field_details_list, path)
        return None

    def handle_field_error(self, raw_error: Any, return_type: Any, details: Any, path: Path) -> None:
        """As graphql-core's, but for what was told of the same place before."""
        error = getattr(raw_error, "original_error", None) or raw_error
        if isinstance(error, Forbidden) and not is_non_null_type(return_type):
            where = getattr(raw_error, "path", None) or path.as_list()
            if not self.first_of_its_place(error, where):
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
            place = (root.name, details[0].node.name.value)
            guard = self.guards.get(place)
            refused = self.refusal(guard, details[0].node) if guard else None
            if place in self.denied:
                refused = (".".join(place), self.denied[place])
            if refused:
                error = self.forbidden(*refused)
                errors.append(located_error(error, [detail.node for detail in details], [key]))
        return errors

    def refusal(self, guard: Guard, node: Any) -> tuple[str, Rule] | None:
        """What a field's arguments use that the caller may not use."""
        return guard.refusal(node.arguments or (), self.variable_values.sources)

    def forbidden(self, coordinate: str, rule: Rule) -> Forbidden:
        """The error of what this caller is denied."""
        return Forbidden(coordinate, rule, self.held)

    def first_of_its_place(self, error: Forbidden, path: Sequence[str | int]) -> bool:
        """Has it not been told yet, of this row or another?"""
        place = (error.coordinate, *(part for part in path if isinstance(part, str)))
        if place in self._told:
            return False
        self._told.add(place)
        return True
