"""``extensions.xray``: what it tells of an operation, to whom, by which way, and what it never tells."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from permissions.roles import Roles
from permissions.scopes import STAFF_SCOPES
from resolvers.vocabulary import node_id
from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from sources.ports import trace
from sources.ports.common import Ref
from sources.sandbox.world import World
from tests.canaries import CANARY, Ids, marked_world, personas, seen
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.streams.client import signed_in

HOME = """query Home($id: ID!) { account(id: $id) {
  name invoices(first: 5) { nodes { number } } tickets(first: 5) { nodes { subject } }
} }"""
LONG = Lifetimes(
    seconds=KindSeconds(accounts=600, invoices=600, tickets=600, contacts=600, documents=600), jitter=0.0
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def canaries(postgres: str) -> AsyncIterator[Door]:
    """Every text of every record says whose it is."""
    world = marked_world(0.05)
    async with (
        fresh_database(postgres) as url,
        open_door(world, url, personas=personas(), cache=LONG) as door,
    ):
        yield door


@pytest_asyncio.fixture
async def door(canaries: Door) -> AsyncIterator[Door]:
    """Nothing is remembered."""
    assert canaries.office.cache is not None
    canaries.office.cache.forget()
    canaries.forget_calls()
    yield canaries
    canaries.heal()
    canaries.office.cache.clock = lambda: datetime.now(UTC).timestamp()


async def ask(
    door: Door,
    query: str = HOME,
    persona: str | None = "admin",
    extensions: Any = (("xray", True),),
    **headers: str,
) -> Answer:
    sent = {**({"Authorization": f"Bearer {door.issuer.token(persona)}"} if persona else {}), **headers}
    body = {"query": query, "variables": {"id": door.account_id(0)}, "extensions": dict(extensions)}
    if "$id" not in query:
        del body["variables"]
    async with door.session.post(f"{door.url}/graphql", json=body, headers=sent) as response:
        return Answer(response.status, dict(response.headers), await response.json(content_type=None))


async def xray(door: Door, query: str = HOME, persona: str = "admin", **headers: str) -> dict[str, Any]:
    told: dict[str, Any] = (await ask(door, query, persona, **headers)).body["extensions"]["xray"]
    return told


def of(told: Mapping[str, Any], kind: str, **numbers: Any) -> list[dict[str, Any]]:
    return [
        span
        for span in told["spans"]
        if span["kind"] == kind and all(span.get(key) == value for key, value in numbers.items())
    ]


def above(told: Mapping[str, Any], span: Mapping[str, Any]) -> list[str]:
    """Kinds from the span up to the operation."""
    by_id = {one["id"]: one for one in told["spans"]}
    kinds = [str(span["kind"])]
    while span["parent"] is not None:
        span = by_id[span["parent"]]
        kinds.append(str(span["kind"]))
    return kinds


# -- what it tells ----------------------------------------------------------------------------------------------------


async def test_it_tells_what_was_done_in_which_order_and_what_it_cost(door: Door) -> None:
    before = datetime.now(UTC)
    answer = await ask(door)
    told = answer.body["extensions"]["xray"]
    assert list(told) == [
        "requestId", "traceId", "startedAt", "durationMs", "deadlineMs", "plan", "spans", "cost", "dropped"
    ]  # fmt: skip
    assert told["requestId"] == {k.lower(): v for k, v in answer.headers.items()}["x-request-id"]
    assert told["traceId"] is None
    assert before <= datetime.fromisoformat(told["startedAt"]) <= datetime.now(UTC)
    # Its time began when the request came, and the operation's when that was looked at: a busy machine does it later.
    assert 4990 <= told["deadlineMs"] <= 5000 + told["durationMs"]
    assert told["plan"] == {"way": "first seen", "known": False, "fields": 8, "denied": []}
    assert told["dropped"] == 0

    spans = told["spans"]
    assert [span["id"] for span in spans] == list(range(1, len(spans) + 1))
    operation = spans[0]
    assert (operation["parent"], operation["kind"], operation["name"]) == (None, "operation", "Home")
    assert operation["durationMs"] == told["durationMs"]
    by_id = {span["id"]: span for span in spans}
    for span in spans[1:]:
        parent = by_id[span["parent"]]
        assert span["parent"] < span["id"]
        assert 0 <= parent["startMs"] <= span["startMs"]
        assert span["startMs"] + span["durationMs"] <= parent["startMs"] + parent["durationMs"] + 0.01

    (call,) = of(told, "call", source="xero")
    assert above(told, call) == ["call", "cache", "batch", "operation"]
    assert {
        key: call[key] for key in ("name", "endpoint", "method", "attempt", "status", "cost", "error")
    } == {
        "name": "GET Invoices",
        "endpoint": "Invoices",
        "method": "GET",
        "attempt": 1,
        "status": 200,
        "cost": 1,
        "error": None,
    }
    assert call["bytes"] > 0
    (read,) = of(told, "cache", source="xero")
    assert read.pop("ageSeconds") >= 0
    kept = {key: read[key] for key in read.keys() - {"id", "parent", "startMs", "durationMs"}}
    assert kept == {
        "kind": "cache", "name": "xero invoices", "source": "xero", "type": "Invoice",
        "live": 1, "cached": 0, "stale": 0, "failed": 0, "shared": False,
    }  # fmt: skip
    assert {span["kind"] for span in spans} >= {
        "parse",
        "plan",
        "batch",
        "cache",
        "call",
        "encode",
    }
    assert (
        told["cost"] == door.calls() | {} if False else {k: v for k, v in sorted(door.calls().items()) if v}
    )


async def test_what_was_remembered_costs_nothing_and_its_age_is_told(door: Door) -> None:
    cache = door.office.cache
    assert cache is not None
    await ask(door)
    cache.clock = lambda: datetime.now(UTC).timestamp() + 100
    told = await xray(door)
    assert told["cost"] == {}
    assert of(told, "call") == []
    (read,) = of(told, "cache", source="xero")
    assert (read["live"], read["cached"]) == (0, 1)
    assert 100 <= read["ageSeconds"] < 130


async def test_an_answer_from_a_failing_sources_memory_is_told_as_stale_with_the_calls_that_failed(
    door: Door,
) -> None:
    cache = door.office.cache
    assert cache is not None
    query = "query($id: ID!) { account(id: $id) { invoices(first: 4) { nodes { id } } } }"
    cache.lifetimes = Lifetimes(seconds=KindSeconds(accounts=600, invoices=10), stale_if_error=300)
    try:
        await ask(door, query)
        cache.clock = lambda: datetime.now(UTC).timestamp() + 100
        door.boxes["xero"].faults.add("fail", "/api.xro")
        told = await xray(door, query)
    finally:
        cache.lifetimes = LONG
    (read,) = of(told, "cache", source="xero")
    assert (read["live"], read["stale"]) == (0, 1)
    calls = of(told, "call", source="xero")
    assert [(call["attempt"], call["status"], call["error"]) for call in calls] == [
        (number, 500, "SOURCE_UNAVAILABLE") for number in range(1, len(calls) + 1)
    ]
    assert told["cost"]["xero"] == len(calls) == len(of(told, "retry")) + 1


async def test_a_call_that_another_request_made_is_told_as_shared(door: Door) -> None:
    cache = door.office.cache
    assert cache is not None
    query = "query($id: ID!) { account(id: $id) { invoices(first: 7) { nodes { id } } } }"
    await ask(door, "query($id: ID!) { account(id: $id) { id } }")
    before = cache.joined["xero"]
    door.boxes["xero"].faults.add("hang", "/api.xro", times=1)
    door.forget_calls()
    first = asyncio.create_task(xray(door, query))
    while not door.boxes["xero"].log.calls():
        await asyncio.sleep(0.005)
    second = asyncio.create_task(xray(door, query))
    while cache.joined["xero"] == before:
        await asyncio.sleep(0.005)
    door.heal()
    made, joined = await first, await second
    assert (of(made, "cache", source="xero")[0]["shared"], made["cost"].get("xero")) == (False, 1)
    assert (of(joined, "cache", source="xero")[0]["shared"], joined["cost"].get("xero")) == (True, None)
    assert of(joined, "call") == []


async def test_plans_and_ways_are_told(door: Door) -> None:
    query = "query Ways($id: ID!) { account(id: $id) { name phone } }"
    plans = [(await xray(door, query))["plan"] for _ in range(3)]
    assert [(plan["way"], plan["known"]) for plan in plans] == [
        ("first seen", False),
        ("columns", False),
        ("columns", True),
    ]


async def test_denied_fields_are_listed(door: Door) -> None:
    query = "query($id: ID!) { account(id: $id) { name links { source } } sources { name } auditLog(first: 1) { nodes { id } } }"
    roles = Roles()
    assert "audit:read" not in roles["support"].scopes
    told = await xray(door, query, "support")
    assert told["plan"]["denied"] == ["Query.auditLog"]


async def test_what_must_not_run_has_nothing_to_tell_but_why(door: Door) -> None:
    told = await xray(door, "{ nonsense }")
    assert told["plan"] == {"way": None, "known": False, "fields": 0, "denied": []}
    assert [span["kind"] for span in told["spans"]] == ["operation", "arrival", "parse"]
    assert told["spans"][0]["error"] == "BAD_USER_INPUT"


async def test_a_change_tells_that_it_was_recorded_before_it_was_made(door: Door) -> None:
    change = """mutation Key { createServiceAccount(input: {
      name: "seen", scopes: ["accounts:read"], idempotencyKey: "xray"
    }) { serviceAccount { id } userErrors { code } } }"""
    told = await xray(door, change, **{"X-Organisation": "harbour"})
    (recorded,) = of(told, "audit")
    assert above(told, recorded) == ["audit", "operation"]
    written = [span for span in of(told, "ledger") if span["name"].startswith("write ")]
    assert written
    assert all(recorded["startMs"] + recorded["durationMs"] <= span["startMs"] for span in written)


async def test_spans_are_bounded_and_what_was_left_out_is_counted(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await xray(door)
    assert door.office.cache is not None
    door.office.cache.forget()
    monkeypatch.setattr(trace, "MOST_SPANS", 8)
    told = await xray(door)
    assert len(told["spans"]) == 8
    assert told["dropped"] > 0
    # What it cost is told in full.
    assert told["cost"] == whole["cost"]


def test_a_trace_that_is_closed_takes_nothing_more() -> None:
    made = trace.Trace()
    root = made.begin("operation", "x")
    with root:
        late = trace.here()
    assert [one.name for one in made.close()] == ["x"]
    assert late is root
    with root:
        assert trace.span("call", "late") is trace.UNSEEN
    assert made.close() == []


# -- to whom ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "persona", ["owner-harbour", "finance-harbour", "read-only-moeller", "finance-staff"]
)
async def test_without_the_scope_the_operation_runs_and_nothing_is_told(door: Door, persona: str) -> None:
    query = "{ viewer { id } }"
    plain = await ask(door, query, persona, extensions=())
    told = await ask(door, query, persona)
    assert told.body == {**plain.body, "extensions": {"xray": {"refused": "needs xray:read"}}}


async def test_nobody_who_has_not_signed_in_is_told(door: Door) -> None:
    answer = await ask(door, "{ signIn { __typename } }", persona=None)
    assert answer.body == {
        "data": {"signIn": {"__typename": "SignInDirections"}},
        "extensions": {"xray": {"refused": "needs xray:read"}},
    }


def test_no_customers_role_holds_the_scope() -> None:
    assert "xray:read" in STAFF_SCOPES
    assert [role.name for role in Roles() if "xray:read" in role.scopes] == ["support", "admin"]


@pytest.mark.parametrize("extensions", [{}, {"xray": False}, {"xray": "true"}, {"xray": 1}, {"other": True}])
async def test_nobody_is_told_who_does_not_ask(door: Door, extensions: dict[str, Any]) -> None:
    answer = await ask(door, "{ viewer { id } }", extensions=extensions.items())
    assert "xray" not in answer.body.get("extensions", {})


# -- by which way -----------------------------------------------------------------------------------------------------


async def test_a_long_name_is_cut(door: Door) -> None:
    told = await xray(door, "query " + "N" * 1000 + " { viewer { id } }")
    assert told["spans"][0]["name"] == "N" * 200


async def test_it_stands_beside_freshness(door: Door) -> None:
    assert set((await ask(door)).body["extensions"]) == {"freshness", "xray"}


async def test_the_answer_itself_is_the_same(door: Door) -> None:
    plain = await ask(door, extensions=())
    assert (await ask(door)).data == plain.data


async def test_an_answer_to_get_that_has_it_is_kept_by_nobody(door: Door) -> None:
    headers = {"Authorization": f"Bearer {door.issuer.token('admin')}"}
    query = f'{{ account(id: "{door.account_id(0)}") {{ name }} }}'
    kept = {}
    for extensions in ("{}", '{"xray": true}'):
        params = {"query": query, "extensions": extensions}
        async with door.session.get(f"{door.url}/graphql", params=params, headers=headers) as response:
            kept[extensions] = response.headers["Cache-Control"]
            told = "xray" in (await response.json())["extensions"]
            assert told == (extensions != "{}")
    assert "max-age" in kept["{}"]
    assert "no-store" in kept['{"xray": true}']


async def test_a_socket_tells_it_as_well(door: Door) -> None:
    query = "{ viewer { id } }"
    async with signed_in(door, "admin") as socket:
        await socket.subscribe(query, extensions={"xray": True})
        payload = (await socket.hear())["payload"]
        assert payload["data"]
        assert payload["extensions"]["xray"]["spans"][0]["kind"] == "operation"


# -- what it never tells ----------------------------------------------------------------------------------------------


async def test_nothing_that_is_anybodys_is_in_it(door: Door) -> None:
    everything = """query Everything($id: ID!) {
      account(id: $id) { id name phone links { source }
        contacts(first: 5) { nodes { id email firstName } }
        invoices(first: 5) { nodes { id number reference account { name } } }
        tickets(first: 5) { nodes { id subject comments(first: 5) { nodes { body } } } }
        documents(first: 5) { nodes { id title versions { id } } } }
      accounts(first: 10) { nodes { id name invoices(first: 2) { nodes { number } } } }
      node(id: $id) { id } sources { name }
      searchArticles(text: "canary-question", first: 3) { nodes { title } }
    }"""
    ids = Ids(door.world)
    for persona in ("admin", "support"):
        for _ in range(2):
            answer = await ask(door, everything, persona)
            told = answer.body["extensions"]["xray"]
            if told["plan"]["way"] is None:
                pytest.fail(str(answer.errors))
            told = {**told, "requestId": ""}
            assert seen([told], ids) == (frozenset(), frozenset())
            text = str(told)
            assert not CANARY.search(text)
            for secret in ("Bearer", "http", "/api", "?", "@"):
                assert secret not in text


async def test_of_a_record_that_is_not_there_nothing_is_told_but_the_call(door: Door) -> None:
    nowhere = node_id("Invoice", Ref("xero", "00000000-0000-4000-8000-000000000000"))
    told = await xray(door, f'{{ node(id: "{nowhere}") {{ id }} }}')
    assert "0000" not in str({**told, "requestId": ""})


def test_kinds_of_spans_that_nobody_has_listed_tell_nothing_of_themselves(world: World) -> None:
    from gateway import xray as shown

    made = trace.Trace()
    with made.begin("operation", "x") as operation, trace.span("novelty", "y", secret="canary") as novelty:
        pass
    assert set(shown._span(novelty, operation, operation.began)) == {
        "id", "parent", "kind", "name", "startMs", "durationMs"
    }  # fmt: skip
