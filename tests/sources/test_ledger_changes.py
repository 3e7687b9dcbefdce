"""Whoever listens is told which book changed, and when nobody can know."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.changes import Change
from sources.ports.common import Ref
from sources.ports.members import OrganisationRecord

BOOKS = ("organisations", "links")


@pytest_asyncio.fixture
async def watching(ledger: Ledger) -> AsyncIterator[Ledger]:
    """A ledger that hears."""
    with ledger.changes.listen() as listener:
        ledger.watch()
        await soon(listener.change())
        assert ledger.changes.heard
    yield ledger


async def soon(awaited: object) -> Change:
    async with asyncio.timeout(30):
        return await awaited  # type: ignore[misc,no-any-return]


async def test_a_listener_is_told_of_its_book_and_of_no_other(watching: Ledger, database_url: str) -> None:
    other = await Ledger.open(database_url)
    with watching.changes.listen("links") as links, watching.changes.listen("organisations") as named:
        await other.organisations.save(OrganisationRecord("acme", "Acme", ()))

        assert await soon(named.change()) == Change(frozenset({"organisations"}))
        await other.links.declare_absent(Ref("hubspot", "901"), "xero", "staff")
        assert await soon(links.change()) == Change(frozenset({"links"}))
    await other.close()


async def test_any_number_of_changes_waits_as_one(watching: Ledger) -> None:
    with watching.changes.listen(*BOOKS) as slow, watching.changes.listen(*BOOKS) as fast:
        for number in range(5):
            await watching.organisations.save(OrganisationRecord(f"o{number}", "Name", ()))
            await soon(fast.change())
        await watching.links.declare_absent(Ref("hubspot", "901"), "xero", "staff")
        while "links" not in (await soon(fast.change())).books:
            pass

        assert await soon(slow.change()) == Change(frozenset(BOOKS))
        assert not slow._happened.is_set()  # type: ignore[attr-defined]


async def test_a_lost_connection_makes_listeners_unsure_and_so_does_hearing_again(
    watching: Ledger, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    with watching.changes.listen(*BOOKS) as listener:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%gateway_ledger%' AND pid <> pg_backend_pid()"
        )

        assert await soon(listener.change()) == Change(frozenset(BOOKS), unsure=True)
        assert not watching.changes.heard
        assert await soon(listener.change()) == Change(frozenset(BOOKS), unsure=True)
        assert watching.changes.heard
    await connection.close()


async def test_who_has_left_is_forgotten(watching: Ledger) -> None:
    with watching.changes.listen("links"):
        assert len(watching._database.memory.feed._listeners) == 1

    assert not watching._database.memory.feed._listeners
