"""Connections to one host, kept for the next call: libcurl's, driven by the event loop of whoever calls.

Names are looked up here, not by libcurl: a call that ends early would wait for libcurl's look-up to end, and everybody else
with it (curl issue 8515).
"""

import asyncio
import os
import re
import socket
import stat
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from functools import lru_cache
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

_HEADER_NAME = lru_cache(re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch)
"""RFC 9110, 5.6.2. There are few."""


class NoAnswer(Exception):
    """None that can be used. The text is of the kind of failure and tells nothing of the call."""


class NotReached(NoAnswer):
    """The host did not answer."""


class BrokenOff(NoAnswer):
    """The answer had begun, and did not end as it should."""


class TooLarge(NoAnswer):
    """The answer is larger than may be."""


class _Unasked(Exception):
    """Something was in a kept connection's buffers before anything was asked."""


class Headers(Mapping[str, str]):
    """Of an answer, by their names in lower case; the first of each name. Looked for as they are asked for: few ever are."""

    __slots__ = ("_lower", "_text")

    def __init__(self, head: bytes) -> None:
        """``head``: status line and headers as they came, those of interim answers before them, a trailer behind them. Raises
        BrokenOff for one that does not end: libcurl takes that for an answer without a body."""
        text = head.decode("latin-1")
        if "\nHTTP/" in text:
            text = text[text.rfind("\nHTTP/") + 1 :]
        text, ended, _ = text.partition("\r\n\r\n")
        if not ended:
            text, ended, _ = text.partition("\n\n")
        if not ended:
            raise BrokenOff("cut off")
        self._text = text + "\n"
        self._lower = self._text.lower()

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        found = self._lower.find(f"\n{name}:")
        if found == -1:
            return default
        start = found + len(name) + 2
        return self._text[start : self._text.index("\n", start)].strip()

    def __contains__(self, name: object) -> bool:
        return f"\n{name}:" in self._lower

    def __iter__(self) -> Iterator[str]:
        named = (line.partition(":") for line in self._lower.split("\n")[1:])
        return iter(dict.fromkeys(name for name, colon, _ in named if colon))

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
        self._tls = parted.scheme == "https"
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
        self._closed = False
        self._time = asyncio.get_running_loop().time

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, anew: bool = False
    ) -> tuple[int, Headers, bytes]:
        """Status, headers by their names in lower case (the first of each), body. ``url`` begins with the origin.
        ``anew``: by a connection of its own, so that it is sent once and no more: what was sent by a kept one that turns out
        closed is sent again.

        Raises NotReached, BrokenOff, TooLarge, AddressNotAllowed; ValueError for a header or URL that would be several.
        Ending it early closes its connection.
        """
        if self._named:
            await self._look_up()
        line = self._line(method) if anew else self._kept(method)
        try:
            answer = line.answer(await line.ask(url, headers, body, self._pinned))
        except _Unasked:
            line.close()
            return await self.exchange(method, url, headers, body, anew=True)
        except BaseException:
            line.close()
            raise
        if self._closed or not line.kept() or (anew and self._idle[method]):  # one more is not needed
            line.close()
            return answer
        now = line.idle_since = self._time()
        self._idle[method].append(line)
        for lines in self._idle.values():
            while lines and lines[0].idle_since < now - KEPT_SECONDS:
                lines.popleft().close()
        return answer

    async def close(self) -> None:
        """Closes what is idle; what is not closes when its call ends."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _kept(self, method: str) -> "_Line":
        idle = self._idle[method]
        while idle:
            line = idle.pop()
            if line.quiet():
                return line
            line.close()
        return self._line(method)

    def _line(self, method: str) -> "_Line":
        try:
            return _Line(method, self._addresses, self._most_bytes, self._tls)
        except pycurl.error as error:
            raise NotReached("no connection can be opened") from error

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
        except (OSError, UnicodeError):  # UnicodeError: no name can be so
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

    def __init__(self, method: str, addresses: Addresses, most_bytes: int, tls: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        """Of what the event loop calls here: a kept connection outlives the request that it was opened for, and would hold on
        to all that one knew."""
        self._allow = addresses.allow
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._headers: Mapping[str, str] = {}
        self._pinned: str | None = None
        self._refused = self.closed = False
        self._tls = tls
        self._heard = True
        """Was the connection readable since the call began? Without that, only OpenSSL's buffer can hold an answer."""
        self._sends = method not in ("GET", "HEAD")
        self._answered: asyncio.Future[int] | None = None
        """libcurl's code, while something is asked."""
        self._timer: asyncio.Handle | None = None
        self._wakes: deque[int] = deque(maxlen=1)
        """When libcurl said last that it wants to go on, until that is looked at: within each call it says "at once", which is
        done, and then "never"."""
        self._opened: list[socket.socket] = []
        """By this call; libcurl has duplicates of them."""
        self._watched: set[int] = set()
        """Libcurl's descriptors that the event loop watches: of connections that are being made or, with TLS, ended."""
        self._waking = -1
        """The descriptor by which libcurl wakes itself."""
        self._duplicate: socket.socket | None = None
        """Of the kept connection."""
        self._descriptor = -1
        """libcurl's own for it."""
        self._writes = False
        self._pending = poll()
        self.idle_since = 0.0
        self._multi = multi = pycurl.CurlMulti()
        self._act = multi.socket_action  # found once: pycurl looks its methods up in dicts of its own
        multi.setopt(pycurl.M_MAXCONNECTS, 1)
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._wakes.append)
        self._curl = curl = pycurl.Curl()
        self._option, self._told = curl.setopt, curl.getinfo
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PROXY, ""),  # nor the environment's
            (pycurl.PATH_AS_IS, 1),
            (pycurl.MAXAGE_CONN, KEPT_SECONDS),
            (pycurl.BUFFERSIZE, _PART_BYTES),
            (pycurl.OPENSOCKETFUNCTION, self._open),
            (pycurl.HEADERFUNCTION, self._lines.append),
            (pycurl.WRITEFUNCTION, self._parts.append),
            *addresses.authorities,
        ):
            curl.setopt(option, value)
        if method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        else:
            # Not for HEAD, which may be told of any size.
            curl.setopt(pycurl.MAXFILESIZE_LARGE, most_bytes)
        if self._sends:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.CUSTOMREQUEST, method)

    def kept(self) -> bool:
        """Is there a connection that the next call may use? Without one the line is of no more use: what libcurl may still
        hold is watched by nobody."""
        return self._duplicate is not None

    def quiet(self) -> bool:
        """Has nothing come since the last answer? What came unasked is no answer to the next call: most of all not somebody
        else's."""
        return self._duplicate is not None and not self._pending.poll(0)

    def ask(
        self, url: str, headers: Mapping[str, str], body: bytes, pinned: str | None
    ) -> "asyncio.Future[int]":
        """libcurl's code, for ``answer``, when all is there. ``close`` the line where it is not waited for, or raises:
        ValueError for a header or a URL that would be several, _Unasked where a kept connection is not to be trusted."""
        option = self._option
        option(pycurl.URL, url.encode())
        if self._sends:
            option(pycurl.POSTFIELDS, body)
        if headers != self._headers:
            lines = [_header(name, value) for name, value in headers.items()]
            if self._sends:
                lines += _UNASKED
            option(pycurl.HTTPHEADER, lines)
            self._headers = dict(headers)
        if pinned != self._pinned:
            option(pycurl.RESOLVE, [pinned])
            self._pinned = pinned
        self._heard = not self._tls
        answered = self._answered = self._loop.create_future()
        self._context.run(self._begin)
        return answered

    def answer(self, code: int) -> tuple[int, Headers, bytes]:
        """Status, headers, body of what was asked. Raises NoAnswer and AddressNotAllowed: ``close`` the line then."""
        self._answered = None
        if code:
            raise self._failure(code)
        headers, body = Headers(b"".join(self._lines)), b"".join(self._parts)
        self._lines.clear()
        self._parts.clear()
        return self._told(pycurl.RESPONSE_CODE), headers, body

    def close(self) -> None:
        """Closes the connection, whatever goes on there. Once more: nothing."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        # First: epoll must never be left with a descriptor that is closed, and libuv ends the process where it is.
        for descriptor in (*self._watched, self._waking):
            if descriptor != -1:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
        self._forsake()
        if self._answered is not None:
            with suppress(pycurl.error):  # it was done just now
                self._multi.remove_handle(self._curl)
        self._answered = None
        self._multi.close()
        self._curl.close()
        # All of these know this line, by their callbacks.
        del self._multi, self._act, self._curl, self._option, self._told
        for one in self._opened:
            one.close()

    # -- between libcurl and the event loop ---------------------------------------------------------------------------

    def _begin(self) -> None:
        self._multi.add_handle(self._curl)
        self._go_on(pycurl.SOCKET_TIMEOUT, 0)

    def _go_on(self, descriptor: int, ready: int) -> None:
        """libcurl does what can be done now."""
        multi, answered = self._multi, self._answered
        try:
            _, under_way = self._act(descriptor, ready)
            if answered is None or answered.done():
                return
            if self._lines and not self._heard:
                answered.set_exception(_Unasked())
            elif not under_way:
                failed = multi.info_read()[2]
                kept = self._told(pycurl.ACTIVESOCKET)
                multi.remove_handle(self._curl)
                if self._opened or kept != self._descriptor:
                    self._keep(kept)
                answered.set_result(failed[0][1] if failed else 0)
        except pycurl.error:  # a fault of ours or of libcurl's
            if answered is not None and not answered.done():
                answered.set_result(pycurl.E_FAILED_INIT)
        finally:
            if self._wakes:
                self._wake(self._wakes.pop())

    def _wake(self, milliseconds: int) -> None:
        """When libcurl wants to go on whatever happens; -1: never."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._go_on, pycurl.SOCKET_TIMEOUT, 0)

    def _watch(self, wanted: int, descriptor: int, multi: pycurl.CurlMulti, _: object) -> None:
        """What libcurl waits for at one of its descriptors."""
        if descriptor == self._waking or self.closed:
            return
        loop = self._loop
        writes = wanted & pycurl.POLL_OUT
        if descriptor == self._descriptor and self._duplicate is not None:
            if writes:
                loop.add_writer(self._duplicate, self._go_on, descriptor, pycurl.CSELECT_OUT)
                self._writes = True
            elif self._writes:
                loop.remove_writer(self._duplicate)
                self._writes = False
            return
        reads = wanted & pycurl.POLL_IN
        if reads:
            loop.add_reader(descriptor, self._go_on, descriptor, pycurl.CSELECT_IN)
        elif descriptor in self._watched:
            loop.remove_reader(descriptor)
        if writes:
            loop.add_writer(descriptor, self._go_on, descriptor, pycurl.CSELECT_OUT)
        elif descriptor in self._watched:
            loop.remove_writer(descriptor)
        if not (reads or writes):
            self._watched.discard(descriptor)
        elif stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            self._watched.add(descriptor)
        else:
            self._waking = descriptor  # libcurl's as long as it lives, so it is watched as long

    def _readable(self) -> None:
        """The kept connection is."""
        if self._answered is None:
            self.close()  # its end, or what nobody asked for
        else:
            self._heard = True
            self._go_on(self._descriptor, pycurl.CSELECT_IN)

    def _open(self, purpose: int, address: Any) -> Any:
        # The last look: at the very address that is connected to.
        if not self._allow(address.addr[0]):
            self._refused = True
            return pycurl.SOCKET_BAD
        self._forsake()
        try:
            opened = socket.socket(address.family, address.socktype, address.protocol)
        except OSError:
            return pycurl.SOCKET_BAD
        self._opened.append(opened)
        self._heard = True
        return opened

    def _keep(self, descriptor: int) -> None:
        """``descriptor``: libcurl's own, of the connection that it keeps; -1: of none. Others may have been tried beside it."""
        self._forsake()
        for one in self._opened:
            if descriptor != -1 and os.path.sameopenfile(descriptor, one.fileno()):
                self._duplicate, self._descriptor = one, descriptor
                self._pending.register(one, POLLIN)
                self._loop.add_reader(one, self._readable)
            else:
                one.close()
        self._opened.clear()

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


def _header(name: str, value: str) -> bytes:
    if not _HEADER_NAME(name) or "\n" in value or "\r" in value or "\0" in value:
        raise ValueError("a header's name or value is none")
    # libcurl takes one without a value for the wish to leave it out.
    return f"{name}: {value}".encode() if value.strip() else f"{name};".encode()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
