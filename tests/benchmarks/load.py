"""The client: an exact number of requests over a few kept-alive connections, each of which asks again when answered."""

import asyncio
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

MOST_SECONDS = 300
"""For one run, whatever was asked for."""


class Refused(Exception):
    """An answer that is not a page of data."""


def request(body: bytes, token: str) -> bytes:
    """A POST of this body to /graphql, ready to be written."""
    return (
        b"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        % (token.encode(), len(body), body)
    )


async def ask(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """The bodies of the answers, asked one after the other. Raises Refused."""
    run = _Run(iter(requests), len(requests))
    await run.over(port, 1)
    return run.bodies


async def drive(port: int, requests: Sequence[bytes], count: int, connections: int) -> float:
    """Asks the requests in turn until ``count`` are answered; how many seconds it took. Raises Refused."""
    loop = asyncio.get_running_loop()
    run = _Run(itertools.cycle(requests), count, keep=False)
    started = loop.time()
    await run.over(port, connections)
    return loop.time() - started


class _Run:
    def __init__(self, requests: Iterator[bytes], count: int, keep: bool = True) -> None:
        self._requests, self._left, self._awaited = requests, count, count
        self._keep = keep
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.bodies: list[bytes] = []

    async def over(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
            for _ in range(connections)
        ]
        try:
            for _, connection in opened:
                connection.send_next()
            async with asyncio.timeout(MOST_SECONDS):
                await self._done
        except TimeoutError as error:
            raise Refused(f"{self._awaited} requests unanswered after {MOST_SECONDS} s") from error
        finally:
            for transport, _ in opened:
                transport.close()

    def next(self) -> bytes | None:
        """None once all have been asked."""
        if not self._left:
            return None
        self._left -= 1
        return next(self._requests)

    def answered(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200") or b'"errors"' in body[-2000:] or b'"errors"' in body[:2000]:
            self.failed(f"{head[:40]!r} {body[:400]!r}")
            return
        if self._keep:
            self.bodies.append(body)
        self._awaited -= 1
        if not self._awaited and not self._done.done():
            self._done.set_result(None)

    def failed(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(Refused(why))


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parts: list[bytes] = []
        self._missing = 0
        self._head = b""
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclass

    def send_next(self) -> None:
        following = self._run.next()
        self._asked = following is not None
        if following is not None:
            self._transport.write(following)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            together = b"".join([*self._parts, data])
            end = together.find(b"\r\n\r\n")
            if end < 0:
                self._parts = [together]
                return
            self._head, data = together[:end], together[end + 4 :]
            length = _LENGTH.search(self._head)
            if length is None:
                self._run.failed(f"no content-length: {self._head[:200]!r}")
                return
            self._parts, self._missing = [], int(length[1])
        self._parts.append(data)
        self._missing -= len(data)
        if not self._missing:
            body, self._parts = b"".join(self._parts), []
            self._run.answered(self._head, body)
            self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        # One that has nothing more to ask may be closed while others still wait: servers do so after some seconds.
        if self._asked:
            self._run.failed(f"the server closed the connection ({error})")


async def get(url: str) -> bytes:
    """A GET over a connection of its own, for counters and keys. Raises Refused."""
    host, _, path = url.removeprefix("http://").partition("/")
    return await _once(host, f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


async def token(issuer: str, persona: str) -> str:
    """An access token of the demo's issuer. Raises Refused."""
    host, body = issuer.removeprefix("http://"), msgspec.json.encode({"persona": persona})
    head = f"POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = await _once(host, head.encode() + body)
    return str(msgspec.json.decode(answer)["accessToken"])


async def _once(host: str, message: bytes) -> bytes:
    address, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    try:
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or not head.startswith(b"HTTP/1.1 200"):
            raise Refused(repr(head[:200]))
        return await reader.readexactly(int(length[1]))
    finally:
        writer.close()
