"""How old an answer is, as its extensions and headers tell; what a client may ask of it; and what it never gives away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from resolvers.vocabulary import node_id
from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from sources.ports.changes import Forgetting
from sources.ports.common import Ref
from sources.sandbox.world import World
from tests.commands import gateway, settings_file
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door

HOME = """query($id: ID!) { account(id: $id) {
  name openTicketCount invoices(first: 5) { nodes { number } } tickets(first: 5) { nodes { subject } }
} }"""

LONG = Lifetimes(
    seconds=KindSeconds(accounts=600, invoices=600, tickets=600, contacts=600, documents=600),
    jitter=0.0,
    coalesce=0.1,  # what comes at once takes a while to come on a busy machine
)


@pytest.fixture(scope="module")
def world() -> World:
    return World.build(scale=0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def remembering(world: World, postgres: str) -> AsyncIterator[Door]:
    async with fresh_database(postgres) as url, open_door(world, url, cache=LONG, deadline=30.0) as door:
        yield door


@pytest_asyncio.fixture
async def door(remembering: Door) -> AsyncIterator[Door]:
    """What it knew before is forgotten."""
    cache = remembering.office.cache
    assert cache is not None
    cache.forget()
    cache.clock = _now
    remembering.forget_calls()
    yield remembering
    cache.clock = _now
    remembering.heal()


def _now() -> float:
    return datetime.now(UTC).timestamp()


def later(door: Door, seconds: float) -> None:
    assert door.office.cache is not None
    door.office.cache.clock = lambda: _now() + seconds


async def home(door: Door, persona: str = "owner-harbour", account: int = 0, **headers: str) -> Answer:
    return await door.ask(persona, HOME, {"id": door.account_id(account)}, headers=headers)


def verdicts(answer: Answer) -> dict[tuple[str, str], str]:
    return {
        (".".join(entry["path"]), entry["source"]): entry["verdict"]
        for entry in answer.body["extensions"]["freshness"]
    }


async def test_an_answer_says_per_field_and_source_when_it_was_read_and_how(door: Door) -> None:
    before = datetime.now(UTC)
    first = await home(door)
    assert verdicts(first) == {
        ("account", "hubspot"): "LIVE",
        ("account", "xero"): "LIVE",
        ("account", "zendesk"): "LIVE",
    }
    for entry in first.body["extensions"]["freshness"]:
        assert before <= datetime.fromisoformat(entry["readAt"]) <= datetime.now(UTC)

    door.forget_calls()
    second = await home(door)
    assert second.data == first.data
    assert set(verdicts(second).values()) == {"CACHED"}
    assert [entry["readAt"] for entry in second.body["extensions"]["freshness"]] == [
        entry["readAt"] for entry in first.body["extensions"]["freshness"]
    ]
    assert sum(door.calls().values()) == 0


async def test_what_one_caller_read_is_given_to_another_only_within_their_own_scope(door: Door) -> None:
    mine = await home(door)
    door.forget_calls()

    theirs = await home(door, "owner-moeller")
    assert theirs.codes() == [("account", "NOT_FOUND")]
    assert theirs.data == {"account": None}
    number = mine.data["account"]["invoices"]["nodes"][0]["number"]
    assert number not in str(theirs.body)

    # A colleague without the right to invoices gets nothing of those that are remembered.
    colleague = await home(door, "standard-harbour")
    assert colleague.data["account"]["invoices"] is None
    assert ("account.invoices", "FORBIDDEN") in colleague.codes()
    # And whoever may see them is given what the owner's request has read.
    finance = await door.ask(
        "finance-harbour",
        "query($id: ID!) { account(id: $id) { name invoices(first: 5) { nodes { number } } } }",
        {"id": door.account_id(0)},
    )
    assert finance.data["account"]["invoices"] == mine.data["account"]["invoices"]
    assert door.calls()["xero"] == 0


async def test_a_source_that_fails_leaves_what_was_read_before_and_the_answer_says_so(door: Door) -> None:
    first = await home(door)
    later(door, 610)  # due, and beyond the time in which it is given once more
    door.boxes["xero"].faults.add("fail", status=503)
    refused = await home(door)
    # That is older than what may stand in (stale_if_error is 300 s).
    assert ("account.invoices", "SOURCE_UNAVAILABLE") in refused.codes()
    assert refused.data["account"]["tickets"] == first.data["account"]["tickets"]

    door.heal()
    await home(door)
    later(door, 610 + 100)
    door.boxes["xero"].faults.add("fail", status=503)
    # A client who wants it fresher than that is told that it cannot be had, not given something old.
    strict = await home(door, **{"Cache-Control": "no-cache"})
    assert ("account.invoices", "SOURCE_UNAVAILABLE") in strict.codes()


async def test_stale_is_said_only_where_a_source_failed(world: World, postgres: str) -> None:
    short = Lifetimes(
        seconds=KindSeconds(invoices=10), jitter=0.0, stale_while_revalidate=0.0, stale_if_error=60.0
    )
    async with fresh_database(postgres) as url, open_door(world, url, cache=short) as door:
        first = await home(door)
        later(door, 30)
        door.boxes["xero"].faults.add("fail", status=503)
        second = await home(door)
        assert second.errors == []
        assert second.data["account"]["invoices"] == first.data["account"]["invoices"]
        assert verdicts(second)["account", "xero"] == "STALE"
        assert verdicts(second)["account", "zendesk"] == "LIVE"
        later(door, 61)
        third = await home(door)
        assert third.codes() == [("account.invoices", "SOURCE_UNAVAILABLE")]


async def test_a_client_asks_for_fresher_or_accepts_older(door: Door) -> None:
    await home(door)
    later(door, 30)
    door.forget_calls()
    assert set(verdicts(await home(door, **{"Cache-Control": "max-age=60"})).values()) == {"CACHED"}
    assert sum(door.calls().values()) == 0
    assert set(verdicts(await home(door, **{"Cache-Control": "max-age=20"})).values()) == {"LIVE"}
    assert door.calls()["xero"] > 0

    later(door, 30 + 700)  # due, and past being given once more
    door.forget_calls()
    assert set(verdicts(await home(door, **{"Cache-Control": "max-stale=200"})).values()) == {"CACHED"}
    assert door.calls()["xero"] == 0
    assert verdicts(await home(door, **{"Cache-Control": "max-stale=50"}))["account", "xero"] == "LIVE"


async def test_a_query_says_itself_how_fresh_it_wants_to_be_and_comes_before_the_header(door: Door) -> None:
    query = "query Home($age: Int) @fresh(maxAge: $age) { viewer { account { name } } }"

    async def verdict(age: int | None, **headers: str) -> str:
        answer = await door.ask("owner-harbour", query, {"age": age}, headers=headers)
        return next(iter(verdicts(answer).values()))

    await verdict(None)
    later(door, 30)
    assert await verdict(60, **{"Cache-Control": "no-cache"}) == "CACHED"
    assert await verdict(20, **{"Cache-Control": "max-age=60"}) == "LIVE"


@pytest.mark.parametrize(
    ("directive", "variables", "said"),
    [
        ("@fresh(maxAge: -1)", {}, "not below 0"),
        ("@fresh(maxStale: $n)", {"n": -5}, "not below 0"),
        ("@fresh(maxAge: 1.5)", {}, "Int cannot represent"),
        ("@fresh(maxAge: $n)", {"n": "soon"}, "Int cannot represent"),
    ],
)
async def test_an_age_that_is_none_is_refused(
    door: Door, directive: str, variables: dict[str, object], said: str
) -> None:
    named = "($n: Int)" if "$n" in directive else ""
    answer = await door.ask(
        "owner-harbour", f"query Home{named} {directive} {{ viewer {{ id }} }}", variables
    )
    assert answer.codes() == [("", "BAD_USER_INPUT")]
    assert said in answer.errors[0]["message"]


async def test_a_get_may_be_kept_by_the_callers_own_cache_alone_and_a_post_by_none(door: Door) -> None:
    async def get(persona: str, query: str) -> Any:
        asked = urlencode({"query": query.replace("$id", f'"{door.account_id(0)}"')})
        status, headers, _ = await door.fetch(persona, f"/graphql?{asked}")
        assert status == 200
        return headers

    query = "{ account(id: $id) { name invoices(first: 2) { nodes { number total { amount } } } } }"
    first = await get("owner-harbour", query)
    assert first["Age"] == "0"
    assert first["Cache-Control"].startswith("private, max-age=")
    assert {"Authorization", "Cookie", "X-Organisation", "X-View-As"} <= set(first["Vary"].split(", "))
    later(door, 100)
    second = await get("owner-harbour", query)
    assert 99 <= int(second["Age"]) <= 102
    lasts = int(second["Cache-Control"].removeprefix("private, max-age="))
    assert 590 <= lasts <= 600  # the same end as before

    # What the gateway's own books say is never kept, nor an answer with an error, nor one to POST.
    for refused in (
        "{ viewer { name } account(id: $id) { name } }",
        "{ account(id: $id) { links { source } } }",
    ):
        assert (await get("owner-harbour", refused))["Cache-Control"] == "private, no-store"
    assert (await get("owner-moeller", query))["Cache-Control"] == "private, no-store"
    assert (await home(door)).headers["Cache-Control"] == "private, no-store"
    assert "Age" not in (await home(door)).headers


async def test_a_hundred_people_at_once_cost_the_calls_of_one(door: Door) -> None:
    await home(door)
    one = door.calls()
    assert door.office.cache is not None
    door.office.cache.forget()
    door.forget_calls()

    answers = await asyncio.gather(*(home(door) for _ in range(100)))
    assert all(answer.errors == [] for answer in answers)
    assert all(answer.data == answers[0].data for answer in answers)
    assert door.calls() == one


async def test_requests_that_come_together_are_asked_for_together_and_a_single_one_at_once(
    door: Door,
) -> None:
    invoices = "query($id: ID!) { account(id: $id) { invoices(first: 20) { nodes { id } } } }"
    listed = await door.ask("owner-harbour", invoices, {"id": door.account_id(0)})
    ids = [one["id"] for one in listed.data["account"]["invoices"]["nodes"]]
    assert len(ids) == 20
    query = "query($id: ID!) { invoice(id: $id) { number } }"
    door.forget_calls()
    assert (await door.ask("owner-harbour", query, {"id": ids[0]})).errors == []
    assert door.calls()["xero"] == 1

    assert door.office.cache is not None
    door.office.cache.forget()
    door.forget_calls()
    answers = await asyncio.gather(*(door.ask("owner-harbour", query, {"id": id_}) for id_ in ids))
    assert all(answer.errors == [] for answer in answers)
    assert len({answer.data["invoice"]["number"] for answer in answers}) == 20
    assert door.calls()["xero"] <= 10


async def test_a_hurried_client_does_not_end_a_call_that_another_waits_for(door: Door) -> None:
    await home(door)
    assert door.office.cache is not None
    door.office.cache.forget()
    door.boxes["xero"].faults.add("hang")
    door.forget_calls()
    query = "query($id: ID!) { account(id: $id) { invoices(first: 5) { nodes { number } } } }"

    async def ask(**headers: str) -> Answer:
        return await door.ask("owner-harbour", query, {"id": door.account_id(0)}, headers=headers)

    hurried = asyncio.create_task(ask(**{"X-Request-Timeout": "1.5"}))
    while door.calls()["xero"] == 0:
        assert not hurried.done(), "it had no time to ask"
        await asyncio.sleep(0.01)
    patient = asyncio.create_task(ask())
    assert (await hurried).codes() == [("account.invoices", "SOURCE_TIMEOUT")]
    door.heal()  # the call that hangs is answered now
    assert (await patient).errors == []
    assert door.calls()["xero"] == 1


async def test_what_is_told_to_be_forgotten_is_forgotten_by_who_listens(door: Door, world: World) -> None:
    await home(door)
    account = Ref("hubspot", world.accounts[0].hubspot_id)
    cache = door.office.cache
    assert cache is not None
    known = cache.entries
    await door.office.ledger.forgettings.tell([Forgetting(refs=(account,))])
    while cache.entries == known:
        await asyncio.sleep(0.01)
    door.forget_calls()
    answer = await home(door)
    assert door.calls()["hubspot"] > 0
    assert door.calls()["xero"] == 0
    assert verdicts(answer)["account", "hubspot"] == "LIVE"
    await door.office.ledger.forgettings.tell([Forgetting(source="xero")])
    while verdicts(answer)["account", "xero"] != "LIVE":
        answer = await home(door)


SYNC = """query($id: ID!) {
  sources { name kind state trouble retryAfter waiting answeredAt lagSeconds live cached stale }
  account(id: $id) { sync { linked source { name state } } }
}"""


async def test_staff_see_how_each_source_is_doing_and_customers_do_not(door: Door) -> None:
    await home(door)
    later(door, 20)
    answer = await door.ask("support", SYNC, {"id": door.account_id(0)})
    assert answer.errors == []
    by_name = {one["name"]: one for one in answer.data["sources"]}
    assert {name: one["kind"] for name, one in by_name.items()} == {
        "hubspot": "crm",
        "xero": "erp",
        "zendesk": "helpdesk",
        "s3": "documents",
    }
    assert {one["state"] for one in by_name.values()} == {"HEALTHY"}
    assert 19 <= by_name["xero"]["lagSeconds"] < 60
    assert by_name["xero"]["live"] > 0
    assert [(one["source"]["name"], one["linked"]) for one in answer.data["account"]["sync"]] == [
        ("hubspot", True),
        ("xero", True),
        ("zendesk", True),
        ("s3", True),
    ]

    for persona in ("owner-harbour", "read-only-harbour"):
        refused = await door.ask(persona, SYNC, {"id": door.account_id(0)})
        assert refused.data == {"sources": None, "account": {"sync": None}}
        assert refused.codes() == [("sources", "FORBIDDEN"), ("account.sync", "FORBIDDEN")]


async def test_a_source_that_is_left_alone_is_failing_and_says_when_it_is_asked_again(
    world: World, postgres: str
) -> None:
    async with fresh_database(postgres) as url, open_door(world, url, breakers=True, cache=LONG) as door:
        door.boxes["xero"].faults.add("fail", status=503)
        async with asyncio.timeout(30):
            found: dict[str, Any] = {"state": "HEALTHY"}
            while found["state"] != "FAILING":
                await home(door)
                answer = await door.ask("support", "{ sources { name state trouble retryAfter answeredAt } }")
                (found,) = [one for one in answer.data["sources"] if one["name"] == "xero"]
        assert found["retryAfter"] > 0
        assert "circuit open" in found["trouble"]
        assert found["answeredAt"] is None  # an error is no answer


async def test_the_operators_command_reaches_the_process_that_serves(door: Door, tmp_path: Path) -> None:
    config = settings_file(tmp_path, door)
    url = door.office._database_url
    cache = door.office.cache
    assert cache is not None
    await home(door)
    known = cache.entries
    code, said = await gateway(url, config, "cache", "forget", "--source", "xero")
    assert (code, said.strip().splitlines()[-1]) == (0, "forgotten: xero")
    async with asyncio.timeout(10):
        while cache.entries == known:
            await asyncio.sleep(0.01)
    answer = await home(door)
    assert verdicts(answer) == {
        ("account", "hubspot"): "CACHED",
        ("account", "xero"): "LIVE",
        ("account", "zendesk"): "CACHED",
    }

    account = f"hubspot:{door.world.accounts[0].hubspot_id}"
    code, said = await gateway(url, config, "cache", "forget", "--account", account)
    assert (code, said.strip().splitlines()[-1].count(",")) == (0, 3)  # itself and what it is elsewhere
    async with asyncio.timeout(10):
        while set(verdicts(await home(door)).values()) == {"CACHED"}:
            await asyncio.sleep(0.01)

    code, said = await gateway(url, config, "cache", "forget", "--source", "nobody")
    assert (code, said.strip().splitlines()[-1]) == (
        1,
        "nobody: not a connected system; there are hubspot, s3, xero, zendesk",
    )
    code, said = await gateway(url, config, "cache", "forget")
    assert code == 1


async def test_files_and_mutations_are_decided_by_what_the_sources_say_now(door: Door) -> None:
    query = "query($id: ID!) { account(id: $id) { invoices(first: 1) { nodes { number pdf { url } } } } }"
    answer = await door.ask("owner-harbour", query, {"id": door.account_id(0)})
    assert answer.errors == []
    door.forget_calls()
    status, _, body = await door.fetch(
        "owner-harbour", answer.data["account"]["invoices"]["nodes"][0]["pdf"]["url"]
    )
    assert (status, body[:4]) == (200, b"%PDF")
    assert door.calls()["xero"] >= 2  # whose it is, and the file


async def test_metrics_count_what_was_remembered(door: Door) -> None:
    await home(door)
    await home(door)
    status, _, text = await door.fetch("support", "/metrics")
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
    assert float(lines['gateway_source_reads_total{source="xero",verdict="cached"}']) > 0
    assert float(lines['gateway_source_reads_total{source="xero",verdict="live"}']) > 0
    assert float(lines["gateway_cache_bytes"]) > 0


async def test_somebody_elses_remembered_record_reads_in_every_way_as_one_that_is_not_there(
    door: Door,
) -> None:
    mine = await door.ask(
        "owner-harbour",
        """query($id: ID!) { account(id: $id) {
          invoices(first: 1) { nodes { id } } tickets(first: 1) { nodes { id } } contacts(first: 1) { nodes { id } } } }""",
        {"id": door.account_id(0)},
    )
    ids = [mine.data["account"][kind]["nodes"][0]["id"] for kind in ("invoices", "tickets", "contacts")]
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    known = await door.ask("owner-harbour", query, {"ids": ids})
    assert [one["id"] for one in known.data["nodes"]] == ids
    nobodys = [
        node_id("Invoice", Ref("xero", "00000000-0000-4000-8000-000000000000")),
        node_id("Ticket", Ref("zendesk", "999999999")),
        node_id("Contact", Ref("hubspot", "999999999")),
    ]

    async def seen(asked: list[str]) -> tuple[Any, ...]:
        door.forget_calls()
        answer = await door.ask("owner-moeller", query, {"ids": asked})
        shown = [(e["source"], e["verdict"]) for e in answer.body.get("extensions", {}).get("freshness", [])]
        calls = {name: count for name, count in door.calls().items() if count}
        return answer.data, answer.codes(), [error["message"] for error in answer.errors], shown, calls

    await seen(nobodys)  # what the caller's own accounts are is known by now, and that these are not there
    first, second = await seen(ids), await seen(nobodys)
    assert first == second
    assert first[0] == {"nodes": [None, None, None]}
    assert first[4]["xero"] == first[4]["zendesk"] == 1  # the sources were asked, though they were remembered

    # Also while they fail: what is remembered of somebody else's tells nothing.
    for box in ("xero", "zendesk", "hubspot"):
        door.boxes[box].faults.add("fail", status=503)
    assert (await seen(ids))[:4] == (await seen(nobodys))[:4]
