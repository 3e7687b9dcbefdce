"""/graphql over HTTP, by the GraphQL over HTTP specification: POST with JSON, GET for reading, one JSON answer."""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from graphql import ExecutionResult, GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import formatted, log_sources, of_source
from gateway.limits import MAX_BODY_BYTES, prepare
from gateway.office import Office
from gateway.signin import SignInRefused, challenge
from resolvers.context import Context
from sources.ports.errors import SourceError
from sources.transport.deadline import deadline

METHODS = ("GET", "POST")
GRAPHQL_RESPONSE = "application/graphql-response+json"

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Operation(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a request."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


class BadRequest(Exception):
    """The request is not GraphQL over HTTP; the message says why."""

    def __init__(self, message: str, status: int = 400, code: str = "BAD_USER_INPUT") -> None:
        super().__init__(message)
        self.status, self.code = status, code


_operation = msgspec.json.Decoder(Operation)


class GraphQLEndpoint:
    """One request: who, what, run, answer."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        """What goes wrong is an answer, too."""
        if request.method not in METHODS:
            return Response(f"use {' or '.join(METHODS)}\n", 405, {"Allow": ", ".join(METHODS)}, "text/plain")
        request_id = uuid.uuid4().hex
        media_type = _answer_type(request.headers.get("accept", ""))
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                principal = await self._office.signin.principal(request.headers)
                operation = await _read(request)
            except SignInRefused as refused:
                return _refusal(str(refused), refused.code, refused.status, media_type, challenge(refused))
            except BadRequest as refused:
                return _refusal(str(refused), refused.code, refused.status, media_type)
            with deadline(self._office.settings.door.deadline):
                try:
                    context = await self._office.context(principal)
                except SourceError as error:
                    log_sources([error])
                    return _answered({"errors": [of_source(error)]}, 503, media_type, request_id)
                try:
                    result = await self._run(operation, context, only_query=request.method == "GET")
                finally:
                    context.release()
            return self._answer(result, media_type, request_id)

    async def _run(self, operation: Operation, context: Context, only_query: bool) -> ExecutionResult:
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

    def _answer(self, result: ExecutionResult, media_type: str, request_id: str) -> Response:
        body: dict[str, Any] = {}
        if result.errors:
            body["errors"] = formatted(result.errors, request_id)
        # A document that never ran has no data, and by the newer media type no 200 either.
        ran = result.data is not None or any(error.path for error in result.errors or ())
        if ran:
            body["data"] = result.data
        status = 200 if ran or media_type != GRAPHQL_RESPONSE else 400
        return _answered(body, status, media_type, request_id)


def _answered(body: Any, status: int, media_type: str, request_id: str) -> Response:
    return Response(_encode(body), status, {"X-Request-Id": request_id}, f"{media_type}; charset=utf-8")


def _answer_type(accept: str) -> str:
    return GRAPHQL_RESPONSE if GRAPHQL_RESPONSE in accept else "application/json"


def _refusal(
    message: str, code: str, status: int, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    body = _encode({"errors": [{"message": message, "extensions": {"code": code}}]})
    return Response(body, status, headers, f"{media_type}; charset=utf-8")


async def _read(request: Request) -> Operation:
    if request.method == "GET":
        return _from_query(request.query_params)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("send the operation as application/json", 415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise BadRequest(f"the request is larger than {MAX_BODY_BYTES >> 10} kB", 413, "LIMIT_EXCEEDED")
    if body.lstrip()[:1] == b"[":
        raise BadRequest("send one operation per request; a list of them is not taken")
    try:
        return _operation.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the request does not fit: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest("the request is not valid JSON") from error


def _from_query(params: Mapping[str, str]) -> Operation:
    if "query" not in params:
        raise BadRequest("give the operation as the parameter query")
    try:
        variables = (
            msgspec.json.decode(params["variables"], type=dict[str, Any]) if "variables" in params else None
        )
    except msgspec.DecodeError as error:
        raise BadRequest("variables is not a JSON object") from error
    return Operation(params["query"], params.get("operationName"), variables)
