"""Connections to one host, kept for the next call: libcurl's, driven by the event loop of whoever calls.

Names are looked up here, not by libcurl: a call that ends early would wait for libcurl's look-up to end, and everybody else
with it (curl issue 8515).
"""

import asyncio
import os
import socket
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
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

    def __contains__(self, name: object) -> bool:
        return f"\n{name}:" in self._lower

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
        while idle and idle[-1].closed:
            idle.pop()
        line = idle.pop() if idle else _Line(method, self._addresses, self._most_bytes)
        try:
            line.prepare(url, headers, body, self._pinned, anew)
            answer = await line.exchange()
        except BaseException:
            line.close()
            raise
        now = line.idle_since = self._time()
        while idle and idle[0].idle_since < now - KEPT_SECONDS:
            idle.popleft().close()
        idle.append(line)
        return answer

    async def close(self) -> None:
        """Closes what is idle."""
        if self._looking is not None:
            self._looking.cancel()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

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
    From a pool for all, libcurl would take a connection that was used within the last second without looking at it.

    The event loop watches a kept connection all the time, by a duplicate of libcurl's descriptor, whose end nobody else
    decides: to begin and to end watching takes ten system calls on uvloop, which AsyncCurlMulti does for each call.
    """

    __slots__ = (
        *(
            "_allow",
            "_answered",
            "_curl",
            "_descriptor",
            "_duplicate",
            "_fresh",
            "_headers",
            "_lines",
            "_loop",
        ),
        *(
            "_multi",
            "_opened",
            "_own",
            "_parts",
            "_pending",
            "_pinned",
            "_refused",
            "_sends",
            "_timer",
            "_watched",
        ),
        *("_writes", "closed", "idle_since"),
    )

    def __init__(self, method: str, addresses: Addresses, most_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._allow = addresses.allow
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._headers: Mapping[str, str] = {}
        self._pinned: str | None = None
        self._fresh = self._refused = self.closed = False
        self._sends = method not in ("GET", "HEAD")
        self._answered: asyncio.Future[int] | None = None
        """libcurl's code, while something is asked."""
        self._timer: asyncio.Handle | None = None
        self._opened: list[socket.socket] = []
        """By this call; libcurl has duplicates of them."""
        self._watched: dict[int, bool] = {}
        """libcurl's descriptors of connections that are being made: does the event loop watch them?"""
        self._own: set[int] = set()
        """libcurl's descriptors that are no connection's."""
        self._duplicate: socket.socket | None = None
        """Of the kept connection."""
        self._descriptor = -1
        """libcurl's own for it."""
        self._writes = False
        self._pending = poll()
        self.idle_since = 0.0
        self._multi = multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_MAXCONNECTS, 1)
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._wake)
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
        fresh = anew or bool(self._pending.poll(0))
        if fresh is not self._fresh:
            curl.setopt(pycurl.FRESH_CONNECT, fresh)
            self._fresh = fresh

    async def exchange(self) -> tuple[int, Headers, bytes]:
        """What was prepared: status, headers, body. Raises NoAnswer and AddressNotAllowed. ``close`` it where it raises."""
        self._answered = self._loop.create_future()
        self._multi.add_handle(self._curl)
        self._go_on(pycurl.SOCKET_TIMEOUT, 0)
        code = await self._answered
        self._answered = None
        if code:
            raise self._failure(code)
        if self._opened:
            self._keep(self._curl.getinfo(pycurl.LOCAL_PORT))
        headers, body = Headers(b"".join(self._lines)), b"".join(self._parts)
        self._lines.clear()
        self._parts.clear()
        return self._curl.getinfo(pycurl.RESPONSE_CODE), headers, body

    def close(self) -> None:
        """Closes the connection, whatever goes on there."""
        self.closed = True
        if self._answered is not None:
            with suppress(pycurl.error):  # it was done just now
                self._multi.remove_handle(self._curl)
        if self._timer is not None:
            self._timer.cancel()
        for descriptor, watched in self._watched.items():
            if watched:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
        for descriptor in self._own:
            self._loop.remove_reader(descriptor)
        self._forsake()
        self._multi.close()
        self._curl.close()
        for one in self._opened:
            one.close()

    # -- between libcurl and the event loop ---------------------------------------------------------------------------

    def _go_on(self, descriptor: int, ready: int) -> None:
        """libcurl does what can be done now."""
        multi, answered = self._multi, self._answered
        try:
            multi.socket_action(descriptor, ready)
            _, done, failed = multi.info_read()
            if not (done or failed):
                return
            multi.remove_handle(self._curl)
            code = failed[0][1] if failed else 0
        except pycurl.error:  # a fault of ours or of libcurl's
            code = pycurl.E_FAILED_INIT
        if answered is not None and not answered.done():
            answered.set_result(code)

    def _wake(self, milliseconds: int) -> None:
        """When libcurl wants to go on whatever happens; -1: never."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            seconds = milliseconds / 1000
            self._timer = self._loop.call_later(seconds, self._go_on, pycurl.SOCKET_TIMEOUT, 0)

    def _watch(self, wanted: int, descriptor: int, multi: pycurl.CurlMulti, _: object) -> None:
        """What libcurl waits for at one of its descriptors."""
        loop = self._loop
        reads, writes = wanted & pycurl.POLL_IN, wanted & pycurl.POLL_OUT
        if self._duplicate is not None and descriptor == self._descriptor:
            if writes:
                loop.add_writer(self._duplicate, self._go_on, descriptor, pycurl.CSELECT_OUT)
            elif self._writes:
                loop.remove_writer(self._duplicate)
            self._writes = bool(writes)
            return
        if descriptor not in self._watched and not any(_same(descriptor, one) for one in self._opened):
            # By which libcurl wakes itself: as long as it lives.
            if descriptor not in self._own:
                loop.add_reader(descriptor, self._go_on, descriptor, pycurl.CSELECT_IN)
                self._own.add(descriptor)
            return
        if reads:
            loop.add_reader(descriptor, self._go_on, descriptor, pycurl.CSELECT_IN)
        else:
            loop.remove_reader(descriptor)
        if writes:
            loop.add_writer(descriptor, self._go_on, descriptor, pycurl.CSELECT_OUT)
        else:
            loop.remove_writer(descriptor)
        self._watched[descriptor] = bool(reads or writes)

    def _readable(self) -> None:
        """The kept connection is."""
        if self._answered is None:
            self.close()  # its end, or what nobody asked for
        else:
            self._go_on(self._descriptor, pycurl.CSELECT_IN)

    def _open(self, purpose: int, address: Any) -> Any:
        # The last look: at the very address that is connected to.
        if not self._allow(address.addr[0]):
            self._refused = True
            return pycurl.SOCKET_BAD
        self._forsake()
        opened = socket.socket(address.family, address.socktype, address.protocol)
        self._opened.append(opened)
        return opened

    def _keep(self, port: int) -> None:
        """``port``: the connection's own. Others may have been tried beside it."""
        for one in self._opened:
            if self._duplicate is None and one.getsockname()[1] == port:
                self._duplicate = one
            else:
                one.close()
        self._opened.clear()
        if self._duplicate is not None:
            self._descriptor = next((one for one in self._watched if _same(one, self._duplicate)), -1)
            self._pending.register(self._duplicate, POLLIN)
            self._loop.add_reader(self._duplicate, self._readable)
        self._watched.clear()

    def _forsake(self) -> None:
        """The connection that was kept is kept no more."""
        if self._duplicate is not None:
            self._pending.unregister(self._duplicate)
            self._loop.remove_reader(self._duplicate)
            self._loop.remove_writer(self._duplicate)
            self._duplicate.close()
            self._duplicate, self._descriptor, self._writes = None, -1, False

    def _failure(self, code: int) -> Exception:
        if self._refused:
            return AddressNotAllowed("a private address was to be connected to")
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return TooLarge()
        kind = pycurl.easy_strerror(code)  # not the error's own words: they may name what was asked
        return BrokenOff(kind) if self._lines else NotReached(kind)


def _same(descriptor: int, duplicate: socket.socket) -> bool:
    try:
        return os.path.sameopenfile(descriptor, duplicate.fileno())
    except OSError:  # libcurl has closed it
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
