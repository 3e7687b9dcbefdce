"""One operation's way, the same over HTTP, event streams and sockets: limits, sources as the caller may see them, run."""

from typing import Any

import msgspec
from graphql import ExecutionResult, GraphQLError

from gateway.errors import formatted, log_sources, of_source
from gateway.limits import prepare
from gateway.office import Office
from permissions.principal import Principal
from resolvers.context import Context
from sources.ports.errors import SourceError
from sources.transport.deadline import deadline


class Operation(msgspec.Struct, frozen=True, rename="camel"):
    """What a client sends, whichever way."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


class Answer(msgspec.Struct, frozen=True):
    """What the client gets: ``data`` and ``errors``."""

    body: dict[str, Any]
    ran: bool
    """A document that never ran has no data, and by the newer media type no status 200 either."""
    available: bool = True
    """Could it be told what the caller may see?"""


class Operations:
    """Runs operations for callers who have signed in."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def run(
        self, operation: Operation, principal: Principal, request_id: str, *, only_query: bool
    ) -> Answer:
        """A query or mutation, within the deadline. ``only_query``: nothing that changes something."""
        with deadline(self._office.settings.door.deadline):
            try:
                context = await self._office.context(principal)
            except SourceError as error:
                log_sources([error])
                return Answer({"errors": [of_source(error)]}, ran=False, available=False)
            try:
                result = await self._execute(operation, context, only_query)
            finally:
                context.release()
        return answered(result, request_id)

    async def _execute(self, operation: Operation, context: Context, only_query: bool) -> ExecutionResult:
        schema, variables = self._office.schema.graphql, operation.variables or {}
        try:
            prepared = prepare(schema, operation.query)
        except GraphQLError as error:
            return ExecutionResult(None, [error])
        refusals = prepared.refusals(operation.operation_name, variables, only_query)
        if refusals:
            return ExecutionResult(None, refusals)
        return await self._office.engine.execute(
            operation.query, prepared.document, context, variables, operation.operation_name
        )


def answered(result: ExecutionResult, request_id: str) -> Answer:
    """Shown, with what is not meant for clients masked and logged."""
    body: dict[str, Any] = {}
    if result.errors:
        body["errors"] = formatted(result.errors, request_id)
    ran = result.data is not None or any(error.path for error in result.errors or ())
    if ran:
        body["data"] = result.data
    return Answer(body, ran)
