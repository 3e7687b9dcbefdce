"""What every emulator stands on: a vendor's routes behind a request log, rate limits and faults, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sources.sandbox.allowance import Allowance, Limit, OverLimit, RateLimits, by_header, everyone
from sources.sandbox.faults import Fault, Faults
from sources.sandbox.recording import Call, RequestLog
from sources.sandbox.spoiling import answer_spoiled

__all__ = [
    "Allowance",
    "Call",
    "Certificate",
    "Fault",
    "Faults",
    "Limit",
    "OverLimit",
    "RateLimits",
    "RequestLog",
    "Running",
    "Sandbox",
    "ServerThread",
    "by_header",
    "everyone",
    "serve",
]

CONTROL = "/_sandbox/"

_IDLE = 75
"""Seconds that an idle connection stays open, as vendors' front ends keep it: longer than our client reuses one."""

_LAST_WORDS = 1
"""Seconds a vendor's route gets to notice that its client is gone when the server stops; then it is cancelled."""

_Headers = Callable[[Scope, Sequence[Allowance]], Mapping[str, str]]


def _refused(over: OverLimit) -> Response:
    headers = {} if over.retry_after is None else {"Retry-After": str(max(1, round(over.retry_after)))}
    return JSONResponse({"error": "rate limited"}, 429, headers)


def _failed(status: int) -> Response:
    return JSONResponse({"error": "sandbox fault"}, status)


class Sandbox:
    """A vendor's API on loopback. The request's way: log, rate limits, faults, the vendor's routes.

    `over_limit` and `failure` answer in the vendor's own error forms. `allowance_headers` adds what the vendor
    tells about the remaining allowance to every answer that passed the limits. `exception_handlers` is
    Starlette's, for the vendor's own 404 and 405.
    """

    def __init__(
        self,
        name: str,
        routes: Sequence[BaseRoute],
        *,
        limits: Sequence[Limit] = (),
        over_limit: Callable[[OverLimit], Response] = _refused,
        failure: Callable[[int], Response] = _failed,
        allowance_headers: _Headers | None = None,
        exception_handlers: Mapping[Any, Any] | None = None,
        record_bodies: bool = False,
    ) -> None:
        self.name = name
        self.log = RequestLog(record_bodies)
        self.faults = Faults()
        self.limits = RateLimits(limits)
        self._over_limit = over_limit
        self._failure = failure
        self._allowance_headers = allowance_headers
        self._vendor: ASGIApp = Starlette(routes=list(routes), exception_handlers=exception_handlers)
        self._control: ASGIApp = Starlette(routes=_control_routes(self))
        self.hang_up: list[Callable[[Scope], bool]] = []
        """How the servers that run this sandbox cut a request's connection."""

    @property
    def app(self) -> ASGIApp:
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._vendor(scope, receive, send)
        elif scope["path"].startswith(CONTROL):
            await self._control(scope, receive, send)
        else:
            await self._recorded(scope, receive, send)

    async def _recorded(self, scope: Scope, receive: Receive, send: Send) -> None:
        log, call = self.log, self.log.start(scope)
        try:
            body = await _whole_body(receive)
            log.request_body(call, body)

            async def logged(message: Message) -> None:
                if message["type"] == "http.response.start":
                    log.response_start(call, message["status"], message.get("headers", ()))
                else:
                    log.response_body(call, message.get("body", b""))
                if not message.get("more_body", message["type"] == "http.response.start"):
                    call.finish()
                await send(message)

            await self._limited(scope, _replay(body, receive), logged)
        finally:
            if call.seconds is None:
                call.finish()

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        over, slots, standing = self.limits.enter(scope)
        if over is not None:
            await self._over_limit(over)(scope, receive, send)
            return
        try:
            if self._allowance_headers is not None:
                send = _with_headers(send, self._allowance_headers(scope, standing))
            await self._faulty(scope, receive, send)
        finally:
            self.limits.leave(slots)

    async def _faulty(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = self.faults.take(scope["method"], scope["path"])
        if taken is None:
            await self._vendor(scope, receive, send)
            return
        fault, generation = taken
        match fault.kind:
            case "fail":
                await self._failure(fault.status)(scope, receive, send)
            case "rate_limit":
                await self._over_limit(OverLimit(None, fault.retry_after))(scope, receive, send)
            case "garbage":
                await Response(b'{"results":[{"id":"1","prop', 200, None, "application/json")(
                    scope, receive, send
                )
            case (
                "html"
                | "truncated"
                | "nested"
                | "malformed_row"
                | "malformed_rows"
                | "missing_id"
                | "duplicate_row"
            ):
                await answer_spoiled(self._vendor, fault.kind, scope, receive, send)
            case "drop":
                await self._drop(scope, receive)
            case "slow" | "hang":
                first = await receive()
                body = first.get("body", b"")
                seconds = fault.seconds if fault.kind == "slow" else None
                if await self._still_there(receive, generation, seconds):
                    await self._vendor(scope, _replay(body, receive), send)

    async def _still_there(self, receive: Receive, generation: int, seconds: float | None) -> bool:
        """Holds the request back; False once the client has left."""
        left = asyncio.ensure_future(receive())
        held = asyncio.ensure_future(self.faults.held(generation, seconds))
        try:
            await asyncio.wait({left, held}, return_when=asyncio.FIRST_COMPLETED)
            return not left.done()
        finally:
            for task in (left, held):
                task.cancel()
            await asyncio.gather(left, held, return_exceptions=True)

    async def _drop(self, scope: Scope, receive: Receive) -> None:
        if not any(hang_up(scope) for hang_up in list(self.hang_up)):
            raise ConnectionAbortedError(f"{self.name}: drop needs serve() or ServerThread")
        while (await receive())["type"] != "http.disconnect":
            pass


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files for TLS."""

    certfile: str | Path
    keyfile: str | Path


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    """Without a slash at the end."""
    port: int


@asynccontextmanager
async def serve(sandbox: Sandbox, port: int = 0, ssl: Certificate | None = None) -> AsyncIterator[Running]:
    """On 127.0.0.1 in the running loop; port 0 takes a free one. Stops promptly even while requests hang."""
    listening = _listening(port)
    server = _Server(sandbox, ssl)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        await server.up(serving)
        yield _running(listening, ssl)
    finally:
        server.leave()
        await serving


class ServerThread:
    """The same in a thread with a loop of its own, for clients that block: `with ServerThread(crm) as running`."""

    def __init__(self, sandbox: Sandbox, port: int = 0, ssl: Certificate | None = None) -> None:
        self._sandbox, self._port, self._ssl = sandbox, port, ssl
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] | None = None
        self._failure: BaseException | None = None

    def start(self) -> Running:
        """Returns once it answers. Raises what kept it from starting."""
        if self._thread is not None:
            raise RuntimeError(f"{self._sandbox.name}: already started")
        listening = _listening(self._port)
        running = _running(listening, self._ssl)
        ready = threading.Event()
        self._failure = None
        self._thread = threading.Thread(
            target=self._run, args=(listening, ready), name=f"sandbox-{self._sandbox.name}", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure
        return running

    def stop(self) -> None:
        """Returns once the port is free again; without effect where it does not run."""
        if self._thread is not None and self._stop is not None:
            self._stop()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Running:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, listening: socket.socket, ready: threading.Event) -> None:
        async def run() -> None:
            server = _Server(self._sandbox, self._ssl)
            loop = asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(server.leave)
            serving = asyncio.create_task(server.serve([listening]))
            await server.up(serving)
            ready.set()
            await serving

        try:
            asyncio.run(run())
        except BaseException as problem:  # start() raises it in the thread that asked
            self._failure = problem
        finally:
            ready.set()


class _Server(uvicorn.Server):
    """uvicorn, except that it leaves signals alone, says when it is up and stops without waiting for clients."""

    def __init__(self, sandbox: Sandbox, ssl: Certificate | None) -> None:
        super().__init__(
            uvicorn.Config(
                sandbox.app,
                timeout_keep_alive=_IDLE,
                lifespan="off",
                http="httptools",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_LAST_WORDS,
                ssl_certfile=ssl.certfile if ssl else None,
                ssl_keyfile=ssl.keyfile if ssl else None,
            )
        )
        self._sandbox = sandbox
        self._up = asyncio.Event()
        self._leaving = asyncio.Event()

    async def up(self, serving: asyncio.Task[None]) -> None:
        """Once it answers; raises what ended `serving` before that."""
        waiting = asyncio.ensure_future(self._up.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            await serving
            raise RuntimeError(f"{self._sandbox.name}: the sandbox ended while it started")

    def leave(self) -> None:
        """In its own loop only. Open connections are cut: whoever hangs on one would hold everybody up."""
        self.should_exit = True
        self._leaving.set()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def hang_up(self, scope: Scope) -> bool:
        """Cuts the connection that this request came by; False where it came by another server."""
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == scope["client"]:
                connection.transport.abort()
                return True
        return False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sandbox.hang_up.append(self.hang_up)
        self._up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.hang_up.remove(self.hang_up)
        await super().shutdown(sockets)

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it should exit; its tick is needed once a second, for the date.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._leaving.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listening(port: int) -> socket.socket:
    # asyncio sends without delay only where a socket says that it is TCP; else each answer waits 40 ms for an ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        # From here on a client may connect; it is answered once the server is up.
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening


def _running(listening: socket.socket, ssl: Certificate | None) -> Running:
    port = listening.getsockname()[1]
    return Running(f"{'https' if ssl else 'http'}://127.0.0.1:{port}", port)


async def _whole_body(receive: Receive) -> bytes:
    """Everything the client sent; what there was where it left half way."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever comes next."""
    replayed = False

    async def replaying() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending


def _control_routes(sandbox: Sandbox) -> list[BaseRoute]:
    """Plain HTTP so that a demo's user can pull the strings with curl."""

    async def health(_: Request) -> Response:
        return JSONResponse({"sandbox": sandbox.name, "status": "ok"})

    async def fault(request: Request) -> Response:
        if request.method == "DELETE":
            sandbox.faults.clear()
        elif request.method == "POST":
            try:
                sandbox.faults.put(Fault.from_json(await request.json()))
            except ValueError as problem:
                return JSONResponse({"error": str(problem)}, 400)
        return JSONResponse({"faults": [asdict(active) for active in sandbox.faults.active()]})

    async def requests(request: Request) -> Response:
        if request.method == "DELETE":
            sandbox.log.clear()
        calls = sandbox.log.calls(request.query_params.get("method"), request.query_params.get("path_prefix"))
        return JSONResponse({"count": len(calls), "requests": [_call_shown(call) for call in calls]})

    async def rate_limits(request: Request) -> Response:
        if request.method == "POST":
            try:
                sandbox.limits.set_from_json(await request.json())
            except ValueError as problem:
                return JSONResponse({"error": str(problem)}, 400)
        return JSONResponse({"limits": [_limit_shown(limit) for limit in sandbox.limits.limits()]})

    return [
        Route(CONTROL + "health", health),
        Route(CONTROL + "fault", fault, methods=["GET", "POST", "DELETE"]),
        Route(CONTROL + "requests", requests, methods=["GET", "DELETE"]),
        Route(CONTROL + "rate_limits", rate_limits, methods=["GET", "POST"]),
    ]


def _call_shown(call: Call) -> dict[str, object]:
    return {
        "order": call.order,
        "method": call.method,
        "path": call.path,
        "query": call.query,
        "status": call.status,
        "seconds": call.seconds,
    }


def _limit_shown(limit: Limit) -> dict[str, object]:
    return {
        "name": limit.name,
        "calls": limit.calls,
        "seconds": limit.seconds,
        "concurrent": limit.concurrent,
    }
