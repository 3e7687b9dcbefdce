"""The cache through a port over a running sandbox: what costs a call, what is shared, what is never kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from sources.layers.cache.core import Cache, Surroundings
from sources.layers.cache.freshness import Demand, Reading, Verdict, reading_as
from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from sources.layers.cache.memory import Entry, Memory
from sources.layers.cache.ports import CachedCrm, CachedHelpdesk
from sources.layers.cache.second import Codec
from sources.ports.common import CustomField, Key, Money, Page, Ref, Scalar, Window
from sources.ports.crm import AccountQuery, ContactQuery
from sources.ports.erp import InvoiceDetails, InvoiceLine, InvoicePayment, InvoiceRecord, InvoiceStatus
from sources.ports.errors import SourceBadResponse, SourceError, SourceTimeout, SourceUnavailable
from sources.ports.helpdesk import CommentQuery, TicketQuery
from sources.ports.later import Alone
from sources.registry import Kind, row
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.redis_cache import RedisCache
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from tests.redis_server import redis_server

TIER = CustomField("Account", "renewalDate", "renewal_date", Scalar.DATE, "When it is due.")
PLAIN = Lifetimes(jitter=0.0)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A HubSpot sandbox, its connector, and caches over it."""

    def __init__(self, world: World, sandbox: Sandbox, crm: Any) -> None:
        self.world, self.sandbox, self.crm = world, sandbox, crm
        self.clock = Clock()
        self.caches: list[Cache] = []

    def cache(self, lifetimes: Lifetimes = PLAIN, **options: Any) -> tuple[CachedCrm, Cache]:
        cache = Cache(lifetimes, clock=self.clock, chance=lambda: 1.0, **options)
        self.caches.append(cache)
        return CachedCrm(self.crm, cache), cache

    def refs(self, *indexes: int) -> list[Ref]:
        return [Ref("hubspot", self.world.accounts[index].hubspot_id) for index in indexes]

    @property
    def calls(self) -> int:
        return len(self.sandbox.log.calls())

    @contextmanager
    def request(self, max_age: float | None = None, max_stale: float = 0.0) -> Iterator[Reading]:
        reading = Reading(Demand(max_age, max_stale), self.clock())
        with reading_as(reading):
            yield reading


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(world: World) -> AsyncIterator[tuple[Sandbox, str]]:
    sandbox = row(Kind.CRM, "hubspot").sandbox.sandbox(world)
    async with serve(sandbox) as served:
        yield sandbox, served.url


@pytest_asyncio.fixture
async def bench(world: World, running: tuple[Sandbox, str]) -> AsyncIterator[Bench]:
    sandbox, url = running
    hubspot = row(Kind.CRM, "hubspot")
    no_tokens: Any = None  # a private app's own does
    crm = hubspot.connect(
        hubspot.sandbox.settings_for(url), Wiring(no_tokens, (TIER,), Network(guarded=False))
    )
    sandbox.log.clear()
    made = Bench(world, sandbox, crm)
    yield made
    sandbox.faults.clear()
    for cache in made.caches:
        await cache.close()
    await crm.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_record_is_read_once_in_its_time_and_only_the_missing_ones_are_asked_for(
    bench: Bench,
) -> None:
    crm, _ = bench.cache()
    with bench.request() as reading:
        first = await crm.accounts(bench.refs(0, 1))
        assert bench.calls == 1
        second = await crm.accounts(bench.refs(1, 0, 1))
        assert second == [first[1], first[0], first[1]]
        assert bench.calls == 1
        third = await crm.accounts(bench.refs(0, 2))
        assert third[0] == first[0]
        assert bench.calls == 2
        # What is told of a request is its worst.
        assert reading.notes["hubspot", "Account"].verdict is Verdict.CACHED
    assert third == await bench.crm.accounts(bench.refs(0, 2))


async def test_a_thousand_requests_at_once_for_the_same_make_one_call(bench: Bench) -> None:
    crm, _ = bench.cache()

    async def ask() -> Any:
        with bench.request():
            return await crm.accounts(bench.refs(0, 1, 2))

    answers = await asyncio.gather(*(ask() for _ in range(1000)))
    assert bench.calls == 1
    assert all(answer == answers[0] for answer in answers)


async def test_a_thousand_live_requests_that_begin_before_the_call_share_it_too(bench: Bench) -> None:
    crm, _ = bench.cache(Lifetimes(seconds=KindSeconds(accounts=0)))

    async def ask() -> Any:
        with bench.request():
            return await crm.accounts(bench.refs(0))

    await asyncio.gather(*(ask() for _ in range(1000)))
    assert bench.calls == 1
    await ask()
    assert bench.calls == 2  # 0 seconds: nothing is remembered


async def test_whoever_says_nothing_reads_live(bench: Bench) -> None:
    crm, _ = bench.cache()
    await crm.accounts(bench.refs(0))
    bench.clock.now += 1
    await crm.accounts(bench.refs(0))
    assert bench.calls == 2


async def test_one_who_leaves_does_not_end_what_others_wait_for_and_the_last_one_does(bench: Bench) -> None:
    crm, _ = bench.cache()
    bench.sandbox.faults.add("hang")

    async def ask() -> Any:
        with bench.request():
            return await crm.accounts(bench.refs(0))

    first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
    await until(lambda: bench.calls == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    bench.sandbox.faults.clear()
    assert (await second)[0].ref == bench.refs(0)[0]
    assert bench.calls == 1

    bench.sandbox.faults.add("hang")
    third = asyncio.create_task(ask_other(crm, bench))
    await until(lambda: bench.calls == 2)
    (flying,) = [task for task in asyncio.all_tasks() if task.get_name() == "read hubspot"]
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    await asyncio.wait([flying], timeout=5)
    assert flying.cancelled()


async def ask_other(crm: CachedCrm, bench: Bench) -> Any:
    with bench.request():
        return await crm.accounts(bench.refs(5))


async def test_a_deadline_ends_ones_own_waiting_alone(bench: Bench) -> None:
    patience: ContextVar[float] = ContextVar("patience", default=5.0)
    crm, _ = bench.cache(surroundings=Surroundings(patience=patience.get))
    bench.sandbox.faults.add("hang")

    async def ask(seconds: float) -> Any:
        patience.set(seconds)
        with bench.request():
            return await crm.accounts(bench.refs(0))

    patient = asyncio.create_task(ask(5.0))
    await until(lambda: bench.calls == 1)
    with pytest.raises(SourceTimeout):
        await asyncio.create_task(ask(0.05))
    bench.sandbox.faults.clear()
    assert (await patient)[0].ref == bench.refs(0)[0]
    assert bench.calls == 1


async def test_keys_that_come_while_a_call_is_under_way_go_in_one_more(bench: Bench) -> None:
    crm, _ = bench.cache(Lifetimes(coalesce=0.1))
    bench.sandbox.faults.add("hang")

    async def ask(index: int) -> Any:
        with bench.request():
            (record,) = await crm.accounts(bench.refs(index))
            return record.ref

    first = asyncio.create_task(ask(0))
    await until(lambda: bench.calls == 1)  # idle: it did not wait
    others = [asyncio.create_task(ask(index)) for index in range(1, 21)]
    await until(lambda: bench.calls == 2)
    bench.sandbox.faults.clear()
    assert [await first, *[await other for other in others]] == bench.refs(*range(21))
    assert bench.calls == 2


async def test_nobodys_keys_go_in_anothers_call(bench: Bench) -> None:
    who: ContextVar[str] = ContextVar("who", default="")
    crm, _ = bench.cache(Lifetimes(coalesce=0.05), surroundings=Surroundings(lane=lambda: (0, who.get())))
    bench.sandbox.faults.add("hang")

    async def ask(index: int, name: str) -> None:
        who.set(name)
        with bench.request():
            await crm.accounts(bench.refs(index))

    tasks = [asyncio.create_task(ask(0, "harbour"))]
    await until(lambda: bench.calls == 1)
    tasks += [asyncio.create_task(ask(index, f"other-{index % 2}")) for index in range(1, 9)]
    await until(lambda: bench.calls == 3)
    bench.sandbox.faults.clear()
    await asyncio.gather(*tasks)
    assert bench.calls == 3


async def test_someone_urgent_does_not_wait_behind_a_call_in_the_background(bench: Bench) -> None:
    urgency: ContextVar[int] = ContextVar("urgency", default=2)
    crm, _ = bench.cache(surroundings=Surroundings(lane=lambda: (urgency.get(), None)))
    bench.sandbox.faults.add("hang", times=1)

    async def ask(how: int) -> Any:
        urgency.set(how)
        with bench.request():
            return await crm.accounts(bench.refs(0))

    slow = asyncio.create_task(ask(2))
    await until(lambda: bench.calls == 1)
    assert (await asyncio.create_task(ask(0)))[0] is not None
    assert not slow.done()
    bench.sandbox.faults.clear()
    await slow


async def test_what_is_due_is_given_once_more_while_it_is_read_behind(bench: Bench) -> None:
    crm, cache = bench.cache(
        Lifetimes(jitter=0.0, seconds=KindSeconds(accounts=60), stale_while_revalidate=5)
    )
    with bench.request():
        await crm.accounts(bench.refs(0))
    bench.clock.now += 62
    with bench.request() as reading:
        await crm.accounts(bench.refs(0))
        await crm.accounts(bench.refs(0))
    assert reading.notes["hubspot", "Account"].verdict is Verdict.CACHED
    await until(lambda: bench.calls == 2 and not cache._flights._all)
    with bench.request() as reading:
        await crm.accounts(bench.refs(0))
    assert bench.calls == 2
    bench.clock.now += 66
    with bench.request() as reading:
        await crm.accounts(bench.refs(0))
    assert reading.notes["hubspot", "Account"].verdict is Verdict.LIVE
    assert bench.calls == 3


async def test_a_failing_source_leaves_what_is_not_too_old_and_errors_are_not_kept(bench: Bench) -> None:
    crm, _ = bench.cache(Lifetimes(jitter=0.0, stale_if_error=100))
    with bench.request():
        known = await crm.accounts(bench.refs(0))
    bench.sandbox.faults.add("fail", status=503)
    bench.clock.now += 90
    with bench.request() as reading:
        assert await crm.accounts(bench.refs(0)) == known
    assert reading.notes["hubspot", "Account"].verdict is Verdict.STALE
    # What was never read cannot stand in, whatever else of the batch can.
    with bench.request(), pytest.raises(SourceUnavailable):
        await crm.accounts(bench.refs(0, 1))
    with bench.request(max_age=10), pytest.raises(SourceUnavailable):
        await crm.accounts(bench.refs(0))
    bench.clock.now += 11
    with bench.request(), pytest.raises(SourceUnavailable):
        await crm.accounts(bench.refs(0))
    bench.sandbox.faults.clear()
    with bench.request() as reading:
        assert await crm.accounts(bench.refs(0, 1)) == await bench.crm.accounts(bench.refs(0, 1))
    assert reading.notes["hubspot", "Account"].verdict is Verdict.LIVE


async def test_that_there_is_no_such_record_stands_for_a_short_while_and_never_for_a_failing_source(
    bench: Bench,
) -> None:
    crm, _ = bench.cache(Lifetimes(missing=5))
    nobody = [Ref("hubspot", "999999999")]
    with bench.request():
        assert await crm.accounts(nobody) == [None]
        assert await crm.accounts(nobody) == [None]
    assert bench.calls == 1
    bench.clock.now += 6
    bench.sandbox.faults.add("fail", status=503)
    with bench.request(), pytest.raises(SourceUnavailable):
        await crm.accounts(nobody)


async def test_lists_are_kept_by_their_question_and_parent(bench: Bench) -> None:
    crm, _ = bench.cache()
    five, ten = ContactQuery(Window(first=5)), ContactQuery(Window(first=10))
    with bench.request():
        pages = await crm.contacts_of(bench.refs(0, 1), five)
        spent = bench.calls
        assert await crm.contacts_of(bench.refs(1), five) == [pages[1]]
        assert bench.calls == spent
        await crm.contacts_of(bench.refs(0), ten)
        assert bench.calls > spent
        spent = bench.calls
        mine = AccountQuery(Window(first=5), within=tuple(bench.refs(0)))
        theirs = AccountQuery(Window(first=5), within=tuple(bench.refs(1)))
        assert [row.ref for row in (await crm.find_accounts(mine)).rows] == bench.refs(0)
        assert [row.ref for row in (await crm.find_accounts(theirs)).rows] == bench.refs(1)


async def test_forgetting_a_record_forgets_every_list_of_its_source_and_no_other(bench: Bench) -> None:
    crm, cache = bench.cache()
    query = ContactQuery(Window(first=5))

    async def spent() -> int:
        before = bench.calls
        with bench.request():
            await crm.accounts(bench.refs(0, 1))
            await crm.contacts_of(bench.refs(0), query)
        return bench.calls - before

    whole = await spent()
    assert await spent() == 0
    cache.forget(refs=bench.refs(0))
    assert 0 < await spent() <= whole
    cache.forget(refs=[Ref("xero", "1")], source="xero")
    assert await spent() == 0
    cache.forget(source="hubspot")
    assert await spent() == whole


async def test_what_is_forgotten_while_it_is_read_is_not_kept(bench: Bench) -> None:
    crm, cache = bench.cache()
    bench.sandbox.faults.add("hang")

    async def ask() -> Any:
        with bench.request():
            return await crm.accounts(bench.refs(0))

    asking = asyncio.create_task(ask())
    await until(lambda: bench.calls == 1)
    cache.forget(refs=bench.refs(0))
    bench.sandbox.faults.clear()
    await asking
    await ask()
    assert bench.calls == 2


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    memory = Memory(100_000)
    shelf = memory.shelf("hubspot", "Account", None)
    memory.hold(shelf)
    for number in range(1000):
        memory.put((shelf, number), Entry("x" * 100, 0.0, 1.0, 0.0))
        memory.get((shelf, 0))
    assert memory.size <= 100_000
    assert memory.get((shelf, 0)) is not None
    assert memory.get((shelf, 1)) is None
    assert memory.get((shelf, 999)) is not None
    memory.put((shelf, "large"), Entry("x" * 200_000, 0.0, 1.0, 0.0))
    assert memory.get((shelf, "large")) is None
    memory.forget(lambda place: True)
    assert (memory.size, len(memory)) == (0, 0)


def test_questions_of_which_nothing_is_left_are_forgotten_too() -> None:
    memory = Memory(50_000)
    for number in range(5000):
        shelf = memory.shelf("hubspot", "Contact", number)
        memory.hold(shelf)
        memory.put((shelf, "parent"), Entry("x", 0.0, 1.0, 0.0))
        memory.let_go(shelf)
    assert len(memory._shelves) == len(memory) < 5000


# -- the second level ---------------------------------------------------------------------------------------------------


def codec(account: str = "one", fields: Sequence[CustomField] = (TIER,)) -> Codec:
    return Codec({"hubspot": account, "xero": account, "zendesk": account, "s3": account}, fields)


@asynccontextmanager
async def shared(url: str) -> AsyncIterator[RedisCache]:
    redis = RedisCache(url, patience=10.0)
    try:
        yield redis
    finally:
        await redis.close()


async def test_what_one_process_read_another_takes_from_redis_with_every_value_as_it_was(
    bench: Bench,
) -> None:
    query = ContactQuery(Window(first=5))
    async with redis_server() as server:
        async with shared(server.url) as redis:
            one, _ = bench.cache(second=redis, codec=codec())
            with bench.request():
                accounts = await one.accounts([*bench.refs(0, 1, 2), Ref("hubspot", "999999999")])
                pages = await one.contacts_of(bench.refs(0), query)
        spent = bench.calls
        assert any(record and record.custom.get("renewal_date") for record in accounts)
        async with shared(server.url) as redis:
            two, _ = bench.cache(second=redis, codec=codec())
            with bench.request() as reading:
                assert await two.accounts([*bench.refs(0, 1, 2), Ref("hubspot", "999999999")]) == accounts
                assert await two.contacts_of(bench.refs(0), query) == pages
            assert bench.calls == spent
            assert reading.notes["hubspot", "Account"].verdict is Verdict.CACHED
            assert reading.notes["hubspot", "Account"].read_at == bench.clock.now
            # Of another account of the vendor's, or with other own fields, nothing is found.
            for other in (codec("two"), codec(fields=())):
                stranger, _ = bench.cache(second=redis, codec=other)
                with bench.request():
                    await stranger.accounts(bench.refs(0))
                spent += 1
                assert bench.calls == spent


def invoice(details: Alone[InvoiceDetails]) -> InvoiceRecord:
    customer = Ref("xero", "c")
    return InvoiceRecord(Ref("xero", "i"), customer, "INV-1", InvoiceStatus.OPEN, None, details, custom={})


async def test_parts_of_a_record_that_nobody_has_read_are_read_for_redis_and_come_back_as_they_were() -> None:
    line = InvoiceLine("l", "GBP", "Support", Decimal("2.0"), Decimal("20"), None, Decimal("40.00"))
    paid = InvoicePayment("p", date(2026, 4, 1), Money(Decimal("5.10"), "GBP"))
    details = InvoiceDetails(
        "PO 7",
        Decimal("40.00"),
        updated_at=datetime(2026, 4, 1, 9, tzinfo=UTC),
        lines=(line,),
        payments=(paid,),
    )
    memory = Memory(100_000)
    place = (memory.shelf("xero", "Invoice", ("a question",)), Ref("xero", "c"))
    page = Page([invoice(Alone(b"x", lambda text: details))], [Key("2026-04-01", "i")])

    text = codec(fields=()).encoded(page, 5.0)
    assert text is not None
    found = codec(fields=()).decoded(place, text)

    assert found is not None
    read_at, other = found
    assert (read_at, other.keys, other.rows[0].details.value) == (5.0, page.keys, details)
    assert other.rows[0].lines[0].amount == Money(Decimal("40.00"), "GBP")


async def test_what_cannot_be_read_whole_is_kept_here_as_it_came_and_not_shared() -> None:
    def unfit(text: bytes) -> InvoiceDetails:
        raise SourceBadResponse("xero", "a line is none")

    memory = Memory(100_000)
    place = (memory.shelf("xero", "Invoice", None), Ref("xero", "i"))

    memory.put(place, Entry(invoice(Alone(b"x" * 20_000, unfit)), 0.0, 1.0, 0.0))

    assert memory.size > 20_000
    entry = memory.get(place)
    assert entry is not None
    assert entry.value.number == "INV-1"
    assert codec(fields=()).encoded(entry.value, 0.0) is None


async def test_what_another_process_has_read_stands_in_while_the_source_fails(bench: Bench) -> None:
    lifetimes = Lifetimes(jitter=0.0, stale_if_error=100)
    async with redis_server() as server, shared(server.url) as redis:
        one, _ = bench.cache(lifetimes, second=redis, codec=codec())
        known = await asked(one, bench, 0)
        await until(lambda: not redis._puts)
        bench.sandbox.faults.add("fail", status=503)
        bench.clock.now += 90
        two, _ = bench.cache(lifetimes, second=redis, codec=codec())
        with bench.request() as reading:
            assert await two.accounts(bench.refs(0)) == known
        assert reading.notes["hubspot", "Account"].verdict is Verdict.STALE
        bench.clock.now += 20
        three, _ = bench.cache(lifetimes, second=redis, codec=codec())
        with bench.request(), pytest.raises(SourceUnavailable):
            await three.accounts(bench.refs(0))


async def test_forgotten_in_redis_is_read_anew_by_all(bench: Bench) -> None:
    async with redis_server() as server, shared(server.url) as redis:
        one, first = bench.cache(second=redis, codec=codec())
        with bench.request():
            await one.accounts(bench.refs(0, 1))
        await until(lambda: not redis._puts)
        await first.forget_shared(refs=bench.refs(0))
        two, _ = bench.cache(second=redis, codec=codec())
        spent = bench.calls
        with bench.request():
            await two.accounts(bench.refs(1))
            assert bench.calls == spent
            await two.accounts(bench.refs(0))
        assert bench.calls == spent + 1


class Watched(RedisCache):
    """Tells how often it was asked."""

    looks = 0

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        self.looks += 1
        return await super().get(keys)


@asynccontextmanager
async def two_processes(bench: Bench, **options: Any) -> AsyncIterator[tuple[CachedCrm, CachedCrm, Watched]]:
    """What the second one has of Redis is watched."""
    async with redis_server() as server, shared(server.url) as redis:
        watched = Watched(server.url)
        try:
            one, _ = bench.cache(second=redis, codec=codec(), **options)
            two, _ = bench.cache(second=watched, codec=codec(), **options)
            yield one, two, watched
        finally:
            await watched.close()


async def asked(crm: CachedCrm, bench: Bench, *indexes: int) -> Any:
    with bench.request():
        return await crm.accounts(bench.refs(*indexes))


async def test_what_one_process_is_reading_another_waits_for(bench: Bench) -> None:
    async with two_processes(bench) as (one, two, redis):
        bench.sandbox.faults.add("hang")
        first = asyncio.create_task(asked(one, bench, 0))
        await until(lambda: bench.calls == 1)
        second = asyncio.create_task(asked(two, bench, 0, 1))
        # What nobody else reads it asks for itself, at once; and looks for the rest.
        await until(lambda: bench.calls == 2)
        bench.sandbox.faults.clear()
        assert [*await first, *await second] == await bench.crm.accounts(bench.refs(0, 0, 1))
        assert bench.calls == 3  # with the one that compares

        bench.sandbox.faults.add("hang")
        first = asyncio.create_task(asked(one, bench, 2))
        await until(lambda: bench.calls == 4)
        looks = redis.looks
        second = asyncio.create_task(asked(two, bench, 2))
        await until(lambda: redis.looks >= looks + 4)
        assert bench.calls == 4
        bench.sandbox.faults.clear()
        assert await first == await second
        assert bench.calls == 4


async def test_a_process_whose_read_ends_without_an_answer_is_waited_for_no_longer(bench: Bench) -> None:
    async with two_processes(bench) as (one, two, redis):
        bench.sandbox.faults.add("hang")
        first = asyncio.create_task(asked(one, bench, 0))
        await until(lambda: bench.calls == 1)
        second = asyncio.create_task(asked(two, bench, 0))
        await until(lambda: redis.looks >= 3)
        first.cancel()
        await until(lambda: bench.calls == 2)
        bench.sandbox.faults.clear()
        assert (await second)[0].ref == bench.refs(0)[0]


async def test_a_process_that_died_while_it_read_does_not_keep_others_until_their_deadline(
    bench: Bench,
) -> None:
    surroundings = Surroundings(patience=lambda: 0.5)
    async with two_processes(bench, surroundings=surroundings) as (_, two, redis):
        assert await asked(two, bench, 0)
        async for key in redis._redis.scan_iter():
            await redis._redis.rename(key, key + b":claim:0")  # as if it had been about to
        bench.caches[-1].forget()
        assert (await asked(two, bench, 0))[0].ref == bench.refs(0)[0]
        assert bench.calls == 2


async def test_someone_urgent_does_not_wait_for_another_process_in_the_background(bench: Bench) -> None:
    urgency: ContextVar[int] = ContextVar("urgency", default=2)
    lanes = Surroundings(lane=lambda: (urgency.get(), None))
    async with two_processes(bench, surroundings=lanes) as (one, two, _):
        bench.sandbox.faults.add("hang", times=1)
        slow = asyncio.create_task(asked(one, bench, 0))
        await until(lambda: bench.calls == 1)
        urgency.set(0)
        assert (await asked(two, bench, 0))[0].ref == bench.refs(0)[0]
        assert not slow.done()
        bench.sandbox.faults.clear()
        await slow


async def test_what_is_due_is_read_behind_by_one_process(bench: Bench) -> None:
    lifetimes = Lifetimes(jitter=0.0, seconds=KindSeconds(accounts=60), stale_while_revalidate=5)
    async with redis_server() as server, shared(server.url) as redis:
        ports = [bench.cache(lifetimes, second=redis, codec=codec())[0] for _ in range(4)]
        for port in ports:
            await asked(port, bench, 0)
        assert bench.calls == 1
        bench.clock.now += 62
        await asyncio.gather(*(asked(port, bench, 0) for port in ports))
        await until(
            lambda: all(
                cache._memory.get(_place(cache, bench)).read_at == bench.clock.now for cache in bench.caches
            )
        )
        assert bench.calls == 2


async def test_without_redis_each_process_remembers_for_itself(bench: Bench) -> None:
    async with redis_server() as server, shared(server.url) as redis:
        crm, _ = bench.cache(second=redis, codec=codec())
        await server.stop()
        with bench.request():
            first = await crm.accounts(bench.refs(0))
            assert await crm.accounts(bench.refs(0)) == first
        assert bench.calls == 1


async def test_what_cannot_be_read_in_redis_is_read_from_the_source(bench: Bench) -> None:
    async with redis_server() as server, shared(server.url) as redis:
        one, _ = bench.cache(second=redis, codec=codec())
        with bench.request():
            first = await one.accounts(bench.refs(0))
        await until(lambda: not redis._puts)
        async for key in redis._redis.scan_iter():
            await redis._redis.set(key, b"\xc1 nonsense")
        two, _ = bench.cache(second=redis, codec=codec())
        with bench.request():
            assert await two.accounts(bench.refs(0)) == first
        assert bench.calls == 2


def test_the_questions_of_those_who_see_notes_and_of_those_who_do_not_are_two() -> None:
    memory = Memory(1000)
    one = memory.shelf("zendesk", "Comment", CommentQuery(Window(first=5), internal=True))
    memory.hold(one)
    assert memory.shelf("zendesk", "Comment", CommentQuery(Window(first=5), internal=False)) is not one
    assert memory.shelf("zendesk", "Comment", CommentQuery(Window(first=5), internal=True)) is one


async def test_an_error_in_one_parents_place_is_not_kept_with_the_others(bench: Bench) -> None:
    cache = Cache(PLAIN, clock=bench.clock)
    port: Any = _Half()
    helpdesk = CachedHelpdesk(port, cache)
    a, b = Ref("zendesk", "1"), Ref("zendesk", "2")
    query = TicketQuery(Window(first=1))
    with bench.request():
        first = await helpdesk.tickets_of([a, b], query)
        assert isinstance(first[1], SourceError)
        second = await helpdesk.tickets_of([a, b], query)
    assert not isinstance(second[1], SourceError)
    assert port.asked == [[a, b], [b]]


def _place(cache: Cache, bench: Bench) -> Any:
    return cache._memory.shelf("hubspot", "Account", None), bench.refs(0)[0]


class _Half:
    """A helpdesk of which the second customer's tickets fail at first."""

    name = "zendesk"

    def __init__(self) -> None:
        self.asked: list[list[Ref]] = []

    async def tickets_of(self, customers: Sequence[Ref], query: TicketQuery) -> Sequence[Any]:
        self.asked.append(list(customers))
        down = SourceUnavailable("zendesk", "down")
        return [
            down if len(self.asked) == 1 and place == 1 else Page((), ()) for place in range(len(customers))
        ]
