"""Traces as a collector receives them: what is in them and how it nests, whose they continue, and that nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from gateway import otlp, telemetry
from gateway.check import check_telemetry
from gateway.demo import settings_for
from gateway.otlp import OtlpExport
from gateway.settings import Settings, Telemetry
from gateway.tracing import Tracing
from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from sources.registry import Kind
from sources.sandbox.world import World
from tests.canaries import CANARY, Ids, marked_world, personas, seen
from tests.collector import Collector, Span, open_collector
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.streams.client import signed_in, streaming

HOME = """query Home($id: ID!) { account(id: $id) {
  name openTicketCount invoices(first: 5) { nodes { number } } tickets(first: 5) { nodes { subject } }
} }"""
INVOICES = """query Invoices($id: ID!) { account(id: $id) {
  few: invoices(first: 2) { nodes { number } } many: invoices(first: 9) { nodes { number } }
} }"""

LONG = Lifetimes(
    seconds=KindSeconds(accounts=600, invoices=600, tickets=600, contacts=600, documents=600), jitter=0.0
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running_collector() -> AsyncIterator[Collector]:
    async with open_collector() as collector:
        yield collector


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(running_collector: Collector, postgres: str) -> AsyncIterator[Door]:
    """Every text of every record says whose it is. Xero takes one call at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp, "EVERY_SECONDS", 0.05)
        async with (
            fresh_database(postgres) as url,
            open_door(
                marked_world(0.05),
                url,
                personas=personas(),
                cache=LONG,
                settings=lambda urls: _settings(urls, running_collector.url),
            ) as door,
        ):
            yield door


def _settings(urls: Any, collector: str, **more: Any) -> Settings:
    settings = settings_for(urls)
    xero = settings.sources[Kind.ERP]
    slow = msgspec.structs.replace(xero.settings, limits={**xero.settings.limits, "concurrent": 1})
    return msgspec.structs.replace(
        settings,
        sources={**settings.sources, Kind.ERP: msgspec.structs.replace(xero, settings=slow)},
        telemetry=Telemetry(
            endpoint=collector,
            sample_ratio=1.0,
            service_name="portal-gateway",
            headers={"X-Collector-Key": "canary-collector"},
            attributes={"deployment.environment.name": "tests"},
            **more,
        ),
    )


@pytest_asyncio.fixture
async def collector(running_collector: Collector) -> Collector:
    return running_collector


@pytest_asyncio.fixture
async def door(traced: Door, running_collector: Collector) -> AsyncIterator[Door]:
    """Nothing is remembered, and what the collector had is forgotten."""
    cache, tracing = traced.office.cache, traced.office.tracing
    assert cache is not None
    cache.forget()
    traced.forget_calls()
    running_collector.forget()
    yield traced
    traced.heal()
    traced.office.tracing = tracing
    cache.clock = lambda: datetime.now(UTC).timestamp()


async def ask(door: Door, query: str = HOME, persona: str = "owner-harbour", **headers: str) -> Answer:
    return await door.ask(persona, query, {"id": door.account_id(0)}, headers=headers)


def whole(spans: list[Span]) -> bool:
    """A trace leaves all at once."""
    return any(span.name == "POST /graphql" for span in spans)


def above(spans: list[Span], span: Span) -> list[str]:
    """Names from the span up to the trace's first."""
    by_id = {one.id: one for one in spans}
    names = [span.name]
    while span.parent in by_id:
        span = by_id[span.parent]
        names.append(span.name)
    return names


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


# -- what is in a trace -----------------------------------------------------------------------------------------------


async def test_a_request_is_one_trace_from_the_door_to_the_vendors(door: Door, collector: Collector) -> None:
    door.boxes["xero"].faults.add("hang", "/api.xro", times=1)
    asking = asyncio.create_task(ask(door, INVOICES))
    while not door.office.network.states()["xero"][0].waiting:
        await asyncio.sleep(0.005)
    door.heal()
    assert (await asking).errors == []
    spans = await collector.trace(whole)
    calls = named(spans, "GET Invoices")
    assert sorted(len(above(spans, call)) for call in calls) == [5, 5]
    for call in calls:
        assert above(spans, call) == [
            "GET Invoices",
            "cache xero invoices",
            "batch invoices_of",
            "query",
            "POST /graphql",
        ]
    (wait,) = named(spans, "wait xero concurrent")
    assert above(spans, wait)[1:] == ["cache xero invoices", "batch invoices_of", "query", "POST /graphql"]
    # The call that had to wait began when it had its place.
    later = next(call for call in calls if call.parent == wait.parent)
    assert later.began >= wait.ended
    for name in ("plan plan", "parse document", "context caller's view", "encode answer"):
        (span,) = named(spans, name)
        assert above(spans, span)[1:] == ["query", "POST /graphql"]
    by_id = {span.id: span for span in spans}
    for span in spans:
        assert span.ended >= span.began
        if parent := by_id.get(span.parent):
            assert parent.began <= span.began <= span.ended <= parent.ended, (span, parent)
    assert [span.name for span in spans if span.parent not in by_id] == ["POST /graphql"]


async def test_spans_speak_opentelemetrys_own_words(door: Door, collector: Collector) -> None:
    answer = await ask(door, HOME)
    spans = await collector.trace(whole)
    (request,), (operation,) = named(spans, "POST /graphql"), named(spans, "query")
    assert (request.kind, request.parent, request.failed) == ("SERVER", "", False)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/graphql",
        "http.response.status_code": 200,
    }
    assert operation.kind == "SERVER"
    assert operation.attributes == {
        "graphql.operation.type": "query",
        "graphql.operation.name": "Home",
        "gateway.request.id": {name.lower(): value for name, value in answer.headers.items()}["x-request-id"],
    }
    call = named(spans, "GET Invoices")[0]
    assert call.kind == "CLIENT"
    sent = call.attributes
    assert (sent["http.request.method"], sent["url.template"], sent["server.address"]) == (
        "GET",
        "Invoices",
        "127.0.0.1",
    )
    assert (sent["http.response.status_code"], sent["gateway.source"], sent["gateway.cost"]) == (
        200,
        "xero",
        1,
    )
    assert sent["http.response.body.size"] > 0
    (batch,) = named(spans, "batch tickets_of")
    assert batch.attributes == {"gateway.type": "Ticket", "gateway.batch.keys": 1}
    resource = collector.resources[-1]
    assert resource["service.name"] == "portal-gateway"
    assert resource["deployment.environment.name"] == "tests"
    assert collector.headers[-1]["X-Collector-Key"] == "canary-collector"


async def test_a_call_that_fails_and_its_retry_are_two_calls_and_a_wait_between(
    door: Door, collector: Collector
) -> None:
    door.boxes["xero"].faults.add("fail", "/api.xro", times=1)
    assert (
        await ask(door, "query($id: ID!) { account(id: $id) { invoices(first: 1) { nodes { id } } } }")
    ).errors == []
    spans = await collector.trace(whole)
    first, second = sorted(named(spans, "GET Invoices"), key=lambda span: span.began)
    (pause,) = named(spans, "retry xero before another attempt")
    assert first.failed
    assert not second.failed
    assert (first.attributes["error.type"], first.attributes["gateway.error.code"]) == (
        "500",
        "SOURCE_UNAVAILABLE",
    )
    assert "http.request.resend_count" not in first.attributes
    assert second.attributes["http.request.resend_count"] == 1
    assert first.ended <= pause.began <= pause.ended <= second.began
    assert first.parent == pause.parent == second.parent


async def test_a_source_that_is_away_marks_the_operation(door: Door, collector: Collector) -> None:
    door.boxes["xero"].faults.add("fail", "/api.xro")
    await ask(door)
    spans = await collector.trace(whole)
    (operation,) = named(spans, "query")
    assert operation.failed
    assert operation.attributes["error.type"] == "SOURCE_UNAVAILABLE"
    # Over HTTP it went well: the rest of the page was answered.
    assert not named(spans, "POST /graphql")[0].failed


async def test_lines_in_the_log_name_the_trace_of_their_request(door: Door, collector: Collector) -> None:
    door.boxes["xero"].faults.add("fail", "/api.xro")
    with capture_logs(processors=[telemetry.merge_trace_id]) as lines:
        await ask(door)
    (request,) = named(await collector.trace(whole), "POST /graphql")
    (line,) = [line for line in lines if line["event"] == "source_error"]
    assert line["trace_id"] == request.trace


async def test_who_is_not_let_in_is_traced_without_an_operation(door: Door, collector: Collector) -> None:
    assert (await door.ask(None, HOME, token="nonsense")).status == 401
    spans = await collector.trace(whole)
    assert [(span.name, span.attributes["http.response.status_code"]) for span in spans] == [
        ("POST /graphql", 401)
    ]


async def test_what_everybody_may_ask_is_an_operation_as_well(door: Door, collector: Collector) -> None:
    assert (await door.ask(None, "{ signIn { __typename } }")).errors == []
    spans = await collector.trace(whole)
    (operation,) = named(spans, "query")
    assert above(spans, operation) == ["query", "POST /graphql"]


async def test_a_file_is_traced_without_its_address(door: Door, collector: Collector) -> None:
    await door.fetch("owner-harbour", "/files/canary-secret")
    spans = await collector.trace(lambda found: any(span.name.startswith("GET /files") for span in found))
    assert spans[0].name == "GET /files/{token}"
    assert b"canary-secret" not in b"".join(collector.bodies)


async def test_operations_of_an_open_connection_have_traces_of_their_own(
    door: Door, collector: Collector
) -> None:
    query = "query Sockets { viewer { id } }"
    async with signed_in(door, "owner-harbour") as socket:
        for id_ in ("1", "2"):
            await socket.subscribe(query, id_)
            await socket.told(id_)
            assert await socket.hear() == {"id": id_, "type": "complete"}
    await collector.until(lambda spans: len(named(spans, "stream operation")) == 2)
    first, second = named(collector.spans, "stream operation")
    assert first.trace != second.trace
    for stream in (first, second):
        (operation,) = [span for span in named(collector.spans, "query") if span.trace == stream.trace]
        assert operation.parent == stream.id
        assert operation.attributes["graphql.operation.name"] == "Sockets"


async def test_events_of_a_stream_are_traced_one_by_one_and_point_at_their_request(
    door: Door, collector: Collector
) -> None:
    async with streaming(door, "owner-harbour", "subscription Watch { viewer { id } }") as events:
        assert (await events.hear())[0] == "next"
    await collector.until(lambda spans: named(spans, "subscription") and named(spans, "POST /graphql"))
    (request,) = named(collector.spans, "POST /graphql")
    for event in named(collector.spans, "subscription"):
        assert event.attributes["graphql.operation.name"] == "Watch"
        (stream,) = [span for span in named(collector.spans, "stream operation") if span.id == event.parent]
        assert stream.trace != request.trace
        assert [trace for trace, _ in stream.links] == [request.trace]


# -- what is shared ---------------------------------------------------------------------------------------------------


async def test_of_two_requests_that_share_a_call_one_has_it_and_the_other_points_there(
    door: Door, collector: Collector
) -> None:
    cache = door.office.cache
    assert cache is not None
    query = "query %s($id: ID!) { account(id: $id) { invoices(first: 3) { nodes { number } } } }"
    # Accounts are remembered, so that nothing else is shared.
    await ask(door, "query($id: ID!) { account(id: $id) { id } }")
    await collector.trace(whole)
    collector.forget()
    before = cache.joined["xero"]
    door.boxes["xero"].faults.add("hang", "/api.xro", times=1)
    door.forget_calls()
    first = asyncio.create_task(ask(door, query % "First"))
    while not door.boxes["xero"].log.calls():
        await asyncio.sleep(0.005)
    second = asyncio.create_task(ask(door, query % "Second"))
    while cache.joined["xero"] == before:
        await asyncio.sleep(0.005)
    door.heal()
    one, two = await first, await second
    assert one.data == two.data
    assert door.calls()["xero"] == 1

    await collector.until(lambda spans: len(named(spans, "POST /graphql")) == 2)
    traces: dict[str, list[Span]] = {}
    for span in collector.spans:
        traces.setdefault(span.trace, []).append(span)
    by_name = {
        named(spans, "query")[0].attributes["graphql.operation.name"]: spans for spans in traces.values()
    }
    (call,) = named(collector.spans, "GET Invoices")
    (made,), (joined,) = (named(by_name[name], "cache xero invoices") for name in ("First", "Second"))
    assert (call.trace, call.parent) == (made.trace, made.id)
    assert (made.attributes["gateway.cache.shared"], made.links) == (False, ())
    assert joined.attributes["gateway.cache.shared"] is True
    assert joined.links == ((made.trace, made.id),)
    assert joined.attributes["gateway.cache.live"] == 1


async def test_what_is_read_ahead_is_in_nobodys_trace(door: Door, collector: Collector) -> None:
    cache = door.office.cache
    assert cache is not None
    await ask(door)
    await collector.trace(whole)
    collector.forget()
    door.forget_calls()
    cache.clock = lambda: datetime.now(UTC).timestamp() + 602
    await ask(door)
    spans = await collector.trace(whole)
    assert {span.attributes["gateway.cache.cached"] for span in spans if span.name.startswith("cache")} == {1}
    while not door.calls()["xero"]:
        await asyncio.sleep(0.005)
    await ask(door, "{ viewer { id } }")
    await collector.until(lambda spans: len(named(spans, "POST /graphql")) == 2)
    assert [
        span for span in collector.spans if span.kind == "CLIENT" and "gateway.source" in span.attributes
    ] == []


# -- whose traces go on -----------------------------------------------------------------------------------------------

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def _tracing(door: Door, **settings: Any) -> Tracing:
    telemetry = msgspec.structs.replace(door.office.settings.telemetry, **settings)
    return Tracing(telemetry, (), door.office.tracing._export)


async def test_a_strangers_traceparent_is_not_taken_up(door: Door, collector: Collector) -> None:
    await ask(door, traceparent=f"00-{TRACE}-{PARENT}-01")
    (request,) = named(await collector.trace(whole), "POST /graphql")
    assert request.trace != TRACE
    assert request.parent == ""


async def test_a_trusted_callers_trace_goes_on(door: Door, collector: Collector) -> None:
    door.office.tracing = _tracing(door, trusted_callers=("127.0.0.0/8",), sample_ratio=0.0)
    await ask(door, traceparent=f"00-{TRACE}-{PARENT}-01")
    (request,) = named(await collector.trace(whole), "POST /graphql")
    assert (request.trace, request.parent) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "said",
    [
        f"00-{TRACE}-{PARENT}-00",  # the caller does not record it
        "",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        "canary",
    ],
)
async def test_what_a_trusted_caller_does_not_record_or_misspells_is_left_to_the_ratio(
    door: Door, collector: Collector, said: str
) -> None:
    door.office.tracing = _tracing(door, trusted_callers=("127.0.0.0/8",), sample_ratio=0.0)
    assert (await ask(door, traceparent=said)).errors == []
    door.office.tracing = _tracing(door)
    await ask(door, "{ viewer { id } }")
    await collector.trace(whole)
    assert len(named(collector.spans, "POST /graphql")) == 1


async def test_only_vendors_that_are_named_are_told_of_the_trace(door: Door, collector: Collector) -> None:
    door.office.tracing = _tracing(door, traceparent_to=("xero",))
    for box in door.boxes.values():
        box.log.record_bodies = True
    try:
        await ask(door)
    finally:
        for box in door.boxes.values():
            box.log.record_bodies = False
    spans = await collector.trace(whole)
    told = {
        vendor: {dict(call.request_headers).get("traceparent") for call in box.log.calls()}
        for vendor, box in door.boxes.items()
        if box.log.calls()
    }
    calls = {
        f"00-{span.trace}-{span.id}-01" for span in spans if span.attributes.get("gateway.source") == "xero"
    }
    assert told.pop("xero") <= calls
    assert told.keys() >= {"hubspot", "zendesk"}
    assert set.union(*told.values()) == {None}


# -- what is never in one ---------------------------------------------------------------------------------------------


async def test_no_span_has_anything_that_is_anybodys(door: Door, collector: Collector) -> None:
    everything = """query Everything($id: ID!) {
      account(id: $id) { name phone
        contacts(first: 5) { nodes { id email firstName } }
        invoices(first: 5) { nodes { id number reference } }
        tickets(first: 5) { nodes { id subject comments(first: 5) { nodes { body } } } }
        documents(first: 5) { nodes { id title } } }
      node(id: $id) { id } searchArticles(text: "canary-question", first: 3) { nodes { title } }
    }"""
    for persona in ("owner-harbour", "admin", "owner-moeller"):
        answer = await door.ask(
            persona, everything, {"id": door.account_id(0)}, headers={"Cookie": "canary=1"}
        )
        assert "data" in answer.body, answer.errors
    await collector.until(lambda spans: len(named(spans, "POST /graphql")) == 3)
    ids = Ids(door.world)
    told = [[span.name, dict(span.attributes), span.links] for span in collector.spans]
    assert seen(told, ids) == (frozenset(), frozenset())
    for body in collector.bodies:
        assert not CANARY.search(body.decode("latin-1"))
        assert b"Bearer" not in body


# -- nobody waits for it ----------------------------------------------------------------------------------------------


async def test_a_collector_that_hangs_costs_no_request_its_answer(
    door: Door, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "WAITING_SPANS", 40)
    export = door.office.tracing._export
    assert isinstance(export, OtlpExport)
    before = export.outcomes["dropped",]
    collector.asked.clear()
    collector.answering.clear()
    try:
        while export.outcomes["dropped",] == before:
            assert (await ask(door)).errors == []
        assert collector.asked.is_set() or export.outcomes["dropped",] > before
    finally:
        collector.answering.set()
    await collector.trace(whole)


async def test_a_collector_that_refuses_costs_no_request_its_answer(door: Door, collector: Collector) -> None:
    export = door.office.tracing._export
    assert isinstance(export, OtlpExport)
    before = export.outcomes["dropped",]
    collector.status = 403
    try:
        while export.outcomes["dropped",] == before:
            assert (await ask(door)).errors == []
            await asyncio.sleep(0.01)
    finally:
        collector.status = 200
    collector.forget()
    await ask(door)
    await collector.trace(whole)


@pytest.mark.parametrize("hanging", [False, True])
async def test_a_gateway_that_ends_sends_what_is_left_and_waits_for_no_collector(
    world: World, database_url: str, monkeypatch: pytest.MonkeyPatch, hanging: bool
) -> None:
    monkeypatch.setattr(otlp, "EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 1.0 if hanging else 20.0)
    async with open_collector() as collector:
        if hanging:
            collector.answering.clear()
        async with open_door(
            world,
            database_url,
            matched=False,
            settings=lambda urls: _settings(urls, collector.url, timeout=60.0),
        ) as door:
            assert (await ask(door, "{ viewer { id } }")).errors == []
        assert collector.asked.is_set()
        assert bool(collector.spans) is not hanging


async def test_a_collector_is_checked_where_there_is_one() -> None:
    async with open_collector() as collector:
        there = await check_telemetry(Telemetry(endpoint=collector.url))
        collector.status = 403
        refusing = await check_telemetry(Telemetry(endpoint=collector.url, headers={"X-Key": "canary-key"}))
    away = await check_telemetry(Telemetry(endpoint="http://127.0.0.1:1", timeout=0.5))

    assert ((await check_telemetry(Telemetry())).ok, there.ok, refusing.ok, away.ok) == (
        None,
        True,
        False,
        False,
    )
    assert "takes traces, of 10% of requests" in there.detail
    assert "403" in refusing.detail
    assert "see [telemetry]" in away.detail
    assert "canary" not in refusing.detail


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://collector/", "https://collector/v1/traces"),
        ("https://vendor.example/otlp/v1/traces", "https://vendor.example/otlp/v1/traces"),
    ],
)
def test_a_collectors_address_stands_for_its_usual_path(endpoint: str, place: str) -> None:
    assert otlp.address(endpoint) == place


async def test_the_metrics_count_what_the_collector_took(door: Door, collector: Collector) -> None:
    await ask(door, "{ viewer { id } }")
    await collector.trace(whole)
    _, _, page = await door.fetch("admin", "/metrics")
    counted = dict(
        line.rsplit(" ", 1) for line in page.decode().splitlines() if "trace_spans" in line and line[0] != "#"
    )
    assert float(counted['gateway_trace_spans_total{outcome="sent"}']) >= 6
