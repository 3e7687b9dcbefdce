"""/graphql over HTTP, by the GraphQL over HTTP specification: POST with JSON, GET for reading, one JSON answer, or events."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.event_stream import MEDIA_TYPE as EVENTS
from gateway.event_stream import EventStream
from gateway.limits import MAX_BODY_BYTES
from gateway.office import Office
from gateway.operations import Answer, Operation, Operations, encoded
from gateway.presence import Presence
from gateway.signin.refused import NothingShown, SignInRefused, challenge
from gateway.subscriptions import Subscriptions
from gateway.terms import BadWish, wishes

METHODS = ("GET", "POST")
MAX_PUBLIC_BYTES = 8 * 1024
"""Of the body of who has not signed in."""
GRAPHQL_RESPONSE = "application/graphql-response+json"


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
        self._operations = Operations(office)
        self._subscriptions = Subscriptions(office)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        presence = Presence(receive)
        try:
            response = await self._respond(Request(scope, receive), presence)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not presence.gone or task is None or task.uncancel():
                raise  # it is not the client who left, or not only
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request, presence: Presence) -> Response | EventStream:
        """What goes wrong is an answer, too."""
        if request.method not in METHODS:
            return Response(f"use {' or '.join(METHODS)}\n", 405, {"Allow": ", ".join(METHODS)}, "text/plain")
        request_id = uuid.uuid4().hex
        media_type = _answer_type(request.headers.get("accept", ""))
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                wished = wishes(request.headers)
                principal = await self._office.signin.principal(request.headers, method=request.method)
                operation = await _read(request)
            except NothingShown as refused:
                return await self._public(request, request_id, media_type) or _not_let_in(refused, media_type)
            except SignInRefused as refused:
                return _not_let_in(refused, media_type)
            except BadRequest as refused:
                return _bad(refused, media_type)
            except BadWish as refused:
                return _bad(BadRequest(str(refused)), media_type)
            if self._streams(request, operation):
                # Who asks is asked again: an answer that goes on needs to know when that changes.
                return EventStream(self._office, self._subscriptions, operation, request_id, _not_let_in)
            answer = await self._operations.run(
                operation,
                principal,
                request_id,
                only_query=request.method == "GET",
                wished=wished,
                presence=presence,
            )
        return _shown(answer, media_type, request_id, request.method)

    async def _public(self, request: Request, request_id: str, media_type: str) -> Response | None:
        """The answer for who has shown no credentials; None: there is none without."""
        try:
            operation = await _read(request, MAX_PUBLIC_BYTES)
        except BadRequest:
            return None
        answer = await self._operations.run_public(operation, request_id, only_query=request.method == "GET")
        return None if answer is None else _shown(answer, media_type, request_id, request.method)

    def _streams(self, request: Request, operation: Operation) -> bool:
        """Clients that take both want their one answer as JSON."""
        accept = request.headers.get("accept", "")
        return EVENTS in accept and (
            not any(json in accept for json in (GRAPHQL_RESPONSE, "application/json", "*/*"))
            or self._subscriptions.subscribes(operation)
        )


def _shown(answer: Answer, media_type: str, request_id: str, method: str) -> Response:
    if answer.refused is not None:
        return _not_let_in(answer.refused, media_type)
    if not answer.available:
        return _answered(answer.body, 503, media_type, request_id)
    status = 200 if answer.ran or media_type != GRAPHQL_RESPONSE else 400
    return _answered(answer.body, status, media_type, request_id, answer.kept if method == "GET" else None)


def _answered(
    body: Any, status: int, media_type: str, request_id: str, kept: Mapping[str, str] | None = None
) -> Response:
    # An answer to GET with a cookie could otherwise be kept by what stands between, and given to the next caller.
    headers = {"X-Request-Id": request_id, **(kept or {"Cache-Control": "private, no-store"})}
    return Response(encoded(body), status, headers, f"{media_type}; charset=utf-8")


def _answer_type(accept: str) -> str:
    return GRAPHQL_RESPONSE if GRAPHQL_RESPONSE in accept else "application/json"


def _not_let_in(refused: SignInRefused, media_type: str = "application/json") -> Response:
    body = encoded({"errors": [{"message": str(refused), "extensions": refused.extensions}]})
    return Response(body, refused.status, challenge(refused), f"{media_type}; charset=utf-8")


def _bad(refused: BadRequest, media_type: str) -> Response:
    body = encoded({"errors": [{"message": str(refused), "extensions": {"code": refused.code}}]})
    return Response(body, refused.status, media_type=f"{media_type}; charset=utf-8")


async def _read(request: Request, most: int = MAX_BODY_BYTES) -> Operation:
    if request.method == "GET":
        return _from_query(request.query_params)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("send the operation as application/json", 415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise BadRequest(f"the request is larger than {most >> 10} kB", 413, "LIMIT_EXCEEDED")
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
