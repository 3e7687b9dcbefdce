"""Fixtures that every room's tests may use."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ledger.embedded import EmbeddedPostgres
from sources.ledger.token_cipher import TokenKey
from sources.sandbox.world import World
from tests.door import Door, open_door
from tests.identity.provider import OidcProvider, missing, open_provider

SPECS = Path(os.environ.get("VENDOR_SPECS", Path(__file__).parents[2] / "shared" / "vendors" / "specs"))
"""The vendors' own API descriptions, where this machine has them."""

TOKEN_KEYS = (TokenKey("2026", b"k" * 32),)
"""Under which the tests' ledgers keep tokens."""


@pytest.fixture(scope="session")
def world() -> World:
    """The invented company at its default size."""
    return World.build()


@pytest.fixture(scope="session")
def specs() -> Path:
    """The folder of the vendors' API descriptions; skips where there is none."""
    if not SPECS.is_dir():
        pytest.skip(f"no vendor API descriptions in {SPECS}: set VENDOR_SPECS to their folder")
    return SPECS


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    """An empty folder for an embedded PostgreSQL.

    Not pytest's: each session of it that starts closes the folder above to all but its owner, and a server started by
    root runs as another user.
    """
    with TemporaryDirectory(prefix="postgres-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(cluster_folder: Path) -> Iterator[str]:
    """The address of a running PostgreSQL where databases may be created: TEST_DATABASE_URL or an embedded one."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with EmbeddedPostgres() as server:
        yield server.start(cluster_folder / "session")


@pytest_asyncio.fixture
async def database_url(postgres: str) -> AsyncIterator[str]:
    """The address of an empty database, dropped after the test."""
    async with fresh_database(postgres) as url:
        yield url


@pytest_asyncio.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    """An empty ledger."""
    opened = await Ledger.open(database_url, token_keys=TOKEN_KEYS)
    await opened.migrate()
    yield opened
    await opened.close()


@asynccontextmanager
async def fresh_database(postgres: str) -> AsyncIterator[str]:
    """The address of an empty database, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="session")
async def running_door(world: World, postgres: str) -> AsyncIterator[Door]:
    """One gateway for all tests that change nothing."""
    # Pages of every field there is take long on a busy machine; what a deadline does is tested at gateways with short ones.
    async with fresh_database(postgres) as url, open_door(world, url, deadline=30.0) as door:
        yield door


@pytest_asyncio.fixture
async def door(running_door: Door) -> AsyncIterator[Door]:
    """The shared gateway with empty logs; faults that a test sets are taken back."""
    running_door.forget_calls()
    yield running_door
    running_door.heal()


@pytest_asyncio.fixture(scope="session")
async def running_provider() -> AsyncIterator[OidcProvider]:
    """One OpenID Connect provider for all tests; skips where Node is not there."""
    if why := missing():
        pytest.skip(why)
    async with open_provider() as provider:
        yield provider


@pytest_asyncio.fixture
async def oidc_provider(running_provider: OidcProvider) -> OidcProvider:
    """The shared provider with its own users and clients; what a test changes of it is taken back before the next."""
    await running_provider.reset()
    return running_provider
