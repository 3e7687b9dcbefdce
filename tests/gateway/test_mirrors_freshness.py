"""How old what is shown of a mirror is: told truly, promised, and brought up to date for who asks for that."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import asyncpg
import pytest_asyncio

from sources.layers.cache.lifetimes import Lifetimes
from sources.layers.mirror import MirrorSettings
from sources.ports.common import Ref
from sources.registry import Kind
from sources.vendors.freshdesk import sandbox as emulator
from tests.door import Answer, Door
from tests.mirrored import open_mirrored

TICKETS = "query($id: ID!) { account(id: $id) { name tickets(first: 5) { nodes { subject } } } }"
LISTS = "/api/v2/tickets"


class Copied:
    """A gateway whose helpdesk is copied every ten minutes: while the tests run, only when somebody asks for it."""

    def __init__(self, door: Door, box: emulator.FreshdeskSandbox, url: str) -> None:
        self.door, self.box, self._url = door, box, url

    async def age(self, seconds: float) -> None:
        """As if the last run had been so long ago."""
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(
                "UPDATE mirror_streams SET as_of = clock_timestamp() - make_interval(secs => $1)", seconds
            )
        finally:
            await connection.close()

    def runs(self) -> int:
        """Runs since the log was emptied: each begins with one list of what has changed."""
        return sum(call.path == LISTS and "filter" not in call.params for call in self.box.log.calls())

    async def ask(self, **headers: str) -> Answer:
        return await self.door.ask("owner-harbour", TICKETS, {"id": self.door.account_id(0)}, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(postgres: str) -> AsyncIterator[Copied]:
    settings = MirrorSettings(every=600, lists_every=600)
    async with open_mirrored(postgres, settings, Lifetimes()) as (door, box, url):
        yield Copied(door, box, url)


@pytest_asyncio.fixture
async def copied(running: Copied) -> AsyncIterator[Copied]:
    running.box.log.clear()
    yield running
    running.box.faults.clear()


def told(answer: Answer) -> tuple[str, float]:
    """How what is shown of Freshdesk came, and how many seconds ago it was read."""
    assert answer.errors == []
    [one] = [one for one in answer.body["extensions"]["freshness"] if one["source"] == "freshdesk"]
    age = datetime.now(UTC) - datetime.fromisoformat(one["readAt"])
    return one["verdict"], age / timedelta(seconds=1)


async def test_an_answer_says_how_old_the_copy_is_and_not_when_the_copy_was_asked(copied: Copied) -> None:
    await copied.age(100)
    verdict, age = told(await copied.ask())
    assert verdict == "CACHED"
    assert 100 <= age < 130
    # Nothing of a copy is remembered once more: a newer one is seen at once.
    await copied.age(0)
    assert told(await copied.ask())[1] < 30
    assert copied.runs() == 0


async def test_an_answer_says_how_old_the_copy_is_where_nothing_is_remembered(postgres: str) -> None:
    settings = MirrorSettings(every=600, lists_every=600)
    async with open_mirrored(postgres, settings, Lifetimes(enabled=False)) as (door, box, url):
        copied = Copied(door, box, url)
        await copied.age(100)
        first, again = await copied.ask(), await copied.ask()
        assert told(first)[0] == told(again)[0] == "CACHED"
        assert 100 <= told(again)[1] < 130
        [account] = [one for one in again.body["extensions"]["freshness"] if one["source"] == "hubspot"]
        assert account["verdict"] == "LIVE"
        assert door.office.cache is not None
        assert door.office.cache.entries == 0


async def test_what_somebody_keeps_is_as_old_and_lasts_until_the_next_run(copied: Copied) -> None:
    await copied.age(100)
    query = TICKETS.replace("name ", "").replace("query($id: ID!) ", "")
    query = query.replace("$id", f'"{copied.door.account_id(0)}"')
    _, headers, _ = await copied.door.fetch("owner-harbour", f"/graphql?{urlencode({'query': query})}")
    assert 100 <= int(headers["Age"]) < 130
    # The account itself, which is remembered for a minute, ends it here.
    lasts = int(headers["Cache-Control"].removeprefix("private, max-age=")) - int(headers["Age"])
    assert 0 < lasts <= 60


async def test_a_client_that_wants_it_newer_has_it_brought_up_to_date_once_for_all(copied: Copied) -> None:
    await copied.age(100)
    changed = min(ticket.id for ticket in copied.door.world.tickets_by_account[0])
    copied.box.desk.change(changed, datetime(2026, 11, 2, 12, tzinfo=UTC), subject="Just now")
    wish = {"Cache-Control": "max-age=50"}
    answers = await asyncio.gather(*(copied.ask(**wish) for _ in range(10)))
    assert {told(answer)[0] for answer in answers} == {"CACHED"}
    assert max(told(answer)[1] for answer in answers) < 50
    assert copied.runs() == 1
    told(await copied.ask(**wish))
    assert copied.runs() == 1
    [ticket] = await copied.door.office.ports[Kind.HELPDESK].tickets([_ref(changed)])
    assert ticket.subject == "Just now"


async def test_nobody_makes_more_runs_than_the_settings_let_them(copied: Copied) -> None:
    await copied.age(20)
    verdict, age = told(await copied.ask(**{"Cache-Control": "no-cache"}))
    assert (verdict, copied.runs()) == ("CACHED", 0)
    assert age >= 20  # and is told so


async def test_who_wants_it_newer_than_can_be_had_is_not_given_something_old(copied: Copied) -> None:
    await copied.age(100)
    copied.box.faults.add("fail", LISTS, status=503)
    strict = await copied.ask(**{"Cache-Control": "max-age=50"})
    assert strict.codes() == [("account.tickets", "SOURCE_UNAVAILABLE")]
    assert strict.data["account"]["name"]
    assert told(await copied.ask())[1] >= 100
    copied.box.faults.clear()

    copied.box.faults.add("hang", LISTS)
    late = await copied.ask(**{"Cache-Control": "max-age=50", "X-Request-Timeout": "0.5"})
    assert late.codes() == [("account.tickets", "SOURCE_TIMEOUT")]
    copied.box.faults.clear()
    # The run that it began goes on without it.
    async with asyncio.timeout(20):
        while told(await copied.ask())[1] >= 100:
            await asyncio.sleep(0.05)


async def test_a_copy_that_is_late_is_stale_and_operators_see_it(copied: Copied) -> None:
    await copied.age(3000)
    verdict, age = told(await copied.ask())
    assert (verdict, age >= 3000) == ("STALE", True)
    [mirror] = copied.door.office.mirrors
    await mirror.lag()
    answer = await copied.door.ask("support", "{ sources { name trouble lagSeconds } }")
    [desk] = [one for one in answer.data["sources"] if one["name"] == "freshdesk"]
    assert "the copy of companies is 3000 s old" in desk["trouble"]
    assert desk["lagSeconds"] >= 3000


async def test_the_schema_that_is_served_promises_what_this_gateway_keeps(copied: Copied) -> None:
    _, _, body = await copied.door.fetch("admin", "/schema.graphql")
    promised = {
        line.split()[1]: line.partition("@freshness(maxAge: ")[2].partition(")")[0]
        for line in body.decode().splitlines()
        if line.startswith("type ") and "@freshness" in line
    }
    assert promised["Ticket"] == str(3 * 600 + 60)
    assert promised["Comment"] == "10"
    assert promised["Invoice"] == "20"


def _ref(id_: int) -> Ref:
    return Ref("freshdesk", str(id_))
