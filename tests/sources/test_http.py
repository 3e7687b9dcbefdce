"""The one HTTP client, against real sockets: time, size, credentials, and where it will not go."""

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from starlette.requests import Request as Incoming
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sources.ports.errors import (
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.sandbox.server import Sandbox, serve
from sources.transport import http
from sources.transport.deadline import DEFAULT_SECONDS, deadline, remaining
from sources.transport.http import Answer, Auth, HeaderAuth, HttpClient, NoAuth, Request, retry_after
from sources.transport.limits import SourceSettings
from sources.transport.traffic import Traffic


def loopback(parallel: int) -> Traffic:
    """Without limits but that of calls at a time."""
    return Traffic("vendor", parallel=parallel, settings=SourceSettings(private_addresses=("127.0.0.1",)))


@asynccontextmanager
async def client_of(
    *routes: Route, auth: Auth | None = None, parallel: int = 4
) -> AsyncIterator[tuple[HttpClient, Sandbox]]:
    sandbox = Sandbox("vendor", routes)
    async with serve(sandbox) as running:
        client = HttpClient("vendor", f"{running.url}/api", auth=auth or NoAuth(), traffic=loopback(parallel))
        try:
            yield client, sandbox
        finally:
            await client.close()


async def _echo(request: Incoming) -> Response:
    return JSONResponse(
        {
            "query": str(request.url.query),
            "authorization": request.headers.get("authorization"),
            "type": request.headers.get("content-type"),
            "body": (await request.body()).decode(),
        }
    )


ECHO = Route("/api/echo", _echo, methods=["GET", "POST"])


async def failure(client: HttpClient, path: str = "/echo") -> SourceError:
    with pytest.raises(SourceError) as caught:
        await client.call("GET", path)
    return caught.value


# -- what is sent -------------------------------------------------------------------------------------------------


async def test_a_call_sends_parameters_escaped_once_and_lists_in_short() -> None:
    async with client_of(ECHO) as (client, _):
        answer = await client.call("GET", "/echo?a=1", params=[("ids", "1,2"), ("where", 'x=="ü & é"')])

    assert msgspec.json.decode(answer.body)["query"] == "a=1&ids=1,2&where=x%3D%3D%22%C3%BC%20%26%20%C3%A9%22"


async def test_a_body_is_json_and_says_so() -> None:
    async with client_of(ECHO, auth=HeaderAuth("Bearer t")) as (client, _):
        answer = await client.call("POST", "/echo", json={"a": "ü"})

    sent = msgspec.json.decode(answer.body)
    assert (sent["authorization"], sent["type"], sent["body"]) == (
        "Bearer t",
        "application/json",
        '{"a":"ü"}',
    )


async def test_a_credential_with_a_line_break_is_refused_and_not_told() -> None:
    async with client_of(ECHO, auth=HeaderAuth("Bearer secret\n")) as (client, sandbox):
        error = await failure(client)

    assert type(error) is SourceRejected
    assert "settings" in str(error)
    assert "secret" not in str(error)
    assert sandbox.log.count() == 0


# -- time -----------------------------------------------------------------------------------------------------------


async def test_without_a_deadline_there_is_a_default_and_an_outer_deadline_stays() -> None:
    assert remaining() == DEFAULT_SECONDS
    with deadline(1):
        with deadline(50):
            assert remaining() <= 1
        with deadline(0):
            assert remaining() == 0
        assert 0 < remaining() <= 1


async def test_a_deadline_that_is_over_binds_nobody_who_still_has_its_context() -> None:
    with deadline(0):
        kept = copy_context()
        assert kept.run(remaining) == 0

    assert kept.run(remaining) == DEFAULT_SECONDS

    def later() -> float:
        with deadline(60):
            return remaining()

    assert kept.run(later) > DEFAULT_SECONDS


async def test_a_call_that_hangs_ends_at_the_deadline() -> None:
    async with client_of(ECHO) as (client, sandbox):
        sandbox.faults.add("hang")
        with deadline(0.2):
            error = await failure(client)

    assert type(error) is SourceTimeout


async def test_an_answer_that_never_ends_ends_at_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await reader.read()
        writer.close()

    async with raw(drip) as client:
        with deadline(0.2):
            error = await failure(client)

    assert type(error) is SourceTimeout


async def test_waiting_for_a_slot_takes_from_the_deadline_too() -> None:
    async with client_of(ECHO, parallel=1) as (client, sandbox):
        sandbox.faults.add("hang", times=1)
        with deadline(5):
            first = asyncio.create_task(client.call("GET", "/echo"))
            while not sandbox.log.calls():
                await asyncio.sleep(0)
        with deadline(0.2):
            error = await failure(client)
        assert type(error) is SourceTimeout
        assert sandbox.log.count() == 1

        sandbox.faults.clear()
        assert (await first).status == 200
        assert (await client.call("GET", "/echo")).status == 200


async def test_no_more_calls_run_at_once_than_the_source_allows() -> None:
    running, most = 0, 0
    both = asyncio.Event()

    async def counted(request: Incoming) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            both.set()
        await both.wait()
        running -= 1
        return Response()

    async with client_of(Route("/api/counted", counted), parallel=2) as (client, _):
        await asyncio.gather(*(client.call("GET", "/counted") for _ in range(6)))

    assert most == 2


# -- credentials ----------------------------------------------------------------------------------------------------


class Renewing:
    """Gives out token 1, then token 2 when asked to renew, and then no more."""

    def __init__(self, renewals: int) -> None:
        self.token, self.renewed, self._left = 1, 0, renewals

    async def authorise(self, request: Request) -> None:
        request.headers["Authorization"] = f"Bearer {self.token}"

    async def renew(self, request: Request) -> bool:
        self.renewed += 1
        if self._left == 0:
            return False
        self._left -= 1
        self.token += 1
        return True


def only(token: int) -> Route:
    async def guarded(request: Incoming) -> Response:
        good = request.headers["authorization"] == f"Bearer {token}"
        return JSONResponse({"body": (await request.body()).decode()}, 200 if good else 401)

    return Route("/api/echo", guarded, methods=["GET", "POST"])


async def test_a_refused_token_is_renewed_and_the_same_call_made_again() -> None:
    auth = Renewing(renewals=1)
    async with client_of(only(2), auth=auth) as (client, sandbox):
        answer = await client.call("POST", "/echo", json={"a": 1})

    assert msgspec.json.decode(answer.body) == {"body": '{"a":1}'}
    assert (auth.renewed, sandbox.log.count()) == (1, 2)


async def test_a_token_is_renewed_once_and_no_more() -> None:
    auth = Renewing(renewals=5)
    async with client_of(only(99), auth=auth) as (client, sandbox):
        error = await failure(client)

    assert type(error) is SourceRejected
    assert (auth.renewed, sandbox.log.count()) == (1, 2)


async def test_where_nothing_can_be_renewed_the_call_is_not_made_again() -> None:
    auth = Renewing(renewals=0)
    async with client_of(only(99), auth=auth) as (client, sandbox):
        error = await failure(client)

    assert type(error) is SourceRejected
    assert sandbox.log.count() == 1


# -- where it will not go -------------------------------------------------------------------------------------------


async def test_a_redirect_is_not_followed() -> None:
    async def away(request: Incoming) -> Response:
        return RedirectResponse("/api/echo")

    async with client_of(Route("/api/away", away), ECHO) as (client, sandbox):
        error = await failure(client, "/away")

    assert type(error) is SourceBadResponse
    assert [call.path for call in sandbox.log.calls()] == ["/api/away"]


async def test_a_next_link_on_the_same_host_is_followed() -> None:
    async with client_of(ECHO) as (client, _):
        answer = await client.call("GET", f"{client.base_url}/echo?after=1")

    assert msgspec.json.decode(answer.body)["query"] == "after=1"


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.2:{port}/api/echo",
        "https://127.0.0.1:{port}/api/echo",
        "http://127.0.0.1:1/api/echo",
        "http://127.0.0.1:{port}@evil.example/api/echo",
        "http://127.0.0.1:{port}.evil.example/api/echo",
        "http://user@127.0.0.1:{port}/api/echo",
    ],
)
async def test_a_next_link_to_another_host_is_refused(link: str) -> None:
    async with client_of(ECHO, auth=HeaderAuth("Bearer secret")) as (client, sandbox):
        port = client.base_url.removesuffix("/api").rpartition(":")[2]
        error = await failure(client, link.replace("{port}", port))

    assert type(error) is SourceBadResponse
    assert sandbox.log.count() == 0


async def test_a_source_sets_no_cookies() -> None:
    async def biscuits(request: Incoming) -> Response:
        answer = JSONResponse(dict(request.cookies))
        answer.set_cookie("session", "1")
        return answer

    async with client_of(Route("/api/biscuits", biscuits)) as (client, _):
        await client.call("GET", "/biscuits")
        assert (await client.call("GET", "/biscuits")).body == b"{}"


# -- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
async def test_an_answer_over_the_limit_is_refused_packed_or_not(
    zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1 << 20)

    async def large(request: Incoming) -> Response:
        body = b" " * (2 << 20)
        if zipped:
            return Response(gzip.compress(body), headers={"Content-Encoding": "gzip"})
        return Response(body)

    async with client_of(Route("/api/large", large)) as (client, _):
        error = await failure(client, "/large")

    assert type(error) is SourceBadResponse
    assert "larger than 1 MB" in str(error)


def packed(content: bytes, form: int) -> bytes:
    packing = zlib.compressobj(wbits=form)
    return packing.compress(content) + packing.flush()


@pytest.mark.parametrize("size", [1_000, 1_000_000])
@pytest.mark.parametrize(("name", "form"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
async def test_a_packed_answer_is_taken_only_whole(name: str, form: int, size: int) -> None:
    content = random.Random(size).randbytes(size)
    whole = packed(content, form)
    bodies = {"whole": whole, "cut": whole[:-1], "half": whole[: len(whole) // 2], "other": content}
    if name == "gzip":
        bodies["twice"] = whole + whole
        bodies["filled"] = whole + bytes(512)

    async def answer(request: Incoming) -> Response:
        return Response(bodies[request.path_params["which"]], headers={"Content-Encoding": name})

    found: dict[str, bytes | type[SourceError]] = {}
    async with client_of(Route("/api/{which}", answer)) as (client, _):
        for which in bodies:
            try:
                found[which] = (await client.call("GET", f"/{which}")).body
            except SourceError as error:
                found[which] = type(error)

    refused = dict.fromkeys(["cut", "half", "other"], SourceBadResponse)
    taken = {"whole": content, "twice": content * 2, "filled": content}
    assert found == refused | {which: body for which, body in taken.items() if which in bodies}


async def test_a_packed_answer_without_a_body_is_empty() -> None:
    async def answer(request: Incoming) -> Response:
        return Response(gzip.compress(b"content"), headers={"Content-Encoding": "gzip"})

    async with client_of(Route("/api/head", answer, methods=["HEAD"])) as (client, _):
        assert (await client.call("HEAD", "/head")).body == b""


async def test_an_answer_that_breaks_off_is_a_bad_one() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":')
        await writer.drain()
        writer.close()

    async with raw(cut) as client:
        error = await failure(client)

    assert type(error) is SourceBadResponse


async def test_a_connection_that_is_cut_before_the_answer_is_a_source_that_is_down() -> None:
    async with client_of(ECHO) as (client, sandbox):
        sandbox.faults.add("drop")
        error = await failure(client)

    assert type(error) is SourceUnavailable


async def test_a_host_that_refuses_connections_is_a_source_that_is_down() -> None:
    async with client_of(ECHO) as (client, _):
        pass
    error = await failure(client)
    await client.close()

    assert type(error) is SourceUnavailable
    assert str(error) == "vendor: could not be reached (Could not connect to server)"


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, InvalidRequest),
        (401, SourceRejected),
        (403, SourceRejected),
        (404, InvalidRequest),
        (408, SourceUnavailable),
        (429, SourceRateLimited),
        (304, SourceBadResponse),
        (500, SourceUnavailable),
        (503, SourceUnavailable),
    ],
)
async def test_each_status_is_of_its_family(status: int, family: type[SourceError]) -> None:
    async def answer(request: Incoming) -> Response:
        return Response(status_code=status, headers={"Retry-After": "7"})

    async with client_of(Route("/api/answer", answer)) as (client, _):
        error = await failure(client, "/answer")

    assert type(error) is family
    assert error.retry_after == (7.0 if status in (408, 429, 500, 503) else None)


async def test_the_vendors_own_words_come_before_the_status() -> None:
    async def angry(request: Incoming) -> Response:
        return JSONResponse({"code": "E7"}, 400)

    def explain(answer: Answer) -> SourceError:
        code = msgspec.json.decode(answer.body)["code"]
        return SourceRateLimited("vendor", "slow down", vendor_code=code)

    sandbox = Sandbox("vendor", [Route("/angry", angry)])
    async with serve(sandbox) as running:
        client = HttpClient("vendor", running.url, auth=NoAuth(), traffic=loopback(1), explain=explain)
        error = await failure(client, "/angry")
        await client.close()

    assert (type(error), error.vendor_code) == (SourceRateLimited, "E7")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}

    assert retry_after(Answer(429, headers, b"")) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(60, 50, 60), (-60, 0, 0)])
def test_retry_after_as_a_date(ahead: int, low: float, high: float) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)

    seconds = retry_after(Answer(429, {"retry-after": when}, b""))

    assert seconds is not None
    assert low <= seconds <= high


def test_retry_after_as_a_date_without_a_zone_is_read_as_utc() -> None:
    when = (datetime.now(UTC) - timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S -0000")

    assert retry_after(Answer(429, {"retry-after": when}, b"")) == 0.0


class Thing(msgspec.Struct):
    """What a test expects."""

    size: int


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"size": "secret"}', b"\xff\xfe"])
async def test_an_answer_of_the_wrong_form_is_a_bad_one_and_its_values_are_not_told(body: bytes) -> None:
    client = HttpClient("vendor", "http://127.0.0.1", auth=NoAuth(), traffic=loopback(1))

    with pytest.raises(SourceBadResponse) as caught:
        client.decode(Answer(200, {}, body), msgspec.json.Decoder(Thing))

    assert "secret" not in str(caught.value)


@asynccontextmanager
async def raw(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[HttpClient]:
    """A client of a server that writes what it likes."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient("vendor", f"http://127.0.0.1:{port}", auth=NoAuth(), traffic=loopback(4))
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


# -- an answer that nobody asked for ------------------------------------------------------------------------------


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_ones() -> None:
    """As a front end sends one that mixes up its connections, or says of an idle one that it is tired of it."""
    first_read, strayed = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
            await first_read.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother")
            await writer.drain()
            strayed.set()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)
        writer.close()

    async with await asyncio.start_server(quietly, "127.0.0.1") as vendor:
        port = vendor.sockets[0].getsockname()[1]
        client = HttpClient("vendor", f"http://127.0.0.1:{port}", auth=NoAuth(), traffic=loopback(4))
        try:
            first = await client.call("GET", "/first")
            first_read.set()
            async with asyncio.timeout(10):
                await strayed.wait()
            answers = [first, await client.call("GET", "/second")]
        finally:
            await client.close()

    assert [answer.body for answer in answers] == [b"/first", b"/second"]
