"""graphql-core's executor, told by the policy which fields not to execute."""

from typing import Any

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetails
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from permissions.principal import Rule, missing
from resolvers.context import Context
from resolvers.errors import Forbidden


class DeniedField(Forbidden):
    """A field that the caller may not read, once per place in the answer's shape."""

    def __init__(self, coordinate: str, rule: Rule) -> None:
        super().__init__(f"{coordinate} needs {missing(rule)}")
        self.coordinate = coordinate
        self.requires = [sorted(needed) for needed in rule]


class PolicyExecutor(StrawberryGraphQLCoreExecutionContext):
    """A denied field is not executed: it reads null, with one error however many rows it would have had."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        context: Context = self.context_value
        self._denied = context.policy.denied(context.principal.scopes)
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
        rule = self._denied.get((parent_type.name, name))
        if rule is None:
            return super().execute_field(parent_type, source, field_details_list, path, position_context)
        place = tuple(part for part in path.as_list() if isinstance(part, str))
        if place not in self._told:
            self._told.add(place)
            field = parent_type.fields[name]
            self.handle_field_error(
                DeniedField(f"{parent_type.name}.{name}", rule), field.type, field_details_list, path
            )
        return None
