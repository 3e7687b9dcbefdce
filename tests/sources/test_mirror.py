"""Mirrors: resumed by any process, nothing missed, nothing kept that is gone, and readable whatever the vendor does."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import event

from sources.layers.mirror import Mirror, MirrorSettings, Reader, Stream
from sources.layers.mirror_readers import Batch, Slice, by_change, by_number
from sources.ledger.book import Ledger
from sources.ports.common import Direction, Page, Ref, Window
from sources.ports.errors import InvalidRequest, SourceBadResponse, SourceUnavailable
from sources.ports.helpdesk import CommentQuery, TicketQuery
from sources.ports.mirror import MirrorQuery, MirrorRow
from sources.sandbox.server import serve
from sources.sandbox.world import World
from sources.transport.background import in_background
from sources.transport.caller import Urgency, caller
from sources.transport.deadline import remaining
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.freshdesk import sandbox as emulator
from sources.vendors.freshdesk.helpdesk import Freshdesk, connect
from tests.commands import started

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
LISTS = "/api/v2/tickets"


class Desk:
    """An account of Freshdesk and the connectors, as of several processes, that copy it into one ledger."""

    def __init__(self, box: emulator.FreshdeskSandbox, url: str, ledgers: Sequence[Ledger]) -> None:
        self.box, self.url = box, url
        self.account = box.desk
        self.ports = [self.port(ledger) for ledger in ledgers]
        self.one, self.other = self.ports[:2]

    def port(self, ledger: Ledger, **settings: Any) -> Freshdesk:
        given = msgspec.structs.replace(emulator.settings_for(self.url), **settings)
        port = connect(given, Wiring(ledger.tokens, (), Network(guarded=False), ledger.mirrors))
        assert isinstance(port, Freshdesk)
        return port

    async def sync(self, **terms: Any) -> bool:
        return await self.one.mirror.catch_up(patient=False, everything=True, **terms)

    async def shown(self) -> set[int]:
        """The tickets that customers see, by number; each but once, and among its own company's alone."""
        companies = [ref(id_) for id_ in self.account.companies]
        pages = await self.other.tickets_of(companies, TicketQuery(Window(first=100)))
        found = [row for page in pages if isinstance(page, Page) for row in page.rows]
        assert all(
            row.customer == company
            for company, page in zip(companies, pages, strict=True)
            if isinstance(page, Page)
            for row in page.rows
        )
        assert len(found) == len({row.ref for row in found})
        return {int(row.ref.id) for row in found}

    def living(self) -> set[int]:
        return {
            id_ for id_, row in self.account.tickets.items() if not (row.get("deleted") or row.get("spam"))
        }

    def lists(self) -> list[dict[str, str]]:
        return [call.params for call in self.box.log.calls(path_prefix=LISTS) if call.path == LISTS]


def ref(id_: int) -> Ref:
    return Ref("freshdesk", str(id_))


@asynccontextmanager
async def desk_over(world: World, database_url: str) -> AsyncIterator[Desk]:
    box = emulator.sandbox(world, calls_per_minute=None, lists_per_minute=None)
    ledgers = [await Ledger.open(database_url) for _ in range(2)]
    await ledgers[0].migrate()
    async with serve(box) as running:
        desk = Desk(box, running.url, ledgers)
        try:
            yield desk
        finally:
            for port in desk.ports:
                await port.close()
            for ledger in ledgers:
                await ledger.close()


@pytest.fixture(scope="module")
def small() -> World:
    return World.build(scale=0.25)


@pytest_asyncio.fixture
async def desk(small: World, database_url: str) -> AsyncIterator[Desk]:
    async with desk_over(small, database_url) as desk:
        yield desk


async def test_a_first_run_copies_everything_and_a_second_only_what_changed(desk: Desk) -> None:
    assert await desk.sync()
    assert await desk.shown() == desk.living()
    desk.box.log.clear()
    changed = min(desk.living())
    desk.account.change(changed, NOON, subject="Something else")
    assert await desk.sync()
    [ticket] = await desk.other.tickets([ref(changed)])
    assert ticket is not None
    assert ticket.subject == "Something else"
    # What changed, the trash and the spam: a call each, however many tickets there are.
    assert [call.get("filter") for call in desk.lists()] == [None, "deleted", "spam"]
    assert desk.lists()[0]["updated_since"] > "2026"


async def test_nothing_is_shown_before_the_first_copy_is_complete(desk: Desk) -> None:
    desk.box.faults.add("slow", LISTS, seconds=0, times=1)
    desk.box.faults.add("fail", LISTS, status=503)
    with pytest.raises(SourceUnavailable):
        await desk.sync()
    assert (await desk.one.mirror.lag())[2].rows == 100
    [page] = await desk.one.tickets_of(
        [ref(next(iter(desk.account.companies)))], TicketQuery(Window(first=5))
    )
    assert isinstance(page, SourceUnavailable)
    with pytest.raises(SourceUnavailable, match="gateway sync"):
        await desk.one.tickets([ref(min(desk.living()))])


async def test_a_vendor_that_fails_half_way_leaves_the_copy_readable_and_the_run_goes_on_later(
    desk: Desk,
) -> None:
    await desk.sync()
    before = await desk.shown()
    desk.box.log.clear()
    desk.box.faults.add("slow", LISTS, seconds=0, times=2)
    desk.box.faults.add("fail", LISTS, status=503)
    with pytest.raises(SourceUnavailable):
        await desk.sync(whole=True)
    assert await desk.shown() == before
    lag = (await desk.one.mirror.lag())[2]
    assert lag.failure is not None
    assert lag.age is not None
    desk.box.faults.clear()
    pages = len(desk.living()) // 100 + 1
    await desk.other.mirror.catch_up(patient=False, everything=True)
    # Two pages before, one that failed, the rest after; then the trash and the spam.
    assert len([call for call in desk.lists() if "filter" not in call]) <= pages + 2
    assert (await desk.one.mirror.lag())[2].failure is None
    assert await desk.shown() == desk.living()


async def test_a_process_killed_half_way_is_gone_on_from_by_another(
    small: World, database_url: str, tmp_path: Path
) -> None:
    world = small.with_large_account(1, invoices=0, tickets=1200)
    async with desk_over(world, database_url) as desk:
        desk.box.faults.add("slow", LISTS, seconds=0, times=6)
        desk.box.faults.add("hang", LISTS)
        config = settings_over(desk, tmp_path)
        running = await started(database_url, config, "sync")
        while len(desk.lists()) < 7:
            assert running.alive
            await asyncio.sleep(0.02)
        running.kill()
        assert (await running.ended())[0] == -signal.SIGKILL
        kept = (await desk.one.mirror.lag())[2]
        assert kept.age is None
        assert 500 <= kept.rows <= 600
        desk.box.faults.clear()
        desk.box.log.clear()
        # PostgreSQL notices that the killed one's connection is gone, and with it its lock.
        while not await desk.sync():
            await asyncio.sleep(0.05)
        numbers = [call for call in desk.lists() if "filter" not in call]
        assert numbers[0]["updated_since"] > "2001"
        # A page begins with the last second of the one before: about 95 new tickets each. Six had been stored.
        assert len(numbers) <= len(desk.living()) // 90 + 1 - 6
        assert await count(database_url) == len(desk.living())


async def test_two_gateways_copy_everything_once_and_either_can_be_killed_meanwhile(
    small: World, database_url: str, tmp_path: Path
) -> None:
    async with desk_over(small, database_url) as desk:
        desk.box.faults.add("slow", LISTS, seconds=0, times=1)
        desk.box.faults.add("hang", LISTS)
        config = settings_over(desk, tmp_path)
        first, second = [await started(database_url, config, "serve", "--port", "0") for _ in range(2)]
        while len(desk.lists()) < 2:
            assert first.alive
            assert second.alive
            await asyncio.sleep(0.02)
        first.kill()
        await first.ended()
        desk.box.faults.clear()
        while (await desk.one.mirror.lag())[2].age is None:
            assert second.alive
            await asyncio.sleep(0.05)
        second.kill()
        await second.ended()
        assert await desk.shown() == desk.living()
        begun = [call for call in desk.lists() if "filter" not in call and call["updated_since"] < "2001"]
        assert len(begun) == 1


def settings_over(desk: Desk, folder: Path) -> Path:
    """A gateway.toml with this account as the helpdesk."""
    config = folder / "gateway.toml"
    config.write_text(f"""
        [[signin.issuers]]
        issuer = "https://login.firm.example"
        audience = "gateway"
        [sources.crm]
        vendor = "hubspot"
        token = "unused"
        [sources.helpdesk]
        vendor = "freshdesk"
        base_url = "{desk.url}"
        api_key = "{emulator.API_KEY}"
        external_id_field = "cf_customer_number"
        statuses = {{ 7 = "on_hold", 8 = "new" }}
        private_addresses = ["127.0.0.1"]
        limits = {{ account = "unlimited", tickets_list = "unlimited" }}
        mirror = {{ every = 1, lists_every = 1 }}
    """)
    return config


async def count(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM mirror_rows WHERE stream = 'tickets'"))
    finally:
        await connection.close()


async def test_deleted_spam_and_restored_tickets_are_noticed_by_the_next_run(desk: Desk) -> None:
    await desk.sync()
    deleted, spam, *_ = sorted(desk.living())
    desk.account.delete(deleted, NOON)
    desk.account.change(spam, NOON, spam=True)
    await desk.sync()
    assert await desk.shown() == desk.living()
    assert not {deleted, spam} & await desk.shown()
    desk.account.change(deleted, NOON + timedelta(minutes=1), deleted=False)
    await desk.sync()
    assert deleted in await desk.shown()


async def test_what_is_erased_without_a_trace_is_gone_after_two_whole_runs(desk: Desk) -> None:
    await desk.sync()
    erased = min(desk.living())
    desk.account.erase(erased)
    await desk.sync()
    assert erased in await desk.shown()
    await desk.sync(whole=True)
    await desk.sync(whole=True)
    assert await desk.shown() == desk.living()


async def test_a_customer_that_is_gone_is_found_no_more(desk: Desk) -> None:
    await desk.sync()
    gone = next(iter(desk.account.companies))
    del desk.account.companies[gone]
    # The vendor only gives the list whole: every run does. One may miss a row, as pages shift; two do not.
    await desk.sync()
    await desk.sync()
    assert list(await desk.one.customers([ref(gone)])) == [None]


async def test_a_ticket_that_moves_to_another_customer_is_the_old_ones_no_more(desk: Desk) -> None:
    await desk.sync()
    moved = min(desk.living())
    old = desk.account.tickets[moved]["company_id"]
    new = next(id_ for id_ in desk.account.companies if id_ != old)
    desk.account.change(moved, NOON, company_id=new)
    # Before the copy knows, nothing that is said on it is read for whoever was shown it.
    [said] = await desk.one.comments_of([ref(moved)], CommentQuery(Window(first=50), internal=True))
    assert said == Page([], [])
    await desk.sync()
    pages = await desk.one.tickets_of([ref(old), ref(new)], TicketQuery(Window(first=100)))
    held = [moved in {int(row.ref.id) for row in page.rows} for page in pages if isinstance(page, Page)]
    assert held == [False, True]


async def test_one_process_writes_at_a_time_and_the_other_takes_over(desk: Desk) -> None:
    desk.box.faults.add("slow", LISTS, seconds=0, times=2)
    desk.box.faults.add("hang", LISTS)
    first = asyncio.create_task(desk.sync())
    while len(desk.lists()) < 3:
        await asyncio.sleep(0.01)
    assert not await desk.other.mirror.catch_up(patient=False, everything=True)
    assert len(desk.lists()) == 3
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    desk.box.faults.clear()
    while not await desk.other.mirror.catch_up(patient=False, everything=True):
        await asyncio.sleep(0.01)
    assert await desk.shown() == desk.living()


async def test_a_process_that_lost_its_turn_without_knowing_stores_nothing(
    desk: Desk, database_url: str
) -> None:
    await desk.sync()
    desk.box.log.clear()
    desk.box.faults.add("hang", LISTS)
    late = asyncio.create_task(desk.sync())
    while not desk.lists():
        await asyncio.sleep(0.01)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE mirror_streams SET holder = 'another' WHERE stream = 'tickets'")
    await connection.close()
    changed = min(desk.living())
    desk.account.change(changed, NOON, subject="Too late")
    desk.box.faults.clear()
    assert await late is False
    [ticket] = await desk.other.tickets([ref(changed)])
    assert ticket is not None
    assert ticket.subject != "Too late"


async def test_tickets_changed_in_one_second_are_all_there_across_pages(desk: Desk) -> None:
    for number, id_ in enumerate(sorted(desk.living())):
        if number < 350:
            desk.account.change(id_, NOON)
    await desk.sync()
    assert await desk.shown() == desk.living()
    desk.box.log.clear()
    await desk.sync()
    assert await desk.shown() == desk.living()


async def test_a_change_while_pages_are_turned_hides_no_other(desk: Desk) -> None:
    """What is changed moves to the end, and everything behind it one place to the front."""
    read = desk.one._tickets_page
    moved = iter(sorted(desk.living(), key=lambda id_: desk.account.tickets[id_]["updated_at"]))

    async def page(since: datetime, number: int) -> Batch:
        found = await read(since, number)
        for _ in range(3):
            desk.account.change(next(moved), NOON)
        return found

    stream = Stream("moving", (Reader("changed", by_change("freshdesk", page, most_pages=300)),))
    store = desk.one.mirror._store
    mirror = Mirror("freshdesk", "account", (stream,), store, MirrorSettings())
    await mirror.catch_up(patient=False)
    assert (await mirror.lag())[0].rows == len(desk.living())


async def test_a_record_that_does_not_fit_is_dropped_alone_counted_and_not_shown_as_it_was(
    desk: Desk,
) -> None:
    await desk.sync()
    odd = min(desk.living())
    desk.account.change(odd, NOON, company_id="not a number")
    other = max(desk.living())
    desk.account.change(other, NOON, subject="Fits")
    await desk.sync()
    assert list(await desk.one.tickets([ref(odd)])) == [None]
    [ticket] = await desk.one.tickets([ref(other)])
    assert ticket is not None
    assert ticket.subject == "Fits"
    assert (await desk.one.mirror.lag())[2].dropped >= 1


async def test_another_account_never_shows_the_first_ones_records(desk: Desk, ledger: Ledger) -> None:
    await desk.sync()
    moved = desk.port(ledger, base_url=desk.url.replace("127.0.0.1", "localhost"))
    company = ref(next(iter(desk.account.companies)))
    [page] = await moved.tickets_of([company], TicketQuery(Window(first=5)))
    assert isinstance(page, SourceUnavailable)
    await moved.close()


async def test_a_copy_that_is_too_old_is_not_shown(desk: Desk, database_url: str) -> None:
    await desk.sync()
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE mirror_streams SET as_of = as_of - interval '2 days'")
    await connection.close()
    with pytest.raises(SourceUnavailable, match="too old"):
        await desk.one.tickets([ref(min(desk.living()))])
    await desk.one.mirror.lag()
    assert "old" in (desk.one.mirror.trouble or "")


async def test_a_dashboard_of_all_customers_is_one_query_and_no_call(desk: Desk) -> None:
    await desk.sync()
    desk.box.log.clear()
    companies = [ref(id_) for id_ in desk.account.companies]
    async with queries(desk) as asked:
        pages = await desk.one.tickets_of(companies, TicketQuery(Window(first=10)))
        counts = await desk.one.open_counts_of(companies)
    assert len(asked) == 2
    assert desk.box.log.count() == 0
    for company, page, number in zip(companies, pages, counts, strict=True):
        assert isinstance(page, Page)
        own = [row for row in desk.account.tickets.values() if row["company_id"] == int(company.id)]
        newest = sorted(own, key=lambda row: (row["created_at"], str(row["id"])), reverse=True)
        assert [row.ref.id for row in page.rows] == [str(row["id"]) for row in newest[:10]]
        assert number == sum(row["status"] in (2, 3, 7, 8) for row in own)


@asynccontextmanager
async def queries(desk: Desk) -> AsyncIterator[list[str]]:
    """What is asked of the database meanwhile, by the first port."""
    asked: list[str] = []
    engine = desk.one.mirror._store._database._pool.sync_engine  # type: ignore[union-attr]

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


# Whatever the vendor


class Lists:
    """A vendor with cursors that expire and a clock of its own."""

    def __init__(self, *changes: datetime) -> None:
        self.changes = list(changes)
        self.asked: list[tuple[datetime | None, Any]] = []
        self.terms: list[tuple[Any, float]] = []
        self.expired = False

    async def read(self, since: datetime | None, cursor: Any) -> Slice:
        self.asked.append((since, cursor))
        self.terms.append((caller(), remaining()))
        if cursor is not None and self.expired:
            self.expired = False
            raise InvalidRequest("vendor", "the cursor has expired")
        start = cursor or 0
        found = [(number, at) for number, at in enumerate(self.changes) if since is None or at >= since]
        shown = found[start : start + 2]
        return Slice(
            [MirrorRow(str(number), b"{}", parent="p", places=(at.isoformat(),)) for number, at in shown],
            newest=max((at for _, at in shown), default=None),
            cursor=start + 2 if start + 2 < len(found) else None,
        )

    def mirror(self, ledger: Ledger, **settings: Any) -> Mirror:
        stream = Stream("things", (Reader("changed", self.read),))
        return Mirror(
            "vendor", "account", (stream,), ledger.mirrors, MirrorSettings(**settings), in_background
        )


async def test_a_run_goes_back_behind_the_latest_change_by_the_vendors_clock(ledger: Ledger) -> None:
    vendor = Lists(NOON - timedelta(hours=3), NOON - timedelta(hours=2))
    mirror = vendor.mirror(ledger, overlap=60.0)
    await mirror.catch_up(patient=False, everything=True)
    await mirror.catch_up(patient=False, everything=True)
    assert [since for since, _ in vendor.asked] == [None, NOON - timedelta(hours=2, seconds=60)]


async def test_a_change_from_the_future_hides_nothing(ledger: Ledger) -> None:
    vendor = Lists(datetime.now(UTC) + timedelta(days=3650))
    mirror = vendor.mirror(ledger)
    await mirror.catch_up(patient=False, everything=True)
    vendor.changes.append(datetime.now(UTC))
    await mirror.catch_up(patient=False, everything=True)
    assert (await mirror.lag())[0].rows == 2


async def test_an_expired_cursor_begins_the_list_again(ledger: Ledger) -> None:
    vendor = Lists(*(NOON + timedelta(minutes=minute) for minute in range(5)))
    vendor.expired = True
    mirror = vendor.mirror(ledger)
    await mirror.catch_up(patient=False, everything=True)
    assert [cursor for _, cursor in vendor.asked] == [None, 2, None, 2, 4]
    assert (await mirror.lag())[0].rows == 5


async def test_calls_are_made_in_the_background_and_with_time(ledger: Ledger) -> None:
    vendor = Lists(NOON)
    await vendor.mirror(ledger).catch_up(patient=False)
    [(who, seconds)] = vendor.terms
    assert who == (Urgency.BACKGROUND, None)
    assert seconds > 30


async def test_what_another_process_has_just_done_is_not_done_again(ledger: Ledger) -> None:
    vendor = Lists(NOON)
    await vendor.mirror(ledger).catch_up(patient=True)
    await vendor.mirror(ledger).catch_up(patient=True)
    assert len(vendor.asked) == 1


async def test_a_list_that_is_not_in_the_order_of_change_is_refused() -> None:
    async def page(since: datetime, number: int) -> Batch:
        return Batch([], [NOON, NOON - timedelta(seconds=1)])

    with pytest.raises(SourceBadResponse, match="order"):
        await by_change("vendor", page, most_pages=3)(None, None)


async def test_more_changes_in_a_second_than_can_be_listed_are_told() -> None:
    async def page(since: datetime, number: int) -> Batch:
        return Batch([], [NOON], more=True)

    read, cursor = by_change("vendor", page, most_pages=3), None
    for _ in range(3):
        cursor = (await read(None, cursor)).cursor
    with pytest.raises(SourceBadResponse, match="one second"):
        await read(None, cursor)


async def test_zero_bytes_and_odd_text_are_kept_out_of_the_database(desk: Desk) -> None:
    odd = min(desk.living())
    desk.account.change(odd, NOON, subject="zero\0byte \\u0000 and \U0001f600")
    await desk.sync()
    [ticket] = await desk.one.tickets([ref(odd)])
    assert ticket is not None
    assert ticket.subject == "zerobyte \\u0000 and \U0001f600"


async def test_rows_of_one_customer_are_never_anothers(ledger: Ledger) -> None:
    async def page(number: int) -> Batch:
        return Batch([MirrorRow(str(n), b"{}", parent=f"p{n % 3}", places=(str(n),)) for n in range(90)])

    stream = Stream("things", (Reader("listed", by_number(page)),), changes=False)
    mirror = Mirror("vendor", "account", (stream,), ledger.mirrors, MirrorSettings())
    await mirror.catch_up(patient=False)
    query = MirrorQuery(Window(first=100), 0, Direction.ASC)
    pages = await mirror.pages("things", ["p1", "p1' OR true --", "p", "\0", "p2"], query)
    assert {parent: sorted(int(key.id) % 3 for key in page.keys) for parent, page in pages.items()} == {
        "p1": [1] * 30,
        "p1' OR true --": [],
        "p": [],
        "p2": [2] * 30,
    }
