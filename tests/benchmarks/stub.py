"""The vendors and the issuer in one process: what their sandboxes answer, remembered byte for byte.

A request that was seen before costs a look into a dict, so that this is never the bottleneck; a new one is answered by
the sandbox itself, which checks credentials, signature and query as ever. Run as ``python -m tests.benchmarks.stub``: prints
the addresses as one line of JSON and ends with its standard input. ``GET /_stats`` on any port counts requests by
vendor, and the vendors' different requests in all; ``/_reset`` sets the counts to 0.
"""

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from typing import cast
from urllib.parse import unquote

import uvloop
from starlette.types import ASGIApp, Message

from gateway.demo_issuer import DemoIssuer, DemoPersona
from sources.sandbox.world import World
from tests.benchmarks.company import company
from tests.benchmarks.workload import SYSTEMS

STAFF = "admin"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEPT = (200, 207)


def organisation(index: int) -> str:
    """The id of an account's organisation, and of its owner at the issuer."""
    return f"customer-{index}"


class Front:
    """One vendor's counter, memory and sandbox."""

    def __init__(self, app: ASGIApp) -> None:
        self.calls = 0
        self.answers: dict[tuple[bytes, bytes], bytes] = {}
        self._app = app

    async def answer(self, head: bytes, body: bytes) -> bytes:
        """The sandbox's own. Kept when it is a success: headers differ (signatures, moments), what is asked does not."""
        line, *fields = head.split(b"\r\n")
        method, target, _ = line.split(b" ", 2)
        path, _, query = target.partition(b"?")
        headers = [(name.lower(), value.strip()) for name, _, value in (f.partition(b":") for f in fields)]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method.decode(),
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, content = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
        lines = [b"HTTP/1.1 %d OK" % start["status"], b"content-length: %d" % len(content)]
        lines += [b"%b: %b" % (k, v) for k, v in start["headers"] if k.lower() not in _HOP_BY_HOP]
        answer = b"\r\n".join([*lines, b"", content])
        if start["status"] in _KEPT:
            self.answers[line, body] = answer
        else:
            print(f"{line.decode()}: {start['status']} {content[:300].decode()}", file=sys.stderr, flush=True)
        return answer


_HOP_BY_HOP = (b"content-length", b"transfer-encoding", b"connection")


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as the contenders speak it: keep-alive, bodies with a length."""

    def __init__(self, front: Front, fronts: Mapping[str, Front]) -> None:
        self._front, self._fronts = front, fronts
        self._received = b""
        self._asking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclass

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        while self._received and self._asking is None:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._received[:end]
            length = _LENGTH.search(head) if head[:4] != b"GET " else None
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < stop:
                return
            body = self._received[end + 4 : stop]
            self._received = self._received[stop:]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        line = head[: head.find(b"\r\n")]
        if line.startswith(b"GET /_"):
            self._transport.write(self._control(line))
            return
        self._front.calls += 1
        answer = self._front.answers.get((line, body))
        if answer is not None:
            self._transport.write(answer)
        else:
            self._asking = asyncio.create_task(self._ask(head, body))

    async def _ask(self, head: bytes, body: bytes) -> None:
        try:
            self._transport.write(await self._front.answer(head, body))
        finally:
            self._asking = None
        self.data_received(b"")

    def _control(self, line: bytes) -> bytes:
        if line.startswith(b"GET /_reset "):
            for front in self._fronts.values():
                front.calls = 0
        counts = {name: front.calls for name, front in self._fronts.items()}
        different = sum(len(front.answers) for name, front in self._fronts.items() if name != "issuer")
        content = json.dumps({"calls": counts, "different": different}).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(content),
            content,
        )


async def serve(issuer: DemoIssuer, apps: Mapping[str, ASGIApp]) -> None:
    """The issuer and the rest, each on a port of its own, until standard input ends."""
    loop = asyncio.get_running_loop()
    fronts = {name: Front(app) for name, app in {"issuer": issuer.app, **apps}.items()}
    urls = {}
    for name, front in fronts.items():
        server = await loop.create_server(
            lambda front=front: Connection(front, fronts),  # type: ignore[misc]
            "127.0.0.1",
            0,
            backlog=512,
        )
        urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    issuer.url = urls["issuer"]
    print(json.dumps(urls), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def staff() -> DemoPersona:
    """Who may see everything."""
    return DemoPersona(STAFF, "Ada Admin", "admin@firm.example", "admin", None, "")


def _issuer(world: World) -> DemoIssuer:
    owners = [
        DemoPersona(
            organisation(a.index), a.crm_name, f"owner@{a.domain}", "owner", organisation(a.index), ""
        )
        for a in world.accounts
    ]
    return DemoIssuer([*owners, staff()])


def _sandboxes(world: World) -> dict[str, ASGIApp]:
    apps: dict[str, ASGIApp] = {}
    for row in SYSTEMS:
        sandbox = row.sandbox.sandbox(world)
        for limit in sandbox.limits.limits():
            sandbox.limits.set(limit.name)
        apps[row.vendor] = sandbox.app
    return apps


if __name__ == "__main__":
    world = company()
    uvloop.run(serve(_issuer(world), _sandboxes(world)))
