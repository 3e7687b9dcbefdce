"""/graphql over HTTP, by the GraphQL over HTTP specification: POST with JSON, GET for reading, one JSON answer, or events."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.arrival import arrival
from gateway.event_stream import MEDIA_TYPE as EVENTS
from gateway.event_stream import EventStream
from gateway.http import Reply, RequestHeaders, raw, reply
from gateway.limits import MAX_BODY_BYTES
from gateway.office import Office
from gateway.operations import Answer, Operation, Operations, encoded
from gateway.presence import Presence, Presences
from gateway.signin.refused import NothingShown, SignInRefused, challenge
from gateway.subscriptions import Subscriptions
from gateway.terms import BadWish, signing_in, wishes

METHODS = ("GET", "POST")
MAX_PUBLIC_BYTES = 8 * 1024
"""Of the body of who has not signed in."""
JSON, GRAPHQL_RESPONSE = "application/json", "application/graphql-response+json"


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
        self._presences = Presences()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        answer = await self.answer(scope, receive, arrival.get().request_id)
        if answer is not None:
            await answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, id_: str) -> ASGIApp | None:
        """To the request of this id. What goes wrong is an answer, too; None: the client has left."""
        method, headers = scope["method"], RequestHeaders(scope)
        if method not in METHODS:
            allowed = (b"allow", ", ".join(METHODS).encode())
            return reply(405, f"use {' or '.join(METHODS)}\n".encode(), "text/plain", allowed)
        accepted, signin = _accepted(headers.first.get(b"accept", b"")), self._office.signin
        try:
            wished = wishes(headers)
            principal = signin.known(headers, method)
            if principal is None:
                with signing_in(self._office.settings.door, wished):
                    principal = await signin.principal(headers, method=method)
            operation = await _read(scope, headers, receive)
        except NothingShown as refused:
            return await self._public(refused, scope, headers, receive, id_, accepted.media_type)
        except SignInRefused as refused:
            return _not_let_in(refused, accepted.media_type)
        except BadRequest as refused:
            return _bad(refused, accepted.media_type)
        except BadWish as refused:
            return _bad(BadRequest(str(refused)), accepted.media_type)
        if operation is None:
            return None
        if accepted.events and (not accepted.json or self._subscriptions.subscribes(operation)):
            # Who asks is asked again: an answer that goes on needs to know when that changes.
            return EventStream(self._office, self._subscriptions, operation, id_, _not_let_in)
        presence = Presence(receive, self._presences)
        try:
            answer = await self._operations.run(operation, principal, id_, method == "GET", wished, presence)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not presence.gone or task is None or task.uncancel():
                raise  # it is not the client who left, or not only
            return None
        return _shown(answer, accepted.media_type, method)

    async def _public(
        self,
        refused: NothingShown,
        scope: Scope,
        headers: RequestHeaders,
        receive: Receive,
        id_: str,
        media_type: str,
    ) -> Reply | None:
        """The answer for who has shown no credentials; ``refused`` where there is none without."""
        method, answer = scope["method"], None
        with suppress(BadRequest):
            operation = await _read(scope, headers, receive, MAX_PUBLIC_BYTES)
            if operation is None:
                return None
            answer = await self._operations.run_public(operation, id_, only_query=method == "GET")
        return _not_let_in(refused, media_type) if answer is None else _shown(answer, media_type, method)


class _Accepted(msgspec.Struct, frozen=True):
    """What a client takes."""

    media_type: str
    """Of the answer, where it is one and not events."""
    events: bool
    json: bool
    """One answer, also where it takes events."""


@lru_cache(maxsize=64)
def _accepted(accept: bytes) -> _Accepted:
    by_media_type = GRAPHQL_RESPONSE.encode() in accept
    json = by_media_type or b"application/json" in accept or b"*/*" in accept
    return _Accepted(GRAPHQL_RESPONSE if by_media_type else JSON, EVENTS.encode() in accept, json)


def _shown(answer: Answer, media_type: str, method: str) -> Reply:
    if answer.refused is not None:
        return _not_let_in(answer.refused, media_type)
    body = encoded(answer.body)
    if not answer.available:
        return reply(503, body, media_type, _NOT_KEPT)
    status = 200 if answer.ran or media_type != GRAPHQL_RESPONSE else 400
    if method == "GET" and answer.kept is not None:
        return reply(status, body, media_type, *raw(answer.kept))
    return reply(status, body, media_type, _NOT_KEPT)


_NOT_KEPT = (b"cache-control", b"private, no-store")
"""An answer to GET with a cookie could otherwise be kept by what stands between, and given to the next caller."""


def _not_let_in(refused: SignInRefused, media_type: str = JSON) -> Reply:
    body = encoded({"errors": [{"message": str(refused), "extensions": refused.extensions}]})
    return reply(refused.status, body, media_type, *raw(challenge(refused)))


def _bad(refused: BadRequest, media_type: str) -> Reply:
    body = encoded({"errors": [{"message": str(refused), "extensions": {"code": refused.code}}]})
    return reply(refused.status, body, media_type)


async def _read(
    scope: Scope, headers: RequestHeaders, receive: Receive, most: int = MAX_BODY_BYTES
) -> Operation | None:
    """None: the client has left before its request was read."""
    if scope["method"] == "GET":
        return _from_query(QueryParams(scope["query_string"]))
    if headers.first.get(b"content-type") != b"application/json" and not _is_json(headers):
        raise BadRequest("send the operation as application/json", 415)
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            raise BadRequest(f"the request is larger than {most >> 10} kB", 413, "LIMIT_EXCEEDED")
        if not message.get("more_body", False):
            break
    try:
        return _operation.decode(body)
    except msgspec.ValidationError as error:
        if body.lstrip()[:1] == b"[":
            raise BadRequest("send one operation per request; a list of them is not taken") from error
        raise BadRequest(f"the request does not fit: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest("the request is not valid JSON") from error


def _is_json(headers: RequestHeaders) -> bool:
    content_type: str = headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _from_query(params: Mapping[str, str]) -> Operation:
    if "query" not in params:
        raise BadRequest("give the operation as the parameter query")
    objects = {name: _object(params, name) for name in ("variables", "extensions") if name in params}
    return Operation(params["query"], params.get("operationName"), **objects)


def _object(params: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(params[name], type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadRequest(f"{name} is not a JSON object") from error
