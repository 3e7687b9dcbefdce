"""/graphql as server-sent events, by graphql-sse's distinct connections mode
(https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md): one operation, its answers, the end."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.caller import Caller, Ended, staying
from gateway.office import Office
from gateway.operations import Operation, encoded
from gateway.signin.refused import SignInRefused
from gateway.subscriptions import Subscriptions

MEDIA_TYPE = "text/event-stream"

SILENT_SECONDS = 12.0
"""How often a comment is sent, so that what is between keeps a silent connection open."""
SEND_SECONDS = 10.0
"""For a client to take one event; who reads slower than that is let go."""

_COMPLETE = b"event: complete\ndata: \n\n"

_CODES = {4401: "UNAUTHENTICATED", 4403: "FORBIDDEN"}

log = structlog.get_logger()


class EventStream:
    """An ASGI application for one request, whose operation is read. ``refusal`` is the answer when the caller may not
    stay for it."""

    def __init__(
        self,
        office: Office,
        subscriptions: Subscriptions,
        operation: Operation,
        request_id: str,
        refusal: Callable[[SignInRefused], ASGIApp],
    ) -> None:
        self._office, self._subscriptions, self._operation = office, subscriptions, operation
        self._request_id, self._refusal = request_id, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the operation has ended, the client has gone or the caller may not stay."""
        async with AsyncExitStack() as stack:
            try:
                caller = await stack.enter_async_context(
                    staying(self._office, Headers(scope=scope), scope["method"])
                )
            except SignInRefused as refused:
                return await self._refusal(refused)(scope, receive, send)
            with self._office.requests.staying("event-stream"):
                await self._run(caller, receive, _Output(send), only_query=scope["method"] == "GET")

    async def _run(self, caller: Caller, receive: Receive, output: "_Output", *, only_query: bool) -> None:
        await output.begin()
        telling = asyncio.create_task(self._tell(caller, output, only_query), name="event-stream")
        watching = asyncio.create_task(caller.watch(), name="event-stream-watch")
        others = [
            asyncio.create_task(_gone(receive), name="event-stream-client"),
            asyncio.create_task(_breathe(output), name="event-stream-silence"),
        ]
        tasks: list[asyncio.Task[Any]] = [telling, watching, *others]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done = {task for task in tasks if task.done()}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if error := task.exception():
                if not isinstance(error, OSError | TimeoutError):
                    log.error("event_stream_failed", exc_info=error)
                # Not ended as it should be, so that the client does not take it for the whole.
                return
        if watching in done and telling not in done:
            await output.write(_event(_refused(watching.result())) + _COMPLETE)
        if watching in done or telling in done:
            await output.end()

    async def _tell(self, caller: Caller, output: "_Output", only_query: bool) -> None:
        stream = self._subscriptions.stream(self._operation, caller, self._request_id, only_query=only_query)
        async with aclosing(stream) as answers:
            async for answer in answers:
                await output.write(_event(answer.body))
        await output.write(_COMPLETE)


class _Output:
    """What the client reads, one event after the other."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sending = asyncio.Lock()

    async def begin(self) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            # nginx would collect events until its buffer is full.
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._chunk(b"", more=True)

    async def write(self, chunk: bytes) -> None:
        """Waits until the client has taken most of what was written before. Raises TimeoutError when it does not."""
        await self._chunk(chunk, more=True)

    async def end(self) -> None:
        with suppress(TimeoutError, OSError):
            await self._chunk(b"", more=False)

    async def _chunk(self, chunk: bytes, *, more: bool) -> None:
        async with self._sending, asyncio.timeout(SEND_SECONDS):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _breathe(output: _Output) -> None:
    while True:
        await asyncio.sleep(SILENT_SECONDS)
        await output.write(b":\n\n")


def _event(body: dict[str, Any]) -> bytes:
    return b"event: next\ndata: " + encoded(body) + b"\n\n"


def _refused(ended: Ended) -> dict[str, Any]:
    code = _CODES.get(ended.code, "SOURCE_UNAVAILABLE")
    return {"errors": [{"message": ended.reason, "extensions": {"code": code}}]}
