"""Changes under an idempotency key: done once, whatever is repeated, raced or killed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.common import Window
from sources.ports.errors import SourceUnavailable
from sources.ports.members import BookQuery, Granting, Invite, OrganisationRecord, Person
from sources.ports.writing import Refusal, WriteRefused

BOSS = Granting(by="boss", owner="owner", roles=frozenset({"standard"}))


@pytest_asyncio.fixture
async def book(ledger: Ledger) -> AsyncIterator[Ledger]:
    await ledger.organisations.save(OrganisationRecord("acme", "Acme", ()))
    yield ledger


class Inviting:
    """Work that invites one more address every time it is really done."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.done = ledger, 0
        self.secret = ""

    async def __call__(self) -> Mapping[str, str]:
        self.done += 1
        invite = Invite(f"n{self.done}@acme.example", ("standard",), datetime.now(UTC) + timedelta(days=1))
        made, self.secret = await self.ledger.members.invite("acme", invite, BOSS)
        return {"invitation": made.id}


async def invited(ledger: Ledger) -> int:
    return len((await ledger.members.invitations_of(BookQuery("acme", Window(first=100)))).rows)


async def test_the_same_key_and_input_answers_what_was_done_before(book):
    work = Inviting(book)
    first = await book.writes.once("anna", "k1", "invite", b"{}", work)
    again = await book.writes.once("anna", "k1", "invite", b"{}", work)
    assert (first.repeated, again.repeated, work.done, await invited(book)) == (False, True, 1, 1)
    assert (again.id, again.at, again.records) == (first.id, first.at, first.records)


async def test_the_same_key_with_another_input_or_change_is_refused(book):
    work = Inviting(book)
    await book.writes.once("anna", "k1", "invite", b"{}", work)
    for change, given in (("invite", b"{1}"), ("remove", b"{}"), ("invit", b"e{}")):
        with pytest.raises(WriteRefused) as refused:
            await book.writes.once("anna", "k1", change, given, work)
        assert refused.value.code is Refusal.IDEMPOTENCY_KEY_REUSED
    assert (work.done, await invited(book)) == (1, 1)


async def test_a_key_is_its_callers_own(book):
    work = Inviting(book)
    one = await book.writes.once("anna", "k1", "invite", b"{}", work)
    other = await book.writes.once("ben", "k1", "invite", b"{}", work)
    assert (one.id != other.id, work.done) == (True, 2)


async def test_many_requests_with_one_key_at_once_do_it_once(book, database_url):
    other = await Ledger.open(database_url)
    works = [Inviting(book), Inviting(other)]
    answers = await asyncio.gather(
        *(
            works[number % 2].ledger.writes.once("anna", "k1", "invite", b"{}", works[number % 2])
            for number in range(40)
        )
    )
    await other.close()
    assert (sum(work.done for work in works), await invited(book)) == (1, 1)
    assert len({answer.id for answer in answers}) == 1
    assert sum(not answer.repeated for answer in answers) == 1


async def test_many_people_who_accept_at_once_do_not_wait_for_each_other_forever(book):
    """Each holds a connection of the pool while it works."""
    work = Inviting(book)
    secrets = []
    for _ in range(30):
        await work()
        secrets.append(work.secret)

    async def accept(number: int) -> Mapping[str, str]:
        person = Person("https://id.example", f"p{number}")
        return {"member": (await book.members.accept(secrets[number], person, verified_email=False)).id}

    answers = await asyncio.gather(
        *(
            book.writes.once(f"p{number}", "k", "accept", b"", lambda number=number: accept(number))
            for number in range(30)
        )
    )
    assert len({answer.records["member"] for answer in answers}) == 30


async def test_what_fails_or_is_refused_leaves_nothing_and_may_be_tried_again(book):
    work = Inviting(book)

    async def half_way() -> Mapping[str, str]:
        await work()
        raise WriteRefused(Refusal.INVALID, "the second half is wrong")

    with pytest.raises(WriteRefused, match="second half"):
        await book.writes.once("anna", "k1", "invite", b"{}", half_way)
    assert await invited(book) == 0
    assert (await book.writes.once("anna", "k1", "invite", b"{}", work)).repeated is False
    assert await invited(book) == 1


async def test_a_connection_that_dies_half_way_leaves_neither_the_change_nor_its_memory(book, database_url):
    work = Inviting(book)

    async def killed() -> Mapping[str, str]:
        records = await work()
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'"
        )
        await connection.close()
        return records

    with pytest.raises(SourceUnavailable):
        await book.writes.once("anna", "k1", "invite", b"{}", killed)
    assert await invited(book) == 0
    again = await book.writes.once("anna", "k1", "invite", b"{}", work)
    assert (again.repeated, await invited(book)) == (False, 1)


async def test_a_refusal_inside_takes_back_only_its_own_part(book):
    work = Inviting(book)

    async def first_fails() -> Mapping[str, str]:
        with pytest.raises(WriteRefused):
            await book.members.remove("acme", "nobody", BOSS)
        return await work()

    await book.writes.once("anna", "k1", "invite", b"{}", first_fails)
    assert await invited(book) == 1


async def test_a_key_that_no_database_can_hold_is_refused(book):
    with pytest.raises(WriteRefused) as refused:
        await book.writes.once("anna", "k\0", "invite", b"{}", Inviting(book))
    assert refused.value.code is Refusal.INVALID


async def test_old_changes_are_forgotten(book, database_url):
    work = Inviting(book)
    await book.writes.once("anna", "k1", "invite", b"{}", work)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE writes SET written_at = written_at - interval '8 days'")
    await book.writes.once("anna", "k2", "invite", b"{}", work)
    kept = await connection.fetch("SELECT key FROM writes")
    await connection.close()
    assert [row["key"] for row in kept] == ["k2"]
