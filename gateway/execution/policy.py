"""graphql-core's executor, told by the policy which fields not to execute."""

from collections.abc import Sequence
from typing import Any

from graphql import GraphQLError, GraphQLObjectType, located_error
from graphql.execution.collect_fields import FieldDetails, collect_fields
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from resolvers.context import Context
from resolvers.errors import Forbidden


class PolicyExecutor(StrawberryGraphQLCoreExecutionContext):
    """A denied field is not executed: it reads null, with one error however many rows it would have had."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        context: Context = self.context_value
        self.denied = context.policy.denied(context.principal.scopes)
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
        name = field_details_list[0].node.name.value
        if (parent_type.name, name) not in self.denied:
            return super().execute_field(parent_type, source, field_details_list, path, position_context)
        if error := self.denial(parent_type, name, path.as_list()):
            self.handle_field_error(error, parent_type.fields[name].type, field_details_list, path)
        return None

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
            name = details[0].node.name.value
            if (root.name, name) in self.denied and (error := self.denial(root, name, [key])):
                errors.append(located_error(error, [detail.node for detail in details], [key]))
        return errors

    def denial(
        self, parent_type: GraphQLObjectType, name: str, path: Sequence[str | int]
    ) -> Forbidden | None:
        """The error of a denied field at this path; None when its place was told of before."""
        place = tuple(part for part in path if isinstance(part, str))
        if place in self._told:
            return None
        self._told.add(place)
        return Forbidden(f"{parent_type.name}.{name}", self.denied[parent_type.name, name])
