"""Connections to one host, kept for the next call: libcurl's, driven by the event loop of whoever calls.

Names are looked up here, not by libcurl: a call that ends early would wait for libcurl's look-up to end, and everybody else
with it (curl issue 8515).
"""

import asyncio
import socket
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from select import POLLIN, poll
from typing import Any
from urllib.parse import urlsplit

import pycurl

from sources.transport.addresses import Addresses, AddressNotAllowed

KEPT_SECONDS = 30
"""An idle connection that is older is not used again: the other side may be about to close it."""

LOOKED_UP_SECONDS = 30.0
"""For so long a host's addresses are believed; then they are asked for again, while calls go on."""

RETRIED_SECONDS = 1.0
"""Until they are asked for again where that has failed."""

_PART_BYTES = 64 * 1024
"""A body comes in parts of at most so many."""

_UNASKED = [b"Expect:", b"Content-Type:"]
"""What libcurl would send of its own accord where nothing else is said."""


class NoAnswer(Exception):
    """None that can be used. The text is of the kind of failure and tells nothing of the call."""


class NotReached(NoAnswer):
    """The host did not answer."""


class BrokenOff(NoAnswer):
    """The answer had begun, and did not end as it should."""


class TooLarge(NoAnswer):
    """The answer is larger than may be."""


class Headers(Mapping[str, str]):
    """Of an answer, by their names in lower case; the first of each name. Read when they are asked for: mostly one or two."""

    __slots__ = ("_lower", "_text")

    def __init__(self, head: bytes) -> None:
        """``head``: status line and headers as they came, those of interim answers before them."""
        text = head.decode("latin-1")
        last = text.rfind("\nHTTP/")
        self._text = text[last + 1 :] if last != -1 else text
        self._lower = self._text.lower()

    def __getitem__(self, name: str) -> str:
        start = self._lower.find(f"\n{name}:")
        if start == -1:
            raise KeyError(name)
        start += len(name) + 2
        return self._text[start : self._text.index("\n", start)].strip()

    def __iter__(self) -> Iterator[str]:
        return iter(
            dict.fromkeys(line.partition(":")[0] for line in self._lower.split("\r\n")[1:] if ":" in line)
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Connections:
    """HTTP/1.1 to one scheme, host and port. Never follows a redirect, keeps no cookies, unpacks nothing, knows of no proxy,
    and asks only addresses that are allowed."""

    def __init__(self, origin: str, addresses: Addresses, most_bytes: int) -> None:
        """``origin``: scheme and authority, as URLs begin. ``most_bytes``: of a body, as it comes over the line."""
        parted = urlsplit(origin)
        self._host = parted.hostname or ""
        self._port = parted.port or (443 if parted.scheme == "https" else 80)
        self._addresses, self._most_bytes = addresses, most_bytes
        self._idle: dict[str, deque[_Line]] = defaultdict(deque)
        """By method: most of what a line is told stays the same."""
        self._named = not _is_address(self._host)
        self._pinned: str | None = None
        """The host's addresses, in libcurl's words."""
        self._pinned_until = 0.0
        self._unknown: Exception = NotReached()
        """Why there are none."""
        self._looking: asyncio.Task[None] | None = None
        self._time = asyncio.get_running_loop().time

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, anew: bool = False
    ) -> tuple[int, Headers, bytes]:
        """Status, headers by their names in lower case (the first of each), body. ``url`` begins with the origin.
        ``anew``: by a connection of its own, so that it is sent once and no more: what was sent by a kept one that turns out
        closed is sent again.

        Raises NotReached, BrokenOff, TooLarge, AddressNotAllowed; ValueError for a header of several lines. Ending it early
        closes its connection.
        """
        if self._named:
            await self._look_up()
        idle = self._idle[method]
        line = idle.pop() if idle else _Line(method, self._addresses, self._most_bytes)
        try:
            line.prepare(url, headers, body, self._pinned, anew)
            answer = await line.exchange()
        except BaseException:
            await line.close()
            raise
        now = line.idle_since = self._time()
        while idle and idle[0].idle_since < now - KEPT_SECONDS:
            await idle.popleft().close()
        idle.append(line)
        return answer

    async def close(self) -> None:
        """Closes what is idle."""
        if self._looking is not None:
            self._looking.cancel()
        for idle in self._idle.values():
            while idle:
                await idle.pop().close()

    async def _look_up(self) -> None:
        if self._looking is None and self._time() >= self._pinned_until:
            self._looking = asyncio.create_task(self._pin())
        if self._pinned is None:
            if self._looking is not None:
                await asyncio.shield(self._looking)
            if self._pinned is None:
                raise self._unknown

    async def _pin(self) -> None:
        believed = LOOKED_UP_SECONDS
        try:
            found = await self._addresses.of(self._host, self._port)
            self._pinned = f"{self._host}:{self._port}:{','.join(found)}"
        except AddressNotAllowed as error:
            self._pinned, self._unknown, believed = None, error, 0.0
        except OSError:
            # Whoever has been connected may stay so: what is known is only not asked for at every call.
            believed = RETRIED_SECONDS if self._pinned is not None else 0.0
            self._unknown = NotReached("its name stands for no address")
        finally:
            self._looking = None
        self._pinned_until = self._time() + believed


class _Line:
    """One connection, for calls of one method, one after the other: libcurl's, with a pool of its own that holds only this.
    From a pool for all, libcurl would take a connection that was used within the last second without looking at it."""

    __slots__ = (
        *("_allow", "_curl", "_fresh", "_headers", "_lines", "_multi", "_opened", "_parts", "_pinned"),
        *("_refused", "_sends", "_socket", "_watch", "idle_since"),
    )

    def __init__(self, method: str, addresses: Addresses, most_bytes: int) -> None:
        self._allow = addresses.allow
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._headers: Mapping[str, str] = {}
        self._pinned: str | None = None
        self._fresh = self._refused = False
        self._sends = method not in ("GET", "HEAD")
        self._opened: list[socket.socket] = []
        """By this call; libcurl has duplicates of its own."""
        self._socket: socket.socket | None = None
        """The kept connection's."""
        self._watch = poll()
        self.idle_since = 0.0
        self._multi = pycurl.AsyncCurlMulti(close_handles=True)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1)
        self._curl = curl = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PROXY, ""),  # nor the environment's
            (pycurl.PATH_AS_IS, 1),
            (pycurl.MAXAGE_CONN, KEPT_SECONDS),
            (pycurl.MAXFILESIZE_LARGE, most_bytes),
            (pycurl.BUFFERSIZE, _PART_BYTES),
            (pycurl.OPENSOCKETFUNCTION, self._open),
            (pycurl.HEADERFUNCTION, self._lines.append),
            (pycurl.WRITEFUNCTION, self._parts.append),
            *addresses.authorities,
        ):
            curl.setopt(option, value)
        if method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif self._sends:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.CUSTOMREQUEST, method)

    def prepare(
        self, url: str, headers: Mapping[str, str], body: bytes, pinned: str | None, anew: bool
    ) -> None:
        """For the next call. Raises ValueError for a header that would be several."""
        curl = self._curl
        curl.setopt(pycurl.URL, url.encode())
        if self._sends:
            curl.setopt(pycurl.POSTFIELDS, body)
        if headers != self._headers:
            lines = [f"{name}: {value}".encode() for name, value in headers.items()]
            if any(b"\n" in line or b"\r" in line for line in lines):
                raise ValueError("a header holds a line break")
            if self._sends:
                lines += _UNASKED
            curl.setopt(pycurl.HTTPHEADER, lines)
            self._headers = headers
        if pinned != self._pinned:
            curl.setopt(pycurl.RESOLVE, [pinned])
            self._pinned = pinned
        # What came while nothing was asked is no answer to this: most of all not somebody else's.
        fresh = anew or bool(self._watch.poll(0))
        if fresh is not self._fresh:
            curl.setopt(pycurl.FRESH_CONNECT, fresh)
            self._fresh = fresh

    async def exchange(self) -> tuple[int, Headers, bytes]:
        """What was prepared: status, headers, body. Raises NoAnswer and AddressNotAllowed."""
        try:
            await self._multi.add_handle(self._curl)
        except pycurl.error as error:
            raise self._failure(error.args[0]) from None
        headers = Headers(b"".join(self._lines))
        body = b"".join(self._parts)
        self._lines.clear()
        self._parts.clear()
        if self._opened:
            self._keep(self._curl.getinfo(pycurl.LOCAL_PORT))
        return self._curl.getinfo(pycurl.RESPONSE_CODE), headers, body

    async def close(self) -> None:
        """Closes the connection, whatever goes on there."""
        await self._multi.aclose()
        self._curl.close()
        for one in (*self._opened, self._socket):
            if one is not None:
                one.close()

    def _failure(self, code: int) -> Exception:
        if self._refused:
            return AddressNotAllowed("a private address was to be connected to")
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return TooLarge()
        kind = pycurl.easy_strerror(code)  # not the error's own words: they may name what was asked
        return BrokenOff(kind) if self._lines else NotReached(kind)

    def _open(self, purpose: int, address: Any) -> Any:
        # The last look: at the very address that is connected to.
        if not self._allow(address.addr[0]):
            self._refused = True
            return pycurl.SOCKET_BAD
        opened = socket.socket(address.family, address.socktype, address.protocol)
        self._opened.append(opened)
        return opened

    def _keep(self, port: int) -> None:
        """``port``: the connection's own. Others were tried beside it, or were there before."""
        if self._socket is not None:
            self._watch.unregister(self._socket)
            self._socket.close()
            self._socket = None
        for one in self._opened:
            if one.getsockname()[1] == port:
                self._socket = one
                self._watch.register(one, POLLIN)
            else:
                one.close()
        self._opened.clear()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
