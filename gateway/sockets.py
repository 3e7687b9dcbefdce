"""/graphql over WebSockets, by the protocol graphql-transport-ws
(https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md).

Strawberry's own handler for it executes by itself, with one context per socket; here every operation goes the way that it
goes over HTTP.
"""

import asyncio
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Annotated, Any

import msgspec
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.arrival import Arrival, arrival
from gateway.caller import Caller, Ended, staying
from gateway.limits import MAX_BODY_BYTES
from gateway.office import Office
from gateway.operations import Answer, Operation, encoded
from gateway.request_ids import new_id
from gateway.signin.refused import SignInRefused
from gateway.subscriptions import Subscriptions

SUBPROTOCOL = "graphql-transport-ws"

INIT_SECONDS = 3.0
"""For the first message."""
SEND_SECONDS = 10.0
"""For a client to take one message; who reads slower than that is let go."""
CLOSE_SECONDS = 1.0

_CODES = {401: 4401, 429: 4429, 503: 1013}
"""What a refusal by HTTP's status is as a socket's; any other is 4403."""

log = structlog.get_logger()


class _Init(msgspec.Struct, frozen=True, tag_field="type", tag="connection_init"):
    payload: dict[str, Any] | None = None


class _Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    payload: dict[str, Any] | None = None


class _Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    payload: dict[str, Any] | None = None


class _Subscribe(msgspec.Struct, frozen=True, tag_field="type", tag="subscribe"):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    payload: Operation


class _Complete(msgspec.Struct, frozen=True, tag_field="type", tag="complete"):
    id: str


_message = msgspec.json.Decoder(_Init | _Ping | _Pong | _Subscribe | _Complete)

_STANDS_FOR = {
    "authorization": "authorization",
    "organisation": "x-organisation",
    "x-organisation": "x-organisation",
    "viewas": "x-view-as",
    "x-view-as": "x-view-as",
}
"""What the first message may say, whatever its capitals, and the header of a request that would say the same."""


class GraphQLSocket:
    """An ASGI application for WebSockets."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._subscriptions = Subscriptions(office)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until either side has closed the socket; nothing of it is left running then."""
        socket = WebSocket(scope, receive, send)
        if SUBPROTOCOL not in scope["subprotocols"]:
            await socket.accept()
            await socket.close(4406, "Subprotocol not acceptable")
            return
        await socket.accept(SUBPROTOCOL)
        with self._office.requests.staying("websocket"):
            async with aclosing(_Connection(socket, self._office, self._subscriptions)) as connection:
                await connection.run()


class _Connection:
    """One socket."""

    def __init__(self, socket: WebSocket, office: Office, subscriptions: Subscriptions) -> None:
        self._socket, self._office, self._subscriptions = socket, office, subscriptions
        self._caller: Caller | None = None
        self._stay = AsyncExitStack()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        """What ends it; None: the client has gone."""
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Until it ends."""
        late = asyncio.get_running_loop().call_later(
            INIT_SECONDS, self._end, Ended(4408, "Connection initialisation timeout")
        )
        self._start(self._read(late), "socket-read")
        try:
            ended = await self._ended
        finally:
            late.cancel()
        await self.aclose()
        if ended is not None:
            with suppress(TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._socket.close(ended.code, _reason(ended.reason))

    async def aclose(self) -> None:
        """Ends all that runs for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stay.aclose()

    def _start(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _end(self, ended: Ended | None) -> None:
        if not self._ended.done():
            self._ended.set_result(ended)

    # -- from the client ----------------------------------------------------------------------------------------

    async def _read(self, late: asyncio.TimerHandle) -> None:
        """One message after the other: the next one is taken when this one is dealt with."""
        try:
            initialised = False
            while True:
                event = await self._socket.receive()
                if event["type"] == "websocket.disconnect":
                    return self._end(None)
                text = event.get("text")
                if text is None:
                    return self._end(Ended(4400, "send text, not bytes"))
                if len(text) > MAX_BODY_BYTES:
                    return self._end(Ended(1009, f"a message is larger than {MAX_BODY_BYTES >> 10} kB"))
                try:
                    message = _message.decode(text)
                except (msgspec.DecodeError, ValueError, RecursionError):
                    return self._end(Ended(4400, "the message is none of graphql-transport-ws"))
                if isinstance(message, _Init):
                    if initialised:
                        return self._end(Ended(4429, "Too many initialisation requests"))
                    late.cancel()
                    initialised = True
                    await self._init(message)
                else:
                    await self._take(message)
        except Exception as error:
            log.error("socket_failed", exc_info=error)
            self._end(Ended(1011, "internal error"))

    async def _init(self, message: _Init) -> None:
        try:
            # A socket begins with GET, which is what rules about methods know.
            self._caller = await self._stay.enter_async_context(
                staying(self._office, self._headers(message.payload or {}), "GET")
            )
        except SignInRefused as refused:
            return self._end(_ended(refused))
        self._start(self._watch(self._caller), "socket-watch")
        await self._send({"type": "connection_ack"})

    def _headers(self, payload: dict[str, Any]) -> Headers:
        """The handshake's, with what the first message says in their place."""
        headers = MutableHeaders(raw=[(name, value) for name, value in self._socket.headers.raw])
        for key, value in payload.items():
            header = _STANDS_FOR.get(key.lower())
            if header is None or value is None:
                continue
            if not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise SignInRefused(f"{key} of connection_init is no text", status=400, code="BAD_USER_INPUT")
            headers[header] = value
        return headers

    async def _watch(self, caller: Caller) -> None:
        try:
            self._end(await caller.watch())
        except Exception as error:
            # Whoever is not watched any more must not stay.
            log.error("socket_not_watched", exc_info=error)
            self._end(Ended(1011, "internal error"))

    async def _take(self, message: _Ping | _Pong | _Subscribe | _Complete) -> None:
        if isinstance(message, _Ping):
            payload = {} if message.payload is None else {"payload": message.payload}
            await self._send({"type": "pong", **payload})
        elif isinstance(message, _Complete):
            if task := self._running.pop(message.id, None):
                task.cancel()
        elif isinstance(message, _Subscribe):
            await self._subscribe(message)

    async def _subscribe(self, message: _Subscribe) -> None:
        most = self._office.settings.subscriptions.operations
        if self._caller is None:
            self._end(Ended(4401, "Unauthorized"))
        elif message.id in self._running:
            self._end(Ended(4409, f"Subscriber for {message.id} already exists"))
        elif len(self._tasks) - 2 >= most:
            # Also those that the client has let go and that have not ended yet.
            error = {
                "message": f"at most {most} operations at a time on one socket",
                "extensions": {"code": "LIMIT_EXCEEDED"},
            }
            await self._send({"id": message.id, "type": "error", "payload": [error]})
        elif await self._may(self._caller):
            self._running[message.id] = self._start(self._run(message, self._caller), "socket-operation")

    async def _may(self, caller: Caller) -> bool:
        try:
            await caller.act()
        except SignInRefused as refused:
            self._end(_ended(refused))
            return False
        return True

    # -- to the client ------------------------------------------------------------------------------------------

    async def _run(self, message: _Subscribe, caller: Caller) -> None:
        request_id = new_id()
        arrival.set(Arrival(arrival.get().client, request_id, stays=True))  # in this task's own context
        try:
            stream = self._subscriptions.stream(message.payload, caller, request_id, only_query=False)
            async with aclosing(stream) as answers:
                async for answer in answers:
                    if not answer.ran:
                        return await self._last(message.id, _refused(message.id, answer))
                    await self._send({"id": message.id, "type": "next", "payload": answer.body})
            await self._last(message.id, {"id": message.id, "type": "complete"})
        except Exception as error:
            log.error("socket_operation_failed", exc_info=error)
            self._end(Ended(1011, "internal error"))

    async def _last(self, id_: str, message: dict[str, Any]) -> None:
        """From now on the client may use the id again."""
        if self._running.get(id_) is asyncio.current_task():
            del self._running[id_]
            await self._send(message)

    async def _send(self, message: dict[str, Any]) -> None:
        """Waits until the client has taken most of what was sent before: its slowness is ours, not memory's."""
        try:
            async with self._sending, asyncio.timeout(SEND_SECONDS):
                await self._socket.send_text(encoded(message).decode())
        except TimeoutError:
            self._end(Ended(1008, "the client reads too slowly"))
        except (WebSocketDisconnect, OSError):
            self._end(None)


def _refused(id_: str, answer: Answer) -> dict[str, Any]:
    return {"id": id_, "type": "error", "payload": answer.body["errors"]}


def _ended(refused: SignInRefused) -> Ended:
    return Ended(_CODES.get(refused.status, 4403), str(refused))


def _reason(text: str) -> str:
    """A close frame holds 123 bytes of it (RFC 6455, 5.5)."""
    return text.encode()[:123].decode(errors="ignore")
