"""The ledger as a whole: addresses, migrations, and what a failing database is called."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from sources.ledger import book
from sources.ledger.book import Ledger
from sources.ledger.tables import metadata
from sources.ports.errors import SourceRejected, SourceUnavailable
from sources.ports.tokens import Tokens

CATALOGUE = """
    SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'ledger_version'
    UNION ALL
    SELECT 'constraint', conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'ledger_version'
    UNION ALL
    SELECT 'column', concat_ws(' ', table_name, column_name, data_type, collation_name, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'ledger_version'
    ORDER BY 1, 2
"""


async def catalogue(url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(CATALOGUE)]
    finally:
        await connection.close()


def engine_for(url: str):
    async def connect():
        return await asyncpg.connect(url)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_every_spelling_of_the_scheme_opens_the_same_database(database_url, scheme):
    ledger = await Ledger.open(urlsplit(database_url)._replace(scheme=scheme).geturl())
    assert await ledger.ping() is None
    await ledger.close()


async def test_an_address_of_another_kind_is_refused_without_repeating_its_password():
    with pytest.raises(ValueError, match="must begin with postgresql://") as refusal:
        await Ledger.open("mysql://root:hush@db/ledger")
    assert "hush" not in str(refusal.value)


async def test_migrating_again_changes_nothing(ledger, database_url):
    before = await catalogue(database_url)
    await ledger.migrate()
    assert await catalogue(database_url) == before


async def test_processes_that_migrate_together_all_succeed(database_url):
    ledgers = [await Ledger.open(database_url) for _ in range(4)]
    await asyncio.gather(*(ledger.migrate() for ledger in ledgers))
    assert [await ledger.tokens.load("xero") for ledger in ledgers] == [None] * 4
    for ledger in ledgers:
        await ledger.close()


def test_revisions_are_in_the_files_that_bear_their_names():
    config = Config()
    config.set_main_option("script_location", str(Path(book.__file__).parent / "migrations"))
    assert book.newest_revision() == ScriptDirectory.from_config(config).get_current_head()


async def test_the_migrated_schema_is_the_one_that_the_code_declares(ledger, database_url):
    def differences(connection: Connection):
        context = MigrationContext.configure(
            connection, opts={"version_table": "ledger_version", "compare_server_default": True}
        )
        return compare_metadata(context, metadata)

    engine = engine_for(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_migrated_and_created_tables_agree_to_the_last_constraint(ledger, database_url):
    migrated = await catalogue(database_url)
    engine = engine_for(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    assert await catalogue(database_url) == migrated


async def test_an_absent_server_is_unavailable(tmp_path):
    ledger = await Ledger.open(f"postgresql://postgres@/postgres?host={tmp_path}")
    with pytest.raises(SourceUnavailable, match=r"^ledger: the database is unreachable"):
        await ledger.ping()
    await ledger.close()


async def test_an_unknown_database_is_a_setting_to_mend(database_url):
    ledger = await Ledger.open(urlsplit(database_url)._replace(path="/nowhere").geturl())
    with pytest.raises(SourceRejected, match="check database_url"):
        await ledger.ping()
    await ledger.close()


async def test_connections_that_the_server_dropped_are_replaced(ledger, database_url):
    await ledger.ping()
    connection = await asyncpg.connect(database_url)
    ended = await connection.fetchval(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    assert ended > 0
    assert await ledger.ping() is None


async def test_an_error_from_the_database_does_not_repeat_tokens(ledger, database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP TABLE tokens")
    await connection.execute(
        'CREATE TABLE tokens (connection text COLLATE "C" PRIMARY KEY, refresh_token text'
        ", seed text, access_token text, expires_at timestamptz, consent_needed bool, key_id text)"
    )
    await connection.close()
    async with ledger.tokens.hold("xero") as held:
        with pytest.raises(Exception, match="updated_at") as failure:
            await held.save(Tokens("very-secret", "seed"))
    assert "very-secret" not in str(failure.value)
