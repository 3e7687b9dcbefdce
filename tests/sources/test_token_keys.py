"""Tokens at rest: what the database holds opens with the right key, for its own connection, and is never written over."""

from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ledger.token_cipher import TokenCipher, TokenKey
from sources.ports.errors import SourceRejected
from sources.ports.tokens import Tokens
from sources.sandbox.server import serve
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.xero.erp import connect
from sources.vendors.xero.sandbox import consented_settings_for, sandbox

OLD, NEW = TokenKey("2025", b"o" * 32), TokenKey("2026", b"n" * 32)
SECRETS = Tokens("refresh-secret", "seed", "access-secret", datetime(2026, 5, 4, tzinfo=UTC))


@pytest_asyncio.fixture
async def opened(ledger, database_url):
    """Ledgers over the same database, each with its own keys."""
    ledgers = []

    async def open_with(*keys: TokenKey) -> Ledger:
        ledgers.append(await Ledger.open(database_url, token_keys=keys))
        return ledgers[-1]

    yield open_with
    for one in ledgers:
        await one.close()


@pytest_asyncio.fixture
async def database(ledger, database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def saved(ledger: Ledger, tokens: Tokens = SECRETS, connection: str = "xero") -> None:
    async with ledger.tokens.hold(connection) as held:
        await held.save(tokens)


async def test_the_database_holds_no_token_in_the_clear(opened, database):
    await saved(await opened(NEW))

    row = await database.fetchrow("SELECT * FROM tokens")

    assert row["key_id"] == "2026"
    assert "secret" not in str(dict(row))
    everything = await database.fetchval("SELECT string_agg(t::text, '') FROM tokens t")
    assert "secret" not in everything


async def test_two_saves_of_the_same_token_look_different(opened, database):
    ledger = await opened(NEW)
    await saved(ledger)
    first = await database.fetchval("SELECT refresh_token FROM tokens")
    await saved(ledger)
    assert await database.fetchval("SELECT refresh_token FROM tokens") != first


async def test_an_older_key_still_opens_and_the_next_save_is_under_the_newest(opened, database):
    await saved(await opened(OLD))
    both = await opened(NEW, OLD)

    async with both.tokens.hold("xero") as held:
        assert held.tokens == SECRETS
        await held.save(SECRETS)

    assert await database.fetchval("SELECT key_id FROM tokens") == "2026"
    assert await (await opened(NEW)).tokens.load("xero") == SECRETS


async def test_rotation_stores_everything_under_the_newest_key(opened):
    old = await opened(OLD)
    await saved(old)
    await saved(old, connection="zendesk")
    both = await opened(NEW, OLD)

    for state in await both.tokens.states():
        assert (state.key_id, state.readable, state.current) == ("2025", True, False)
        await both.tokens.rotate(state.connection)

    new = await opened(NEW)
    assert [(s.connection, s.key_id, s.current) for s in await new.tokens.states()] == [
        ("xero", "2026", True),
        ("zendesk", "2026", True),
    ]
    assert await new.tokens.load("zendesk") == SECRETS


async def test_tokens_from_before_there_were_keys_are_read_and_encrypted_at_the_next_save(opened, database):
    await database.execute(
        "INSERT INTO tokens (connection, refresh_token, seed, consent_needed, updated_at) "
        "VALUES ('xero', 'plain-secret', 's', false, now())"
    )
    ledger = await opened(NEW)

    async with ledger.tokens.hold("xero") as held:
        assert held.tokens == Tokens("plain-secret", "s")
        await held.save(held.tokens)

    assert "plain-secret" not in await database.fetchval("SELECT t::text FROM tokens t")
    assert await ledger.tokens.load("xero") == Tokens("plain-secret", "s")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (OLD, "need the key '2026', which is not there: list it in \\[tokens\\] keys"),
        (TokenKey("2026", b"x" * 32), "do not open with the key '2026'"),
    ],
    ids=["missing", "wrong"],
)
async def test_without_the_key_nothing_is_read_and_nothing_written_over(opened, database, key, said):
    right = await opened(NEW)
    await saved(right)
    other = await opened(key)

    with pytest.raises(SourceRejected, match=said) as refused:
        await saved(other, Tokens("another", "seed"))
    with pytest.raises(SourceRejected):
        await other.tokens.load("xero")
    with pytest.raises(SourceRejected):
        await other.tokens.rotate("xero")

    assert refused.value.source == "xero"
    assert [state.readable for state in await other.tokens.states()] == [False]
    assert await right.tokens.load("xero") == SECRETS


async def test_a_row_that_is_moved_to_another_connection_does_not_open_there(opened, database):
    ledger = await opened(NEW)
    await saved(ledger)
    await database.execute("UPDATE tokens SET connection = 'zendesk'")
    with pytest.raises(SourceRejected, match="zendesk: its stored tokens do not open"):
        await ledger.tokens.load("zendesk")


async def test_an_access_token_cannot_take_the_refresh_tokens_place(opened, database):
    ledger = await opened(NEW)
    await saved(ledger)
    await database.execute("UPDATE tokens SET refresh_token = access_token")
    with pytest.raises(SourceRejected):
        await ledger.tokens.load("xero")


async def test_new_tokens_of_a_consent_replace_what_cannot_be_read(opened):
    await saved(await opened(OLD))
    ledger = await opened(NEW)

    await ledger.tokens.replace("xero", Tokens("consented", ""))

    assert await ledger.tokens.load("xero") == Tokens("consented", "")


async def test_without_any_key_no_token_is_stored(opened, database):
    ledger = await opened()
    with pytest.raises(SourceRejected, match=r"xero: .* set \[tokens\] keys"):
        await saved(ledger)
    with pytest.raises(SourceRejected):
        await ledger.tokens.replace("xero", SECRETS)
    assert await database.fetchval("SELECT count(*) FROM tokens") == 0


async def test_a_source_with_a_refresh_token_does_not_start_without_a_key(opened, world):
    ledger = await opened()
    async with serve(sandbox(world)) as running:
        with pytest.raises(SourceRejected, match="set \\[tokens\\] keys"):
            connect(consented_settings_for(running.url), Wiring(ledger.tokens, network=Network()))


def test_a_key_of_another_length_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="token key 'short': 32 bytes"):
        TokenCipher([TokenKey("short", b"secret")])
    assert "nnn" not in repr(NEW)
