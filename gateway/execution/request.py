"""One operation asked of the engine: its variables, and graphql-core's executor where one is needed."""

from collections.abc import Mapping
from typing import Any

import msgspec
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    VariableValues,
    get_variable_values,
)

from gateway.execution.plan import FieldPlan
from gateway.execution.replay import ReplayExecutor
from resolvers.context import Context

MOST_COERCION_ERRORS = 50
"""Of one answer, as graphql-core's executor has it."""

_TOLD = {*GraphQLResolveInfo._fields, "operation_extensions"}
"""What graphql-core's info and, with one more, Strawberry's have. Whatever looks at an object from outside asks for other names."""


_NO_VARIABLES = VariableValues({}, {})


class Request(msgspec.Struct, eq=False):
    """Most operations run by columns alone. An executor costs as much as the columns of a small one, so it is only built
    when graphql-core has to do or to say something itself."""

    schema: Any
    """Strawberry's."""
    document: DocumentNode
    context: Context
    _given: Mapping[str, Any] | None
    name: str | None
    """The operation's."""
    variables: VariableValues = _NO_VARIABLES
    """Once they are coerced."""
    _executor: Any = None

    def coerce(self, operation: OperationDefinitionNode) -> list[GraphQLError]:
        """The variables of this, which is the operation asked for. What is wrong with them, in graphql-core's words."""
        if operation.variable_definitions:
            values = get_variable_values(
                self.schema.graphql,
                operation.variable_definitions,
                dict(self._given or {}),
                MOST_COERCION_ERRORS,
            )
            if isinstance(values, list):
                return values
            self.variables = values
        return []

    def build(self, root: Any = None) -> list[GraphQLError]:
        """The executor, with the variables. What is wrong with them or with the operation's name, in graphql-core's words."""
        built = ReplayExecutor.build(
            self.schema.graphql,
            self.document,
            root_value=root,
            context_value=self.context,
            raw_variable_values=dict(self._given or {}),
            operation_name=self.name,
        )
        if isinstance(built, list):
            return built
        self._executor, self.variables = built, built.variable_values
        return []

    @property
    def executor(self) -> Any:
        """graphql-core's. Built now unless it was: of a name and variables that nothing is wrong with."""
        if self._executor is None:
            self.build()
        return self._executor

    async def execute(self) -> ExecutionResult:
        """By graphql-core."""
        executor = self.executor
        result = executor.execute_operation()
        return await result if executor.is_awaitable(result) else result  # type: ignore[no-any-return]

    def info(self, field: FieldPlan) -> "LateInfo":
        """What graphql-core tells a resolver of a field, for all its rows at once."""
        return LateInfo(self.context, self, field)

    def release(self) -> None:
        """Lets go of the executor: it is held by what it holds. Otherwise all of a request, with the records that it read,
        would wait for the garbage collector."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.async_helpers = None
            # Each error knows its frames, and they the executor. What graphql-core still settles in the background may add
            # to new ones.
            executor.collected_errors = type(executor.collected_errors)()


class LateInfo(msgspec.Struct, eq=False):
    """graphql-core's info of a field, without a path. Nearly all that resolvers ask it for is the context: the rest is put
    together when one asks for more."""

    context: Context
    _request: Request
    _field: FieldPlan
    _whole: Any = None

    def __getattr__(self, name: str) -> Any:
        if name not in _TOLD:
            raise AttributeError(name)
        if self._whole is None:
            field = self._field
            self._whole = self._request.executor.build_resolve_info(
                field.definition, field.nodes, field.parent_type, None
            )
        return getattr(self._whole, name)
