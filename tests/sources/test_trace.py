"""What a trace says of calls to a vendor: attempts, pauses, waits and refusals; and nothing once its request is answered."""

import asyncio
import contextvars

import pytest
from starlette.requests import Request as Incoming
from starlette.responses import Response
from starlette.routing import Route

from sources.ports.errors import SourceRateLimited, SourceUnavailable
from sources.ports.trace import UNSEEN, Span, Trace, here, span, unseen
from sources.sandbox.server import Sandbox, serve
from sources.transport.caller import Urgency, calling_for
from sources.transport.deadline import deadline
from sources.transport.http import HttpClient, NoAuth
from sources.transport.limits import Limit, SourceSettings
from sources.transport.oauth import ClientCredentials
from sources.transport.traffic import Traffic

LOOPBACK = SourceSettings(private_addresses=("127.0.0.1",), breaker_failures=3)


async def _fine(request: Incoming) -> Response:
    return Response(b"{}")


async def _token(request: Incoming) -> Response:
    return Response(b'{"access_token": "canary", "token_type": "Bearer", "expires_in": 3600}')


def sandbox() -> Sandbox:
    return Sandbox(
        "vendor",
        [Route("/token", _token, methods=["POST"]), Route("/{path:path}", _fine, methods=["GET", "POST"])],
    )


def told(spans: list[Span], *numbers: str) -> list[tuple[object, ...]]:
    """Kind, name, error, and these numbers of each."""
    return [
        (one.kind, one.name, one.error, *(one.numbers.get(number) for number in numbers)) for one in spans
    ]


async def test_attempts_pauses_and_what_is_kept_away_by_a_breaker_are_told_apart() -> None:
    box, trace = sandbox(), Trace()
    async with serve(box) as running:
        traffic = Traffic("vendor", parallel=4, settings=LOOPBACK)
        client = HttpClient("vendor", running.url, auth=NoAuth(), traffic=traffic)
        box.faults.add("fail", "/")
        with trace.begin("operation", "x"):
            for _ in range(3):
                with pytest.raises(SourceUnavailable):
                    await client.call("GET", "/canary/1", params=[("q", "canary")], route="things/{id}")
        await client.close()
    spans = trace.close()[1:]
    call, failed = ("call", "GET things/{id}"), "SOURCE_UNAVAILABLE"
    assert told(spans, "attempt", "status") == [
        (*call, failed, 1, 500),
        ("retry", "vendor before another attempt", None, None, None),
        (*call, failed, 2, 500),
        (*call, failed, 1, 500),
        ("breaker", "vendor is left alone", failed, None, None),
    ]
    assert trace.cost == {"vendor": 3}
    assert "canary" not in str([(one.name, one.numbers) for one in spans])


async def test_a_route_that_nobody_states_is_not_told() -> None:
    box, trace = sandbox(), Trace()
    async with serve(box) as running:
        client = HttpClient(
            "vendor", running.url, auth=NoAuth(), traffic=Traffic("vendor", parallel=4, settings=LOOPBACK)
        )
        with trace.begin("operation", "x"):
            await client.call("GET", "/canary/1")
        await client.close()
    _, call = trace.close()
    assert call.name == "GET"
    assert "canary" not in str(call.numbers)


async def test_a_wait_is_told_by_its_limit_and_its_urgency() -> None:
    box, trace = sandbox(), Trace()
    minute = Limit("minute", calls=2, seconds=60.0)
    async with serve(box) as running:
        traffic = Traffic("vendor", parallel=1, limits=[minute], settings=LOOPBACK)
        client = HttpClient("vendor", running.url, auth=NoAuth(), traffic=traffic)
        box.faults.add("hang", "/", times=1)
        with trace.begin("operation", "x"), calling_for(Urgency.INTERACTIVE):
            first = asyncio.create_task(client.call("GET", "/", route="first"))
            second = asyncio.create_task(client.call("GET", "/", route="second"))
            while not traffic.state().waiting:
                await asyncio.sleep(0.005)
            box.faults.clear()
            await asyncio.gather(first, second)
            with deadline(0.2), pytest.raises(SourceRateLimited):
                await client.call("GET", "/", route="third")
        await client.close()
    waits = [one for one in trace.close() if one.kind == "wait"]
    assert told(waits, "limit", "class") == [("wait", "vendor parallel", None, "parallel", "interactive")]


async def test_an_access_token_that_is_waited_for_is_told_once_and_without_it() -> None:
    box, trace = sandbox(), Trace()
    async with serve(box) as running:
        traffic = Traffic("vendor", parallel=4, settings=LOOPBACK)
        auth = ClientCredentials(
            "vendor", f"{running.url}/token", "client", "canary-secret", addresses=traffic.addresses
        )
        client = HttpClient("vendor", running.url, auth=auth, traffic=traffic)
        with trace.begin("operation", "x"):
            for _ in range(2):
                await client.call("GET", "/", route="things")
        await client.close()
    spans = trace.close()[1:]
    assert [one.kind for one in spans] == ["oauth", "call", "call"]
    assert "canary" not in str([(one.name, one.numbers) for one in spans])


# -- a trace of one request ---------------------------------------------------------------------------------------------


def test_where_nobody_looks_nothing_is_made() -> None:
    assert here() is None
    with span("call", "x", bytes=1) as made:
        made.note(status=200)
        made.failed("INTERNAL")
        made.spent("vendor")
        assert here() is None
    assert made is UNSEEN
    assert UNSEEN.traceparent_to("vendor") is None


def test_spans_nest_and_what_is_unseen_is_nobodys() -> None:
    trace = Trace()
    with trace.begin("operation", "x") as outer:
        with span("batch", "y") as inner:
            assert here() is inner
            with unseen():
                assert span("call", "z") is UNSEEN
        assert here() is outer
    assert here() is None
    assert [(one.name, one.parent) for one in trace.close()] == [("x", None), ("y", 1)]


def test_what_outlives_a_request_writes_nothing_into_it() -> None:
    trace = Trace()
    with trace.begin("operation", "x"):
        kept = contextvars.copy_context()
    spans = trace.close()
    assert kept.run(span, "call", "late") is UNSEEN
    assert len(spans) == 1
    assert trace.spans == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceRateLimited("vendor", "canary"), "SOURCE_RATE_LIMITED"),
        (asyncio.CancelledError("canary"), "CANCELLED"),
        (ValueError("canary"), "INTERNAL"),
    ],
)
def test_a_failure_is_told_by_a_code_of_ours(error: BaseException, code: str) -> None:
    trace = Trace()
    with pytest.raises(type(error)), trace.begin("operation", "x"):
        raise error
    (one,) = trace.close()
    assert one.error == code


def test_ids_are_those_of_the_trace_and_differ_between_its_spans() -> None:
    trace = Trace(int("0af7651916cd43dd8448eb211c80319c", 16), None, frozenset({"vendor"}))
    first, second = trace.begin("call", "a"), trace.begin("call", "b")
    assert first.external_id != second.external_id != 0
    assert (
        first.traceparent_to("vendor") == f"00-0af7651916cd43dd8448eb211c80319c-{first.external_id:016x}-01"
    )
    assert first.traceparent_to("other") is None
    assert Trace().begin("call", "c").traceparent_to("vendor") is None
