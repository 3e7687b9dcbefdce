"""The book of tokens: one holder among all processes, and nothing saved is ever lost."""

import asyncio
import sys
from datetime import UTC, datetime

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.tokens import Tokens
from tests.conftest import TOKEN_KEYS

FIRST = Tokens(refresh_token="r1", seed="s")
FULL = Tokens("r2", "s", "a2", datetime(2026, 5, 4, 3, 2, 1, 654321, UTC), consent_needed=True)

HOLDER = """
import asyncio, sys
from sources.ledger.book import Ledger
from sources.ledger.token_cipher import TokenKey
from sources.ports.tokens import Tokens

async def main():
    ledger = await Ledger.open(sys.argv[1], token_keys=[TokenKey("2026", b"k" * 32)])
    async with ledger.tokens.hold("xero") as held:
        await held.save(Tokens("from the other process", "s"))
        print("saved", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest_asyncio.fixture
async def other(ledger, database_url):
    opened = await Ledger.open(database_url, token_keys=TOKEN_KEYS)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def observer(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def until_waiting(observer: asyncpg.Connection, waiters: int = 1) -> None:
    """Returns when so many others wait for a lock."""
    async with asyncio.timeout(10):
        while await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < waiters:
            await asyncio.sleep(0)


async def test_nothing_is_stored_at_first_and_everything_after(ledger):
    assert await ledger.tokens.load("xero") is None
    async with ledger.tokens.hold("xero") as held:
        assert held.tokens is None
        await held.save(FIRST)
        await held.save(FULL)
        assert held.tokens == FULL
    assert await ledger.tokens.load("xero") == FULL
    assert await ledger.tokens.load("hubspot") is None
    async with ledger.tokens.hold("xero") as held:
        assert held.tokens == FULL


async def test_what_is_saved_is_seen_by_others_while_the_lock_is_still_held(ledger, other, observer):
    async def second() -> Tokens | None:
        async with other.tokens.hold("xero") as held:
            return held.tokens

    async with ledger.tokens.hold("xero") as held:
        waiting = asyncio.create_task(second())
        await until_waiting(observer)
        await held.save(FIRST)
        assert await other.tokens.load("xero") == FIRST
        await held.save(FULL)
        await until_waiting(observer)
        assert not waiting.done()
    assert await waiting == FULL


async def test_two_connections_do_not_wait_for_each_other(ledger, other):
    async with ledger.tokens.hold("xero") as xero, other.tokens.hold("hubspot") as hubspot:
        await xero.save(FIRST)
        await hubspot.save(FULL)
    assert [await ledger.tokens.load(name) for name in ("xero", "hubspot")] == [FIRST, FULL]


async def test_a_crowd_of_holders_goes_one_by_one_and_each_can_save(ledger, other):
    async def turn(book: Ledger) -> None:
        async with book.tokens.hold("xero") as held:
            count = int(held.tokens.refresh_token) if held.tokens else 0
            await held.save(Tokens(str(count + 1), "s"))

    await asyncio.gather(*(turn(book) for _ in range(15) for book in (ledger, other)))
    assert await ledger.tokens.load("xero") == Tokens("30", "s")


async def test_a_holder_that_fails_frees_the_lock_and_its_error_is_its_own(ledger, other):
    vendor_down = OSError("the vendor's socket")
    with pytest.raises(OSError, match="the vendor's socket") as failure:
        async with ledger.tokens.hold("xero"):
            raise vendor_down
    assert failure.value is vendor_down
    async with other.tokens.hold("xero") as held:
        assert held.tokens is None


async def test_a_waiter_that_gives_up_leaves_no_lock_behind(ledger, other, observer):
    async with ledger.tokens.hold("xero"):
        waiting = asyncio.create_task(other.tokens.hold("xero").__aenter__())
        await until_waiting(observer)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    async with asyncio.timeout(10), ledger.tokens.hold("xero") as held:
        assert held.tokens is None


async def test_a_save_under_way_ends_although_its_asker_goes_away(ledger, observer):
    async def refresh() -> None:
        async with ledger.tokens.hold("xero") as held:
            await held.save(FULL)

    async with observer.transaction():
        # SHARE lets the holder read the row and makes its write wait.
        await observer.execute("LOCK TABLE tokens IN SHARE MODE")
        refreshing = asyncio.create_task(refresh())
        await until_waiting(observer)
        refreshing.cancel()
    await asyncio.wait([refreshing])
    assert refreshing.cancelled()
    assert await ledger.tokens.load("xero") == FULL


async def test_a_killed_holder_frees_the_lock_and_what_it_saved_is_there(ledger, observer, database_url):
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, database_url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert await holder.stdout.readline() == b"saved\n"
        hold = ledger.tokens.hold("xero")
        waiting = asyncio.create_task(hold.__aenter__())
        await until_waiting(observer)
        assert not waiting.done()
    finally:
        holder.kill()
        await holder.wait()
    async with asyncio.timeout(10):
        held = await waiting
    assert held.tokens == Tokens("from the other process", "s")
    await held.save(msgspec.structs.replace(held.tokens, refresh_token="next"))
    await hold.__aexit__(None, None, None)
    assert await ledger.tokens.load("xero") == Tokens("next", "s")
