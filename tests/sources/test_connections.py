"""Kept connections, against vendors that answer in every way there is, over real sockets and on both event loops."""

import asyncio
import gc
import os
import resource
import socket
import ssl
import warnings
import weakref
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from sources.transport import addresses as looking_up
from sources.transport import connections as transport
from sources.transport.addresses import Addresses, AddressNotAllowed
from sources.transport.connections import BrokenOff, Connections, NoAnswer, NotReached, TooLarge

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_BYTES = 100_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

Answering = Callable[[StreamReader, StreamWriter, bytes], Awaitable[None]]


@pytest.fixture(scope="module", params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


class Vendor:
    """Counts connections, and keeps what was asked."""

    def __init__(self, answer: Answering, authority: trustme.CA | None = None) -> None:
        self._answer = answer
        self.opened = 0
        self.open = 0
        self.asked: list[bytes] = []
        self.changed = asyncio.Condition()
        self.context: ssl.SSLContext | None = None
        if authority is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1").configure_cert(self.context)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.opened += 1
        self.open += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head)
                async with self.changed:
                    self.changed.notify_all()
                await self._answer(reader, writer, head)
                await writer.drain()
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()
        self.open -= 1
        async with self.changed:
            self.changed.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(true)


class Line:
    """Connections to one vendor, and how to ask by them."""

    def __init__(self, origin: str, connections: Connections) -> None:
        self.origin, self.connections = origin, connections

    async def ask(
        self, path: str = "/", method: str = "GET", body: bytes = b"", **others: Any
    ) -> tuple[int, Any, bytes]:
        async with asyncio.timeout(20):
            return await self.connections.exchange(
                method, self.origin + path, others.pop("headers", {}), body, **others
            )


@asynccontextmanager
async def vendor_of(
    answer: Answering,
    *,
    authority: trustme.CA | None = None,
    ca_file: Path | None = None,
    host: str = "127.0.0.1",
    most_bytes: int = MOST_BYTES,
) -> AsyncIterator[tuple[Line, Vendor]]:
    vendor = Vendor(answer, authority)
    server = await asyncio.start_server(vendor.serve, host, ssl=vendor.context)
    port = server.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    origin = f"{'https' if authority else 'http'}://{name}:{port}"
    allowed = Addresses(["127.0.0.0/8", "::1"], str(ca_file) if ca_file else None)
    connections = Connections(origin, allowed, most_bytes)
    try:
        yield Line(origin, connections), vendor
    finally:
        await connections.close()
        await vendor.until(lambda: vendor.open == 0)
        server.close()


def saying(*answers: bytes) -> Answering:
    """These in turn, the last again and again."""
    left = list(answers)

    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


async def echo(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
    path = head.split()[1]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


def then_close(answer: bytes) -> Answering:
    async def answered(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    return answered


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    own = trustme.CA()
    written = tmp_path_factory.mktemp("authority") / "ca.pem"
    own.cert_pem.write_to_path(str(written))
    return own, written


# -- kept, and let go ---------------------------------------------------------------------------------------------


async def test_calls_one_after_the_other_use_one_connection() -> None:
    async with vendor_of(echo) as (line, vendor):
        answers = [(await line.ask(f"/{n}"))[2] for n in range(10)]

        assert (answers, vendor.opened) == ([f"/{n}".encode() for n in range(10)], 1)


async def test_calls_at_the_same_time_have_each_their_own_and_all_are_gone_after_the_close() -> None:
    async with vendor_of(echo) as (line, vendor):
        before = descriptors()
        answers = await asyncio.gather(*(line.ask(f"/{n}") for n in range(20)))
        assert [body for _, _, body in answers] == [f"/{n}".encode() for n in range(20)]
        assert (vendor.opened, vendor.open) == (20, 20)

        await line.connections.close()
        await vendor.until(lambda: vendor.open == 0)
        assert descriptors() == before


async def test_by_tls_too_the_close_leaves_nothing(authority: tuple[trustme.CA, Path]) -> None:
    """libcurl takes its leave of each connection there, and asks for that to be watched."""
    async with vendor_of(echo, authority=authority[0], ca_file=authority[1]) as (line, vendor):
        before = descriptors()
        for anew in (False, True, False):
            await asyncio.gather(*(line.ask(f"/{n}", anew=anew) for n in range(5)))
        await line.connections.close()
        await vendor.until(lambda: vendor.open == 0)

        assert descriptors() == before


async def test_what_is_under_way_at_the_close_is_answered_and_not_kept() -> None:
    go = asyncio.Event()

    async def late(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        await go.wait()
        writer.write(OK)

    async with vendor_of(late) as (line, vendor):
        asked = asyncio.create_task(line.ask())
        await vendor.until(lambda: bool(vendor.asked))
        await line.connections.close()
        go.set()
        assert (await asked)[2] == b"ok"
        await vendor.until(lambda: vendor.open == 0)


async def test_an_idle_connection_that_is_too_old_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with vendor_of(echo) as (line, vendor):
        await asyncio.gather(line.ask("/1"), line.ask("/2"))
        monkeypatch.setattr(transport, "KEPT_SECONDS", -1)
        await line.ask("/3")
        await vendor.until(lambda: vendor.open == 0)
        monkeypatch.undo()

        # Closed ones that lie about are not closed again: their descriptors are others' by now.
        assert {(await line.ask(f"/{n}"))[2] for n in range(5)} == {f"/{n}".encode() for n in range(5)}


# -- the vendor ends a connection ---------------------------------------------------------------------------------


async def test_after_connection_close_nothing_is_left_open_even_if_the_vendor_leaves_that_to_us() -> None:
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with vendor_of(saying(OK, last, last, OK)) as (line, vendor):
        for open_ in (1, 0, 0, 1):
            assert (await line.ask())[2] == b"ok"
            await vendor.until(lambda open_=open_: vendor.open == open_)  # type: ignore[misc]

        assert vendor.opened == 3


@pytest.mark.parametrize("reset", [False, True])
async def test_after_the_vendor_has_closed_an_idle_connection_the_next_call_goes_by_another(
    reset: bool,
) -> None:
    writers: list[StreamWriter] = []

    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        writers.append(writer)
        await echo(reader, writer, head)

    async with vendor_of(answer) as (line, vendor):
        await line.ask("/1")
        if reset:
            writers[0].transport.abort()
        else:
            writers[0].close()
        assert (await line.ask("/2"))[2] == b"/2"
        assert vendor.opened == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_a_kept_connection_dies_under_is_sent_again(method: str) -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        if len(vendor.asked) == 2:
            writer.close()
        else:
            await echo(reader, writer, head)

    async with vendor_of(answer) as (line, vendor):
        await line.ask("/1", method)
        assert (await line.ask("/2", method))[2] == b"/2"
        assert [head.split()[1] for head in vendor.asked] == [b"/1", b"/2", b"/2"]


async def test_what_must_not_be_sent_twice_is_not() -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        if head.startswith(b"POST /2"):
            writer.close()
        else:
            await echo(reader, writer, head)

    async with vendor_of(answer) as (line, vendor):
        await line.ask("/1", "POST")
        with pytest.raises(NotReached):
            await line.ask("/2", "POST", b"", anew=True)
        assert [head.split()[1] for head in vendor.asked] == [b"/1", b"/2"]
        assert (await line.ask("/3", "POST"))[2] == b"/3"


async def test_connections_of_their_own_do_not_pile_up() -> None:
    async with vendor_of(echo) as (line, vendor):
        for n in range(5):
            await line.ask(f"/{n}", "POST", anew=True)

        await vendor.until(lambda: vendor.open == 1)
        assert vendor.opened == 5


# -- an answer that nobody asked for ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("how", ["with", "behind", "head first", "later"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(
    how: str, tls: bool, authority: tuple[trustme.CA, Path]
) -> None:
    strayed = asyncio.Event()

    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        path = head.split()[1]
        start = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path)
        if path != b"/1":
            writer.write(start + path)
        elif how == "with":
            writer.write(start + path + STRAY)
        elif how == "behind":
            writer.write(start + path)
            writer.write(STRAY)
        elif how == "head first":
            writer.write(start)
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(path + STRAY)
        else:
            writer.write(start + path)
            await writer.drain()
            asyncio.get_running_loop().call_soon(lambda: (writer.write(STRAY), strayed.set()))
            return
        strayed.set()

    own, written = authority
    async with vendor_of(answer, authority=own if tls else None, ca_file=written) as (line, _):
        answers = [(await line.ask("/1"))[2]]
        await strayed.wait()
        answers += [(await line.ask(f"/{n}"))[2] for n in (2, 3)]

        assert answers == [b"/1", b"/2", b"/3"]


async def test_a_connection_on_which_something_strayed_is_not_come_back_to() -> None:
    writers: list[StreamWriter] = []

    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        writers.append(writer)
        path = head.split()[1]
        leave = b"Connection: close\r\n" if path == b"/2" else b""
        writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (leave, len(path), path))
        if leave:
            await writer.drain()
            writer.close()

    async with vendor_of(answer) as (line, vendor):
        answers = [(await line.ask("/1"))[2]]
        writers[0].write(STRAY)  # nothing is awaited before the next is asked
        answers += [(await line.ask(f"/{n}"))[2] for n in (2, 3)]

        await vendor.until(lambda: vendor.open == 1)
        assert (answers, vendor.opened) == ([b"/1", b"/2", b"/3"], 3)


# -- whoever asks leaves ------------------------------------------------------------------------------------------


async def left_by(line: Line, vendor: Vendor, reached: Callable[[], bool], body: bytes = b"") -> None:
    """Asks, leaves once the vendor has come so far, and sees that the vendor is told."""
    before = descriptors()
    asked = asyncio.create_task(line.ask("/left", "POST" if body else "GET", body))
    await vendor.until(reached)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await vendor.until(lambda: vendor.open == 0)
    assert descriptors() <= before


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"]
)
@pytest.mark.parametrize("kept", [False, True])
async def test_who_leaves_closes_the_connection_at_once(said: bytes, kept: bool) -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        if b"/left" in head:
            writer.write(said)
            await reader.read()
            writer.close()
        else:
            await echo(reader, writer, head)

    async with vendor_of(answer) as (line, vendor):
        if kept:
            await line.ask("/first")
        await left_by(line, vendor, lambda: any(b"/left" in head for head in vendor.asked))

        assert (await line.ask("/next"))[2] == b"/next"


async def test_who_leaves_while_a_large_body_waits_to_be_read_closes_the_connection() -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        if b"/left" in head:
            async with vendor.changed:
                left.append(head)
                vendor.changed.notify_all()
            while await reader.read(1 << 20):
                await stop.wait()
            writer.close()
        else:
            await echo(reader, writer, head)

    left: list[bytes] = []
    stop = asyncio.Event()
    async with vendor_of(answer) as (line, vendor):
        asked = asyncio.create_task(line.ask("/left", "POST", bytes(30_000_000)))
        await vendor.until(lambda: bool(left))
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        stop.set()
        await vendor.until(lambda: vendor.open == 0)
        assert (await line.ask("/next"))[2] == b"/next"


async def test_who_leaves_before_the_handshake_is_over_closes_the_connection(
    authority: tuple[trustme.CA, Path],
) -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(1)
        came.set()
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1") as server:
        origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        line = Line(origin, Connections(origin, Addresses(["127.0.0.1"]), MOST_BYTES))
        asked = asyncio.create_task(line.ask())
        await came.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        async with asyncio.timeout(20):
            await gone.wait()


# -- names --------------------------------------------------------------------------------------------------------


class Names:
    """What a name stands for, as long as nobody changes it."""

    def __init__(self, *found: str) -> None:
        self.found: tuple[str, ...] | Exception = found
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()

    async def look_up(self, host: str, port: int) -> list[Any]:
        self.asked += 1
        await self.go.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, 0, 0, "", (one, port)) for one in self.found
        ]


@asynccontextmanager
async def named(
    monkeypatch: pytest.MonkeyPatch, names: Names, answer: Answering = echo
) -> AsyncIterator[tuple[Line, Vendor]]:
    monkeypatch.setattr(looking_up, "look_up", names.look_up)
    async with vendor_of(answer) as (line, vendor):
        origin = line.origin.replace("127.0.0.1", "vendor.example")
        connections = Connections(origin, Addresses(["127.0.0.0/8", "::1"]), MOST_BYTES)
        try:
            yield Line(origin, connections), vendor
        finally:
            await connections.close()


async def test_of_several_addresses_another_is_tried_where_the_first_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with named(monkeypatch, Names("::1", "127.0.0.2", "127.0.0.1")) as (line, vendor):
        before = descriptors()
        assert [(await line.ask(f"/{n}"))[2] for n in range(3)] == [b"/0", b"/1", b"/2"]
        assert vendor.opened == 1
        await line.connections.close()
        assert descriptors() <= before + 1  # the vendor's own end


async def test_names_are_looked_up_again_now_and_then_and_what_they_stood_for_serves_while_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "LOOKED_UP_SECONDS", 0.0)
    monkeypatch.setattr(transport, "RETRIED_SECONDS", 0.0)
    names = Names("127.0.0.1")
    async with named(monkeypatch, names) as (line, vendor):
        await line.ask("/1")
        names.found = OSError()
        for n in range(3):
            assert (await line.ask(f"/{n}", anew=True))[2] == f"/{n}".encode()
        assert names.asked > 2
        names.found = ("127.0.0.1", "169.254.169.254")
        await line.ask("/looked-up-meanwhile")
        with pytest.raises(AddressNotAllowed):
            await line.ask("/never")
        assert not [head for head in vendor.asked if b"/never" in head]


@pytest.mark.parametrize("fault", [OSError(), UnicodeError()])
async def test_a_name_that_stands_for_nothing_is_not_reached(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    names = Names()
    names.found = fault
    async with named(monkeypatch, names) as (line, _):
        with pytest.raises(NotReached):
            await line.ask()


async def test_a_look_up_that_hangs_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names("127.0.0.1")
    names.go.clear()
    async with named(monkeypatch, names) as (line, _), vendor_of(echo) as (other, _):
        hanging = asyncio.create_task(line.ask("/hangs"))
        assert (await other.ask("/other"))[2] == b"/other"
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging

        names.go.set()
        assert (await line.ask("/next"))[2] == b"/next"
        assert names.asked == 1


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "127.1", "0177.0.0.1", "[::1]"]
)
async def test_an_address_within_is_refused_however_it_is_spelt(host: str) -> None:
    async with vendor_of(echo) as (line, vendor):
        origin = line.origin.replace("127.0.0.1", host)
        connections = Connections(origin, Addresses(), MOST_BYTES)
        with pytest.raises((AddressNotAllowed, NotReached)):
            await Line(origin, connections).ask()
        await connections.close()

        assert vendor.opened == 0


async def test_ipv6_is_spoken() -> None:
    async with vendor_of(echo, host="::1") as (line, _):
        assert (await line.ask("/6"))[2] == b"/6"


# -- what is sent -------------------------------------------------------------------------------------------------


async def test_no_header_is_sent_twice_or_left_out() -> None:
    sent = {"accept": "a/b", "USER-AGENT": "us", "content-TYPE": "c/d", "X-Empty": "", "X-Word": "ü"}
    async with vendor_of(saying(OK)) as (line, vendor):
        await line.ask("/", "POST", b"12", headers=sent)
        await line.ask("/", "POST", b"12", headers={})
    first, second = (head.decode().split("\r\n")[1:-2] for head in vendor.asked)

    assert [one for one in first if not one.startswith("Host")] == [
        "accept: a/b",
        "USER-AGENT: us",
        "content-TYPE: c/d",
        "X-Empty:",
        "X-Word: ü",
        "Content-Length: 2",
    ]
    assert sorted(one.partition(":")[0] for one in second) == [
        "Accept",
        "Content-Length",
        "Host",
        "User-Agent",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nY: b"},
        {"X": "a\nb"},
        {"X": "a\rb"},
        {"X": "a\0b"},
        {"X\r\nY": "a"},
        {"X: Y": "a"},
        {"": "a"},
    ],
)
async def test_a_header_that_would_be_several_is_not_sent(headers: dict[str, str]) -> None:
    async with vendor_of(saying(OK)) as (line, vendor):
        with pytest.raises(ValueError, match="header"):
            await line.ask(headers=headers)

        assert vendor.opened == 0


@pytest.mark.parametrize("path", ["/a\r\nX: y", "/a b", "/a\nb", "/a\0b"])
async def test_a_url_that_would_be_several_things_is_not_sent(path: str) -> None:
    async with vendor_of(saying(OK)) as (line, vendor):
        with pytest.raises((NotReached, ValueError)):
            await line.ask(path)

        assert vendor.opened == 0


async def test_paths_and_queries_go_as_they_are() -> None:
    async with vendor_of(echo) as (line, _):
        for path in ("/a/../b", "/%2E%2E/%41", "/?q=%20+&x=[1]", "/a//b/./c"):
            assert (await line.ask(path))[2] == path.encode()


async def test_headers_changed_behind_the_back_are_sent_as_they_are_now() -> None:
    headers = {"Authorization": "Bearer one"}
    async with vendor_of(saying(OK)) as (line, vendor):
        await line.ask(headers=headers)
        headers["Authorization"] = "Bearer other"
        await line.ask(headers=headers)

    assert [b"Bearer other" in head for head in vendor.asked] == [False, True]


async def test_a_large_body_reaches_a_slow_reader_whole() -> None:
    size = 5_000_000
    read = []

    async def slow(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        read.append(sum([len(await reader.readexactly(10_000)) for _ in range(size // 10_000)]))
        writer.write(OK)

    async with vendor_of(slow) as (line, _):
        for _ in range(2):
            await line.ask("/", "PUT", bytes(size))

    assert read == [size, size]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_method_goes_with_and_without_a_body(method: str) -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        assert b"Content-Length: 3" in head
        body = await reader.readexactly(3)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(method), head.split()[0]))
        bodies.append(body)

    bodies: list[bytes] = []
    async with vendor_of(answer) as (line, _):
        assert (await line.ask("/", method, b"abc"))[2] == method.encode()

    assert bodies == [b"abc"]


async def test_the_environment_and_the_home_folder_have_no_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login secret password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nStrict-Transport-Security: max-age=99\r\nContent-Length: 2\r\n\r\nok"
    async with vendor_of(saying(cookie)) as (line, vendor):
        for _ in range(2):
            assert (await line.ask())[0] == 200

    assert not [head for head in vendor.asked if b"ookie" in head or b"uthorization" in head]


# -- what comes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "said", "status", "body"),
    [
        ("GET", b"HTTP/1.1 100 Continue\r\nX-Seen: no\r\n\r\n" + OK, 200, b"ok"),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nX-Seen: no\r\n\r\n" * 3 + OK, 200, b"ok"),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Seen: no\r\n\r\n",
            200,
            b"ok",
        ),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 299\r\nContent-Length: 2\r\n\r\nok", 299, b"ok"),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 90_000 + b"\r\nContent-Length: 2\r\n\r\nok",
            200,
            b"ok",
        ),
        ("GET", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000 + b"Content-Length: 2\r\n\r\nok", 200, b"ok"),
        ("GET", b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 2\r\n\r\nno", 302, b"no"),
    ],
    ids=[
        *(
            "100",
            "103",
            "chunked",
            "204",
            "304",
            "head",
            "no reason",
            "long header",
            "many headers",
            "redirect",
        )
    ],
)
async def test_an_answer_is_taken_as_it_is_meant_and_the_connection_used_again(
    method: str, said: bytes, status: int, body: bytes
) -> None:
    async with vendor_of(saying(said)) as (line, vendor):
        for _ in range(2):
            told, headers, came = await line.ask("/", method)
            assert (told, came, headers.get("x-seen")) == (status, body, None)

        assert (len(vendor.asked), vendor.opened) == (2, 1)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_without_a_length_ends_with_its_connection(version: bytes) -> None:
    async with vendor_of(then_close(b"HTTP/%s 200 OK\r\nX: y\r\n\r\nall of it" % version)) as (line, _):
        for _ in range(2):
            assert (await line.ask())[2] == b"all of it"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"", NotReached),
        (b"garbage\r\n\r\n", NoAnswer),
        (b"just a body", NoAnswer),
        (b"HTTP/9.9 200 OK\r\n\r\n", NoAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", BrokenOff),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -9\r\n\r\nok", NoAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Le", NoAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", BrokenOff),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", BrokenOff),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", BrokenOff),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000 + b"\r\n", NoAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000 + b"\r\n\r\n", NoAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MOST_BYTES + 1), TooLarge),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * (MOST_BYTES + 1), TooLarge),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
            % (MOST_BYTES + 1, b"a" * (MOST_BYTES + 1)),
            TooLarge,
        ),
    ],
)
async def test_a_bad_answer_is_refused_as_what_it_is_and_the_next_call_is_right(
    said: bytes, fault: type[Exception]
) -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        await (echo if b"/good" in head else then_close(said))(reader, writer, head)

    async with vendor_of(answer) as (line, _):
        assert (await line.ask("/good/1"))[2] == b"/good/1"
        with pytest.raises(fault):
            await line.ask("/bad", anew=True)
        assert (await line.ask("/good/2"))[2] == b"/good/2"


@pytest.mark.parametrize("form", [b"Content-Length: %d\r\n\r\n" % MOST_BYTES, b"\r\n"])
async def test_an_answer_as_large_as_may_be_is_taken(form: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\n" + form + b"a" * MOST_BYTES
    async with vendor_of(then_close(whole)) as (line, _):
        assert len((await line.ask())[2]) == MOST_BYTES


async def test_where_only_the_size_is_asked_for_it_may_be_any() -> None:
    async with vendor_of(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n")) as (line, vendor):
        for _ in range(2):
            _, headers, body = await line.ask("/", "HEAD")
            assert (headers["content-length"], body) == ("5368709120", b"")

        assert vendor.opened == 1


async def test_an_early_answer_to_a_large_body_does_not_keep_the_event_loop_busy() -> None:
    async def early(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        while await reader.read(1 << 20):
            pass
        writer.close()

    async with vendor_of(early) as (line, _):
        assert (await line.ask("/", "POST", bytes(20_000_000)))[0] == 413


# -- without a descriptor to be had -------------------------------------------------------------------------------


@contextmanager
def only_descriptors(more: int) -> Iterator[None]:
    """No more can be opened than so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
    held: list[int] = []
    with suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    for _ in range(more):
        os.close(held.pop())
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("more", [0, 1, 2])
async def test_where_no_descriptor_is_to_be_had_the_vendor_is_not_reached(
    capfd: pytest.CaptureFixture[str], more: int
) -> None:
    async with vendor_of(echo) as (line, vendor):
        before = descriptors()
        with only_descriptors(more), pytest.raises(NotReached):
            await line.ask()

        assert (descriptors() <= before, vendor.opened) == (True, 0)
    assert "Traceback" not in capfd.readouterr().err


# -- whose certificates are believed ------------------------------------------------------------------------------


async def test_an_authority_of_the_environment_is_believed(
    monkeypatch: pytest.MonkeyPatch, authority: tuple[trustme.CA, Path]
) -> None:
    async with vendor_of(echo, authority=authority[0]) as (line, _):
        with pytest.raises(NotReached):
            await line.ask()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
    async with vendor_of(echo, authority=authority[0]) as (line, _):
        assert (await line.ask("/tls"))[2] == b"/tls"


async def test_a_certificate_of_another_name_is_not_believed(authority: tuple[trustme.CA, Path]) -> None:
    async with vendor_of(echo, authority=authority[0], ca_file=authority[1]) as (line, vendor):
        assert vendor.context is not None
        authority[0].issue_cert("127.0.0.9").configure_cert(vendor.context)
        with pytest.raises(NotReached):
            await line.ask()
        assert not vendor.asked


async def test_tls_1_3_is_spoken_and_nothing_older_than_1_2(authority: tuple[trustme.CA, Path]) -> None:
    for version, spoken in ((ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_1, False)):
        async with vendor_of(echo, authority=authority[0], ca_file=authority[1]) as (line, vendor):
            assert vendor.context is not None
            with warnings.catch_warnings(action="ignore"):
                vendor.context.minimum_version = vendor.context.maximum_version = version
            if spoken:
                for n in range(3):
                    assert (await line.ask(f"/{n}"))[2] == f"/{n}".encode()
                assert vendor.opened == 1
            else:
                with pytest.raises(NotReached):
                    await line.ask()


# -- nothing is left behind ---------------------------------------------------------------------------------------


async def test_nothing_is_left_of_lines_that_are_closed_without_waiting_for_the_collector() -> None:
    async def answer(reader: StreamReader, writer: StreamWriter, head: bytes) -> None:
        if b"/left" in head:
            await reader.read()
            writer.close()
        elif b"/bad" in head:
            writer.close()
        else:
            await echo(reader, writer, head)

    async def some() -> None:
        for n in range(20):
            await line.ask(f"/{n}", anew=True)
            with suppress(NotReached):
                await line.ask("/bad", anew=True)
            asked = asyncio.create_task(line.ask("/left", anew=True))
            await vendor.until(lambda n=n: sum(b"/left" in head for head in vendor.asked) > n)  # type: ignore[misc]
            asked.cancel()
            with suppress(asyncio.CancelledError):
                await asked
        await line.connections.close()
        await vendor.until(lambda: vendor.open == 0)

    def lines() -> int:
        return sum(isinstance(one, transport._Line) for one in gc.get_objects())

    async with vendor_of(answer) as (line, vendor):
        gc.collect()
        before = lines()  # other tests' clients
        gc.disable()
        try:
            await some()
            assert lines() == before
        finally:
            gc.enable()


class Known:
    """By one request."""


KNOWN: ContextVar[Known | None] = ContextVar("known", default=None)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_kept_connection_holds_on_to_nothing_of_the_request_that_opened_it(
    tls: bool, authority: tuple[trustme.CA, Path]
) -> None:
    async def request(line: Line) -> weakref.ref[Known]:
        known = Known()
        KNOWN.set(known)
        await line.ask()
        return weakref.ref(known)

    ca, ca_file = authority if tls else (None, None)
    async with vendor_of(saying(OK), authority=ca, ca_file=ca_file) as (line, vendor):
        known = await asyncio.create_task(request(line), context=Context())
        await line.ask()
        gc.collect()
        assert (known(), vendor.opened) == (None, 1)
