"""The ledger answers from memory only while it would hear of a change."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.common import Ref
from sources.ports.links import Link, LinkState
from sources.ports.members import OrganisationRecord

ACCOUNT, CONTACT, OTHER = Ref("hubspot", "901"), Ref("xero", "a"), Ref("xero", "b")


@pytest_asyncio.fixture
async def watching(ledger: Ledger) -> AsyncIterator[Ledger]:
    """A ledger that listens."""
    ledger.watch()
    await until(lambda: _listens(ledger))
    yield ledger


async def _listens(ledger: Ledger) -> bool:
    return ledger._database.memory._listening


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a condition, not for a time; fails after half a minute."""
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.sleep(0.01)


async def state(ledger: Ledger) -> LinkState | None:
    (link,) = await ledger.links.links_of([ACCOUNT], "xero")
    return link.state if link else None


def remembered(ledger: Ledger) -> int:
    return len(ledger._database.memory._kept)


async def test_a_settled_link_and_an_organisation_are_read_once(watching: Ledger) -> None:
    await watching.links.record([Link(ACCOUNT, "xero", LinkState.MATCHED, CONTACT)])
    await watching.organisations.save(OrganisationRecord("acme", "Acme", (ACCOUNT,)))

    async def both_are_remembered() -> bool:
        # The notification of the writes above may still empty the memory once.
        await watching.links.links_of([ACCOUNT], "xero")
        await watching.organisations.organisations(["acme"])
        return remembered(watching) == 2

    await until(both_are_remembered)


async def test_what_is_not_settled_is_not_remembered(watching: Ledger) -> None:
    await watching.links.record([Link(ACCOUNT, "xero", LinkState.UNMATCHED)])

    assert await state(watching) is LinkState.UNMATCHED
    assert remembered(watching) == 0


async def test_a_process_sees_its_own_change_at_once(watching: Ledger) -> None:
    await watching.links.record([Link(ACCOUNT, "xero", LinkState.MATCHED, CONTACT)])
    assert await state(watching) is LinkState.MATCHED

    await watching.links.declare_absent(ACCOUNT, "xero", "staff")

    assert await state(watching) is LinkState.ABSENT


async def test_another_process_change_is_heard(watching: Ledger, database_url: str) -> None:
    await watching.links.record([Link(ACCOUNT, "xero", LinkState.MATCHED, CONTACT)])
    assert await state(watching) is LinkState.MATCHED
    other = await Ledger.open(database_url)

    await other.links.forget(ACCOUNT, "xero")
    await other.close()

    async def gone() -> bool:
        return await state(watching) is None

    await until(gone)


async def test_a_change_by_hand_is_heard_too(watching: Ledger, database_url: str) -> None:
    await watching.organisations.save(OrganisationRecord("acme", "Acme", (ACCOUNT,)))
    assert (await watching.organisations.organisations(["acme"]))[0] is not None
    connection = await asyncpg.connect(database_url)

    await connection.execute("DELETE FROM organisation_accounts")
    await connection.close()

    async def empty() -> bool:
        (organisation,) = await watching.organisations.organisations(["acme"])
        return organisation is not None and organisation.accounts == ()

    await until(empty)


async def test_nothing_is_remembered_while_nobody_listens(watching: Ledger, database_url: str) -> None:
    await watching.links.record([Link(ACCOUNT, "xero", LinkState.MATCHED, CONTACT)])
    assert await state(watching) is LinkState.MATCHED
    connection = await asyncpg.connect(database_url)

    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE '%gateway_ledger%' AND datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def deaf() -> bool:
        return not await _listens(watching)

    await until(deaf)
    assert remembered(watching) == 0
    await connection.execute("UPDATE links SET state = 'absent', counterpart_id = NULL")
    assert await state(watching) is LinkState.ABSENT
    await connection.close()
    await until(lambda: _listens(watching))
