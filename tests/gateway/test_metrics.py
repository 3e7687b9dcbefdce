"""GET /metrics through the door: what moves when something happens, what does not, in whose words, and who may read it."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit import Done
from gateway.demo import settings_for
from gateway.settings import Door as DoorSettings
from gateway.settings import RedisSettings, Settings
from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from sources.registry import Kind
from sources.sandbox.world import World
from sources.transport.deadline import deadline
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.redis_server import redis_server
from tests.streams.client import signed_in, streaming

HOME = """query($id: ID!) { account(id: $id) {
  name invoices(first: 5) { nodes { number } } tickets(first: 5) { nodes { subject } } documents(first: 5) { nodes { title } }
} }"""

Series = tuple[str, frozenset[tuple[str, str]]]
Scrape = Mapping[Series, float]

NOT_OURS = ("process_", "python_")


async def scrape(door: Door, persona: str | None = "support") -> Scrape:
    """Every sample by its name and labels. Fails where a series comes twice."""
    status, headers, body = await door.fetch(persona, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    samples = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    ]
    assert len(dict(samples)) == len(samples)
    return dict(samples)


def series(name: str, **labels: str) -> Series:
    return f"gateway_{name}", frozenset(labels.items())


class Moved:
    """What has changed between two scrapes."""

    def __init__(self, before: Scrape, after: Scrape) -> None:
        self.before, self.after = before, after

    def by(self, name: str, **labels: str) -> float:
        """How much more it is by now."""
        return self.after.get(series(name, **labels), 0) - self.before.get(series(name, **labels), 0)

    def which(self, name: str, *labels: str) -> dict[Any, float]:
        """Of one name, what its series have moved by, summed by these labels; those at rest are left out."""
        found: dict[Any, float] = {}
        for one, value in self.after.items():
            if one[0] == f"gateway_{name}" and (moved := value - self.before.get(one, 0)):
                told = tuple(dict(one[1])[label] for label in labels)
                key = told[0] if len(told) == 1 else told
                found[key] = found.get(key, 0) + moved
        return found


def xero_by_the_minute(urls: Mapping[str, str]) -> Settings:
    """Twenty calls a minute, any of which the first who asks may have."""
    settings = settings_for(urls)
    erp = settings.sources[Kind.ERP]
    changed = msgspec.structs.replace(
        erp.settings, limits={"minute": 20, "day": "unlimited"}, dashboard_share=1.0, organisation_share=1.0
    )
    return msgspec.structs.replace(
        settings,
        sources={**settings.sources, Kind.ERP: msgspec.structs.replace(erp, settings=changed)},
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def opened(world: World, postgres: str) -> AsyncIterator[Door]:
    """Remembers nothing, so that each request calls."""
    async with fresh_database(postgres) as url, open_door(world, url, deadline=1.5) as door:
        yield door


@pytest_asyncio.fixture
async def watched(opened: Door) -> AsyncIterator[Door]:
    yield opened
    opened.heal()


async def home(door: Door, persona: str = "owner-harbour", account: int = 0, **headers: str) -> Any:
    return await door.ask(persona, HOME, {"id": door.account_id(account)}, headers=headers)


# -- calls to sources ------------------------------------------------------------------------------------------------


async def test_a_page_counts_one_call_of_each_kind_with_its_duration_and_nothing_else(watched: Door) -> None:
    await home(watched)  # whoever is matched or has a token by now is so in the next one, too
    before = await scrape(watched)
    watched.forget_calls()
    assert (await home(watched)).errors == []
    calls = watched.calls()
    moved = Moved(before, await scrape(watched))

    counted = moved.which("source_calls_total", "source", "outcome")
    assert counted == {(source, "ok"): float(count) for source, count in calls.items() if count}
    timed = moved.which("source_call_duration_seconds_count", "source", "endpoint")
    assert {source for source, _ in timed} == {source for source, _ in counted}
    assert sum(timed.values()) == sum(counted.values())
    assert all(seconds > 0 for seconds in moved.which("source_call_duration_seconds_sum", "source").values())
    waited = moved.which("source_budget_wait_seconds_count", "source", "urgency")
    assert waited == {(source, "interactive"): count for (source, _), count in counted.items()}
    for quiet in ("source_failures_total", "source_retries_total", "source_budget_refusals_total"):
        assert moved.which(quiet, "source") == {}


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        ("fail", "unavailable", "SOURCE_UNAVAILABLE"),
        ("drop", "unavailable", "SOURCE_UNAVAILABLE"),
        ("hang", "timeout", "SOURCE_TIMEOUT"),
        ("rate_limit", "rate_limited", "SOURCE_RATE_LIMITED"),
        ("garbage", "ok", "SOURCE_BAD_RESPONSE"),
    ],
)
async def test_a_fault_moves_its_own_sources_series_and_no_others(
    watched: Door, fault: Any, outcome: str, code: str
) -> None:
    await home(watched)
    before = await scrape(watched)
    watched.boxes["xero"].faults.add(fault, **({"retry_after": 30} if fault == "rate_limit" else {}))
    answer = await home(watched)
    assert answer.codes() == [("account.invoices", code)]
    moved = Moved(before, await scrape(watched))

    bad = {one for one in moved.which("source_calls_total", "source", "outcome") if one[1] != "ok"}
    assert bad == ({("xero", outcome)} if outcome != "ok" else set())
    assert moved.which("source_failures_total", "source", "code") == {("xero", code): 1}
    assert set(moved.which("source_retries_total", "source")) <= {"xero"}
    assert moved.by("operation_duration_seconds_count", kind="query", outcome="partial") == 1
    assert moved.by("operations_incomplete_total", kind="query") == (code == "SOURCE_TIMEOUT")
    assert moved.by("operations_late_total") == 0
    assert moved.which("scope_violations_total", "source") == {}


async def test_retries_are_counted_and_so_are_those_that_the_budget_refuses(watched: Door) -> None:
    watched.boxes["zendesk"].faults.add("fail")
    before = await scrape(watched)
    watched.forget_calls()
    for _ in range(8):
        await home(watched)
    moved = Moved(before, await scrape(watched))

    made = moved.which("source_retries_total", "source")
    assert set(made) == {"zendesk"}
    assert (
        moved.which("source_calls_total", "source", "outcome")["zendesk", "unavailable"]
        == 8 + made["zendesk"]
    )
    assert watched.calls()["zendesk"] == 8 + made["zendesk"]
    assert set(moved.which("source_retries_refused_total", "source")) == {"zendesk"}
    assert moved.after[series("source_retry_budget", source="zendesk")] < 1
    assert moved.after[series("source_retry_budget", source="xero")] >= 1


async def test_tokens_that_are_fetched_anew_are_counted_and_so_are_those_that_are_not_given(
    postgres: str,
) -> None:
    async with fresh_database(postgres) as url, open_door(World.build(0.05), url, deadline=1.5) as door:
        before = await scrape(door)
        assert before[series("source_token_renewals_total", source="xero", outcome="ok")] == 1
        door.boxes["xero"].faults.add("fail", "/connect/token")
        door.boxes["xero"].faults.add("fail", status=401)
        assert (await home(door)).codes() == [("account.invoices", "SOURCE_UNAVAILABLE")]
        moved = Moved(before, await scrape(door))

        assert set(moved.which("source_token_renewals_total", "source", "outcome")) == {
            ("xero", "unavailable")
        }
        assert moved.which("source_failures_total", "source") == {"xero": 1}


async def test_a_circuit_is_told_by_its_state_its_openings_and_the_calls_that_it_kept_away(
    world: World, postgres: str
) -> None:
    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.05), url, breakers=True, deadline=1.5) as door,
    ):
        await home(door)
        at = {"source": "xero", "endpoint": "default"}
        before = await scrape(door)
        assert before[series("source_circuit_state", state="closed", **at)] == 1
        door.boxes["xero"].faults.add("fail")
        async with asyncio.timeout(20):
            while (now := await scrape(door))[series("source_circuit_state", state="open", **at)] == 0:
                await home(door)
        await home(door)
        moved = Moved(now, await scrape(door))
        assert Moved(before, now).which("source_circuit_openings_total", "source") == {"xero": 1}
        assert moved.which("source_circuit_rejections_total", "source") == {"xero": 1}
        assert moved.which("source_calls_total", "source", "outcome").get(("xero", "unavailable")) is None
        assert {
            state: moved.after[series("source_circuit_state", state=state, **at)]
            for state in ("closed", "half-open", "open")
        } == {"closed": 0, "half-open": 0, "open": 1}

        door.heal()
        async with asyncio.timeout(20):
            while (await home(door)).errors:
                await asyncio.sleep(0.05)
        assert (await scrape(door))[series("source_circuit_state", state="closed", **at)] == 1


async def test_limits_tell_what_they_leave_who_was_refused_and_for_how_long_the_source_rests(
    postgres: str,
) -> None:
    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.05), url, settings=xero_by_the_minute) as door,
    ):
        minute = {"source": "xero", "limit": "minute"}
        before = await scrape(door)
        left = before[series("source_budget_remaining", **minute)]
        assert before[series("source_budget_size", **minute)] == 20
        assert before[series("source_budget_paused_seconds", **minute)] == 0
        door.forget_calls()
        async with asyncio.timeout(20):
            while not (answer := await home(door)).codes():
                pass
        assert ("account.invoices", "SOURCE_RATE_LIMITED") in answer.codes()
        moved = Moved(before, await scrape(door))
        assert left == door.calls()["xero"] > 0
        assert moved.after[series("source_budget_remaining", **minute)] == 0
        assert moved.which("source_budget_refusals_total", "source", "urgency") == {
            ("xero", "interactive"): 1
        }
        # What a limit refuses is no call: nothing went out, and the circuit has nothing against the source.
        assert door.calls()["xero"] == moved.by(
            "source_calls_total", outcome="ok", source="xero", endpoint="default"
        )

        document = {"query": "{ accounts(first: 3) { nodes { invoices(first: 1) { nodes { id } } } } }"}
        assert "SOURCE_RATE_LIMITED" in {code for _, code in (await door.ask("admin", **document)).codes()}
        moved = Moved(before, await scrape(door))
        assert moved.by("source_budget_refusals_total", source="xero", urgency="dashboard") == 1

    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.05), url, settings=xero_by_the_minute) as door,
    ):
        door.boxes["xero"].faults.add("rate_limit", retry_after=40)
        await home(door)
        paused = (await scrape(door))[series("source_budget_paused_seconds", **minute)]
        assert 20 < paused <= 41


# -- what was read -----------------------------------------------------------------------------------------------------


async def test_reads_are_told_by_verdict_and_so_are_shared_ones_and_the_age_of_what_is_stale(
    world: World, postgres: str
) -> None:
    long = Lifetimes(seconds=KindSeconds(accounts=600, invoices=600, tickets=600, documents=600), jitter=0.0)
    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.05), url, cache=long, deadline=2.0) as door,
    ):
        cache = door.office.cache
        assert cache is not None
        clock = cache.clock
        before = await scrape(door)
        await home(door)
        first = await scrape(door)
        assert set(Moved(before, first).which("source_reads_total", "verdict")) == {"live"}
        assert first[series("cache_entries")] > 0
        assert 0 < first[series("cache_bytes")] < first[series("cache_max_bytes")]
        assert first[series("source_answered_timestamp_seconds", source="xero")] > 1.7e9

        await home(door)
        second = await scrape(door)
        moved = Moved(first, second)
        assert set(moved.which("source_reads_total", "verdict")) == {"cached"}
        assert moved.which("source_calls_total", "source") == {}

        cache.clock = lambda: clock() + 700
        door.boxes["xero"].faults.add("fail")
        cache.forget()
        third = await scrape(door)
        await home(door)
        moved = Moved(third, await scrape(door))
        assert moved.by("source_reads_total", source="xero", verdict="failed") == 1
        assert moved.by("source_reads_total", source="zendesk", verdict="failed") == 0
        door.heal()

        cache.forget()
        door.boxes["xero"].faults.add("slow", seconds=0.3, times=1)
        before = await scrape(door)
        await asyncio.gather(*(home(door) for _ in range(6)))
        moved = Moved(before, await scrape(door))
        assert moved.by("source_calls_total", source="xero", endpoint="default", outcome="ok") == 1
        assert moved.by("source_reads_joined_total", source="xero") == 5

        # Older than its time, no older than `stale_if_error`.
        cache.clock = lambda: clock() + 700 + 650
        cache.lifetimes = msgspec.structs.replace(long, stale_if_error=3600.0)
        door.boxes["xero"].faults.add("fail")
        before = await scrape(door)
        assert (await home(door)).errors == []
        moved = Moved(before, await scrape(door))
        assert moved.by("source_reads_total", source="xero", verdict="stale") == 1
        assert moved.which("source_stale_age_seconds_count", "source") == {"xero": 1}
        assert 649 < moved.by("source_stale_age_seconds_sum", source="xero") < 700
        assert moved.which("source_failures_total", "source") == {}


async def test_a_cache_that_is_full_says_what_made_room(postgres: str) -> None:
    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.2), url, cache=Lifetimes(megabytes=1)) as door,
    ):
        query = """query($a: String) { accounts(first: 100, after: $a) { pageInfo { endCursor }
          nodes { invoices(first: 60) { nodes { id number reference lines { description } } } } } }"""
        async with asyncio.timeout(20):
            after, found = None, await scrape(door)
            while not found[series("cache_evictions_total")]:
                answer = await door.ask("admin", query, {"a": after})
                after = answer.data["accounts"]["pageInfo"]["endCursor"]
                found = await scrape(door)
        assert found[series("cache_bytes")] <= found[series("cache_max_bytes")] == 1 << 20


async def test_redis_that_goes_away_is_told_and_so_is_what_other_processes_have_read(
    postgres: str,
) -> None:
    async with redis_server() as redis, fresh_database(postgres) as url:

        def sharing(urls: Mapping[str, str]) -> Settings:
            return msgspec.structs.replace(
                settings_for(urls), redis=RedisSettings(url=redis.url, patience=2.0)
            )

        async with open_door(World.build(0.05), url, settings=sharing, cache=Lifetimes()) as door:
            assert door.office.cache is not None
            await home(door)
            before = await scrape(door)
            assert before[series("redis_up")] == 1
            # As another process would, that has read nothing yet.
            async with asyncio.timeout(10):
                while True:
                    door.office.cache.forget()
                    await home(door)
                    moved = Moved(before, await scrape(door))
                    if moved.by("source_second_level_reads_total", source="xero", verdict="found"):
                        break

            await redis.stop()
            door.office.cache.forget()
            await home(door)
            assert (await scrape(door))[series("redis_up")] == 0


async def test_violations_are_there_before_the_first_one_and_counted_by_source_and_kind(door: Door) -> None:
    before = await scrape(door)
    rows = [labels for name, labels in before if name == "gateway_scope_violations_total"]
    assert {dict(labels)["source"] for labels in rows} == {"hubspot", "xero", "zendesk", "s3"}
    kept = door.office.violations.counts.copy()
    try:
        door.office.violations.record("zendesk", "comment")
        after = await scrape(door)
    finally:
        door.office.violations.counts = kept

    moved = Moved(before, after).which("scope_violations_total", "source", "kind")
    assert moved == {("zendesk", "comment"): 1}


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_operations_are_counted_by_outcome_and_by_the_way_they_ran(watched: Door) -> None:
    before = await scrape(watched)
    query = "query OwnNameOfAClient { viewer { id account { name } } }"
    for _ in range(3):
        assert (await watched.ask("owner-harbour", query)).errors == []
    assert (await watched.ask("owner-harbour", '{ account(id: "none") { id name } }')).errors
    assert (await watched.ask(None, query)).status == 401
    moved = Moved(before, await scrape(watched))

    assert moved.which("operations_total", "kind", "outcome") == {
        ("query", "ok"): 3,
        ("query", "refused"): 1,
        ("refusal", "refused"): 1,
    }
    assert moved.which("executions_total", "way") == {"columns": 2, "first seen": 2}
    assert moved.by("planned_documents") == 1
    assert moved.by("plan_bytes") > 0
    assert moved.which("operation_duration_seconds_count", "kind", "outcome") == {
        ("query", "ok"): 3,
        ("query", "refused"): 1,
    }
    assert moved.which("http_responses_total", "route", "status") == {
        ("/graphql", "200"): 4,
        ("/graphql", "401"): 1,
        ("/metrics", "200"): 1,
    }
    assert moved.after[series("audit_records_lost_total")] == 0


async def test_histograms_hold_each_operation_once_in_buckets_that_grow(watched: Door) -> None:
    await home(watched)
    found = await scrape(watched)
    buckets: dict[Any, list[tuple[float, float]]] = {}
    for (name, labels), value in found.items():
        if name.startswith("gateway_") and name.endswith("_bucket"):
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            bound = math.inf if dict(labels)["le"] == "+Inf" else float(dict(labels)["le"])
            buckets.setdefault((name.removesuffix("_bucket"), rest), []).append((bound, value))
    assert {name for name, _ in buckets} == {
        "gateway_event_loop_lag_seconds",
        "gateway_operation_duration_seconds",
        "gateway_source_budget_wait_seconds",
        "gateway_source_call_duration_seconds",
    }
    for (name, labels), counts in buckets.items():
        values = [value for _, value in sorted(counts)]
        assert values == sorted(values)
        assert values[-1] == found[f"{name}_count", labels]


async def test_an_answer_is_late_once_it_leaves_a_tenth_of_a_second_after_its_deadline(watched: Door) -> None:
    requests, clock = watched.office.requests, asyncio.get_running_loop().time
    before = await scrape(watched)
    for late in (0.0, 0.05, 0.2, 3.0):
        with deadline(1.0, since=clock() - 1.0 - late):
            requests.operation("query", Done(), None, began=0.0)
    requests.operation("query", Done(), None, began=0.0)  # nobody waits for it

    assert Moved(before, await scrape(watched)).by("operations_late_total") == 2


async def test_the_loops_lag_is_looked_at_from_the_first_scrape_on(watched: Door) -> None:
    before = await scrape(watched)
    async with asyncio.timeout(10):
        while Moved(before, await scrape(watched)).by("event_loop_lag_seconds_count") < 2:
            await asyncio.sleep(0.05)


async def test_connections_that_stay_open_are_counted_while_they_do(watched: Door) -> None:
    async def open_now() -> dict[str, float]:
        found = await scrape(watched)
        assert found[series("http_requests_in_flight")] == 1  # the scrape itself
        return {one: found[series("open_connections", protocol=one)] for one in ("websocket", "event-stream")}

    assert await open_now() == {"websocket": 0, "event-stream": 0}
    async with (
        signed_in(watched, "owner-harbour"),
        signed_in(watched, "owner-moeller"),
        streaming(watched, "owner-harbour", "subscription { viewer { id } }"),
    ):
        assert await open_now() == {"websocket": 2, "event-stream": 1}
    async with asyncio.timeout(30):
        while await open_now() != {"websocket": 0, "event-stream": 0}:
            await asyncio.sleep(0.01)


async def test_nothing_that_a_client_chooses_becomes_a_label(watched: Door) -> None:
    secret = "chosenbyaclient"
    for path in (
        f"/{secret}",
        f"/files/{secret}",
        f"/graphiql/{secret}",
        f"/scim/v2/{secret}",
        f"/health/{secret}",
    ):
        await watched.fetch("owner-harbour", path)
    await watched.ask("owner-harbour", f"query {secret} {{ viewer {{ {secret}: id }} }}")
    await watched.ask("owner-harbour", f"query {secret} {{ {secret} }}")
    async with watched.session.delete(f"{watched.url}/graphql") as response:
        assert response.status == 405
    _, _, body = await watched.fetch("support", "/metrics")

    assert secret not in body.decode().lower()
    assert {
        dict(labels)["route"]
        for name, labels in await scrape(watched)
        if name == "gateway_http_responses_total"
    } <= {"/graphql", "/files", "/graphiql", "/scim", "/health", "/metrics", "other"}
    for persona in watched.issuer.personas:
        assert persona.email not in body.decode()
    assert not re.search(r"harbour|moeller", body.decode())


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("persona", "expected"),
    [("support", 200), ("admin", 200), ("owner-harbour", 403), ("newcomer", 403), (None, 401)],
)
async def test_only_the_firms_own_people_read_it(door: Door, persona: str | None, expected: int) -> None:
    status, _, body = await door.fetch(persona, "/metrics")

    assert status == expected
    assert (b"gateway_scope_violations_total" in body) == (expected == 200)


async def test_openmetrics_is_spoken_where_it_is_asked_for(watched: Door) -> None:
    await home(watched)
    status, headers, body = await watched.fetch(
        "admin", "/metrics", Accept="application/openmetrics-text;version=1.0.0"
    )

    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    # Its parser refuses what the format does not allow: names, buckets, repeated series.
    families = {family.name: family.type for family in openmetrics(body.decode())}
    assert families["gateway_source_calls"] == "counter"
    assert families["gateway_source_call_duration_seconds"] == "histogram"


async def test_every_name_is_ours_or_a_standard_collectors_and_counters_of_bytes_or_seconds_say_so(
    watched: Door,
) -> None:
    _, _, body = await watched.fetch("admin", "/metrics")
    for family in text_string_to_metric_families(body.decode()):
        assert family.name.startswith(("gateway_", *NOT_OURS)), family.name
        assert family.documentation
        assert not family.name.endswith(("_ms", "_milliseconds", "_count", "_sum", "_bucket"))
    found = await scrape(watched)
    assert [labels for name, labels in found if name == "gateway_build_info"]
    assert found["process_resident_memory_bytes", frozenset()] > 10_000_000
    assert found[series("database_up")] == 1
    assert found[series("database_connections", state="busy")] >= 0


@pytest.mark.parametrize(("setting", "expected"), [("open", 200), ("off", 404)])
async def test_it_can_be_open_or_not_there(world, postgres, setting: str, expected: int) -> None:
    async with fresh_database(postgres) as url, open_door(world, url, matched=False, metrics=setting) as door:
        for persona in (None, "support"):
            assert (await door.fetch(persona, "/metrics"))[0] == expected


def test_another_word_is_no_setting() -> None:
    with pytest.raises(msgspec.ValidationError, match="metrics"):
        msgspec.convert({"metrics": "everyone"}, DoorSettings)
