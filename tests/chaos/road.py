"""The road from the gateway to one vendor: TLS in front of its sandbox, where everything that can happen on a road does."""

import asyncio
import gzip
import re
import select
import socket
import ssl
import struct
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

from sources.sandbox.spoiling import HTML

Trouble = Literal["refused", "hang", "drip", "reset", "garbage", "cut gzip", "wrong length", "expired"]
"""Nobody listens; taken and never answered, neither connections nor requests; byte by byte; a reset in the middle of an
answer; a page of HTML and what is half of something, in turn; packed and cut off; Content-Length says more than comes and
less, in turn; a certificate that was good until yesterday."""

HALF = b'{"results":[{"id":"1","prop'

SECONDS_PER_BYTE = 0.25

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Road:
    """Listens on a port of its own from ``open`` on, and leads to ``leads_to`` once that is set."""

    def __init__(self, good: ssl.SSLContext, expired: ssl.SSLContext) -> None:
        self._certificates = {False: good, True: expired}
        self.leads_to = ""
        self.trouble: Trouble | None = None
        self.calls: list[str] = []
        """Paths asked for; "" for a connection that came no further."""
        self._owing: set[socket.socket] = set()
        self._turn = False
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._taking: asyncio.Task[None] | None = None
        # While nobody listens the port stays ours.
        self._held = _bound(0)
        self.port: int = self._held.getsockname()[1]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._connections)

    @property
    def busy(self) -> int:
        """Connections on which an answer is owed, or has never been given."""
        return len(self._owing)

    async def open(self) -> None:
        listening = _bound(self.port)
        listening.listen(512)
        listening.setblocking(False)
        self._taking = asyncio.create_task(self._take(listening), name="road")

    async def close(self) -> None:
        await self._refuse()
        self._held.close()

    async def begin(self, trouble: Trouble) -> None:
        self.trouble = trouble
        if trouble in ("refused", "expired"):
            await self._refuse()  # as when a server stops; another may start with another certificate
        if trouble == "expired":
            await self.open()

    async def end(self) -> None:
        """All is well again, but for what was under way."""
        was, self.trouble = self.trouble, None
        if was == "expired":
            await self._refuse()
        if was in ("refused", "expired"):
            await self.open()

    # -- connections ----------------------------------------------------------------------------------------------

    async def _refuse(self) -> None:
        tasks = list(self._connections)
        if self._taking is not None:
            tasks.append(self._taking)
            self._taking = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, listening: socket.socket) -> None:
        with listening:
            while True:
                taken, _ = await asyncio.get_running_loop().sock_accept(listening)
                task = asyncio.create_task(self._serve(taken), name="road")
                self._connections[task] = taken
                task.add_done_callback(lambda task: self._connections.pop(task, None))

    async def _serve(self, taken: socket.socket) -> None:
        self._owing.add(taken)
        try:
            with taken, suppress(OSError, asyncio.IncompleteReadError):
                if self.trouble in ("hang", "expired"):
                    self.calls.append("")
                if self.trouble == "hang":
                    await _until_left(taken)
                    return
                reader = asyncio.StreamReader()
                protocol = asyncio.StreamReaderProtocol(reader)
                loop = asyncio.get_running_loop()
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, taken, ssl=self._certificates[self.trouble == "expired"]
                )
                try:
                    await self._carry(taken, reader, asyncio.StreamWriter(transport, protocol, reader, loop))
                finally:
                    transport.abort()
        finally:
            self._owing.discard(taken)

    # -- requests -------------------------------------------------------------------------------------------------

    async def _carry(
        self, taken: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        vendor: Streams | None = None
        try:
            while True:
                request = await _message(reader)
                self._owing.add(taken)
                method, path = request[: request.index(b"\r\n")].decode("latin-1").split(" ")[:2]
                self.calls.append(path)
                if self.trouble == "hang":
                    await reader.read()
                    return
                if vendor is None:
                    there = urlsplit(self.leads_to)
                    vendor = await asyncio.open_connection(there.hostname, there.port)
                vendor[1].write(request)
                answer = await _message(vendor[0], bodiless=method == "HEAD")
                # The sandbox does not know that it is met over TLS.
                plain = b"http://127.0.0.1:%d" % self.port
                if plain in answer:
                    answer = _with_length(answer.replace(plain, self.url.encode()))
                if not await self._hand_over(answer, writer):
                    return
                self._owing.discard(taken)
        finally:
            if vendor is not None:
                vendor[1].transport.abort()

    async def _hand_over(self, answer: bytes, writer: asyncio.StreamWriter) -> bool:
        """May the connection be used again?"""
        head, _, body = answer.partition(b"\r\n\r\n")
        match self.trouble:
            case "drip":
                writer.write(head + b"\r\n\r\n")
                for byte in body:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(SECONDS_PER_BYTE)
                return True
            case "reset":
                writer.write(answer[: len(head) + 4 + len(body) // 2])
                await writer.drain()
                under = writer.get_extra_info("socket")
                under.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case "cut gzip":
                packed = gzip.compress(body)
                writer.write(
                    _with_length(head + b"\r\nContent-Encoding: gzip\r\n\r\n" + packed[: len(packed) // 2])
                )
                await writer.drain()
                return True
            case "garbage":
                self._turn = not self._turn
                writer.write(_with_length(head + b"\r\n\r\n" + (HTML if self._turn else HALF)))
                await writer.drain()
                return True
            case "wrong length":
                self._turn = not self._turn
                writer.write(_with_length(answer, more=64 if self._turn else -(len(body) // 2)))
                await writer.drain()
                if self._turn:
                    writer.close()
                    await writer.wait_closed()
                return not self._turn
            case _:
                writer.write(answer)
                await writer.drain()
                return True


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def _until_left(taken: socket.socket) -> None:
    poll = select.poll()
    poll.register(taken, select.POLLRDHUP)  # reading would not tell before what was said is read
    while not poll.poll(0):
        await asyncio.sleep(0.05)


async def _message(reader: asyncio.StreamReader, bodiless: bool = False) -> bytes:
    """A request or an answer, whole, with its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    if bodiless:
        return head
    if length := _LENGTH.search(head):
        return head + await reader.readexactly(int(length[1]))
    if b"chunked" not in head.lower():
        return head
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return _with_length(re.sub(rb"(?i)\r\ntransfer-encoding:[^\r]*", b"", head) + body)


_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def _with_length(message: bytes, more: int = 0) -> bytes:
    """With the length that its body has, or not quite."""
    head, _, body = message.partition(b"\r\n\r\n")
    return b"%s\r\nContent-Length: %d\r\n\r\n%s" % (_LENGTH.sub(b"", head), len(body) + more, body)
