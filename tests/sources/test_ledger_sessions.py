"""The ledger's book of sessions: once means once, and what has ended has ended everywhere."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.sessions import Logout, PendingSignIn, Replayed, SessionRecord, SignedOut

NOW = datetime(2026, 10, 1, 9, 0, tzinfo=UTC)
IDLE = timedelta(minutes=30)
ISSUER = "https://login.example"

PENDING = PendingSignIn(
    ISSUER, "nonce", "verifier", "https://portal.example/", NOW + timedelta(minutes=10), max_age=60
)


def session(name: str, **changes: Any) -> SessionRecord:
    return msgspec.structs.replace(
        SessionRecord(
            id=name,
            issuer=ISSUER,
            subject="tenant:ann",
            sub="ann",
            sid=f"sid-{name}",
            proof={"name": "Ann", "roles": ["owner"]},
            organisation=None,
            created_at=NOW,
            last_seen_at=NOW,
            ends_at=NOW + timedelta(hours=12),
        ),
        **changes,
    )


async def create(ledger: Ledger, name: str, *, replaces: tuple[str, ...] = (), **changes: Any) -> list[str]:
    return list(
        await ledger.sessions.create(
            session(name, **changes),
            f"hash-{name}",
            f"token-{name}",
            issued_at=NOW,
            replaces=replaces,
            most=3,
        )
    )


async def alive(ledger: Ledger, *ids: str, now: datetime = NOW) -> list[str]:
    found = [await ledger.sessions.find(f"hash-{id}", now=now, idle=IDLE) for id in ids]
    return [one.id for one in found if one]


def logout(jti: str, **changes: Any) -> Logout:
    return Logout(
        ISSUER, jti, **({"sub": None, "sid": None, "issued_at": NOW, "remembered_until": NOW} | changes)
    )


@pytest_asyncio.fixture
async def watching(ledger: Ledger) -> AsyncIterator[Ledger]:
    """A ledger that listens."""
    ledger.watch()
    await until(lambda: listens(ledger))
    yield ledger


async def listens(ledger: Ledger) -> bool:
    return ledger._database.memory._listening


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a condition, not for a time; fails after half a minute."""
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.sleep(0.01)


async def test_a_sign_in_under_way_is_taken_once_even_when_it_comes_twice_at_once(ledger: Ledger) -> None:
    await ledger.sessions.begin("state", "browser", PENDING)

    taken = await asyncio.gather(*(ledger.sessions.take("state", "browser", NOW) for _ in range(5)))

    assert sorted(taken, key=str) == [None, None, None, None, PENDING]


async def test_a_sign_in_under_way_is_for_its_browser_and_its_time(ledger: Ledger) -> None:
    await ledger.sessions.begin("state", "browser", PENDING)
    await ledger.sessions.begin("late", "browser", PENDING)

    assert await ledger.sessions.take("state", "another", NOW) is None
    assert await ledger.sessions.take("other", "browser", NOW) is None
    assert await ledger.sessions.take("late", "browser", PENDING.expires_at) is None
    # Another browser's attempt has not spent it.
    assert await ledger.sessions.take("state", "browser", NOW) == PENDING


async def test_a_session_is_found_by_its_secret_as_it_was_made(ledger: Ledger) -> None:
    await create(ledger, "a")

    assert await ledger.sessions.find("hash-a", now=NOW, idle=IDLE) == session("a")
    assert await ledger.sessions.find("a", now=NOW, idle=IDLE) is None
    assert await ledger.sessions.find("hash-b", now=NOW, idle=IDLE) is None


async def test_a_session_ends_when_it_is_idle_and_at_the_latest_when_it_must(ledger: Ledger) -> None:
    await create(ledger, "idle")
    await create(ledger, "used")
    now, ends = NOW, NOW + timedelta(hours=12)
    while now + IDLE / 2 < ends:
        now += IDLE / 2
        assert await alive(ledger, "used", now=now) == ["used"]

    assert await alive(ledger, "idle", now=NOW + IDLE - timedelta(seconds=1)) == ["idle"]
    assert await alive(ledger, "idle", now=NOW + IDLE * 3) == []
    assert await alive(ledger, "used", now=ends) == []


async def test_looking_without_using_does_not_keep_a_session_alive(ledger: Ledger) -> None:
    await create(ledger, "a")

    for minutes in (10, 20, 29):
        now = NOW + timedelta(minutes=minutes)
        assert await ledger.sessions.find("hash-a", now=now, idle=IDLE, use=False)

    assert await alive(ledger, "a", now=NOW + IDLE) == []


async def test_being_seen_is_written_once_a_minute(watching: Ledger, database_url: str) -> None:
    await create(watching, "a")
    connection = await asyncpg.connect(database_url)

    async def written() -> datetime:
        seen: datetime = await connection.fetchval("SELECT last_seen_at FROM sessions")
        return seen

    seen = []
    for seconds in (1, 30, 59, 60, 90, 119, 120):
        await alive(watching, "a", now=NOW + timedelta(seconds=seconds))
        seen.append((seconds, (await written() - NOW).seconds))
    await connection.close()

    assert seen == [(1, 0), (30, 0), (59, 0), (60, 60), (90, 60), (119, 60), (120, 120)]


async def test_a_session_that_is_used_costs_no_query_and_being_seen_empties_no_memory(
    watching: Ledger, database_url: str
) -> None:
    await create(watching, "a")
    await create(watching, "b")

    async def both_are_remembered() -> bool:
        # The notification of the writes above may still empty the memory once.
        await alive(watching, "a", "b")
        return len(watching._database.memory._kept) == 2

    await until(both_are_remembered)
    changes = watching._database.memory._changes
    await alive(watching, "a", now=NOW + timedelta(minutes=1))
    await create(watching, "c", subject="bob", sub="bob")
    # Written past every listener: a session that is not remembered would now be gone.
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE sessions DISABLE TRIGGER ALL; DELETE FROM sessions")
    await connection.close()

    assert watching._database.memory._changes == changes + 1  # its own write of "c"
    await until(lambda: listens(watching))
    assert await alive(watching, "a", "b") == []


async def test_what_is_remembered_needs_no_database(watching: Ledger, database_url: str) -> None:
    await create(watching, "a")

    async def remembered() -> bool:
        await alive(watching, "a")
        return bool(watching._database.memory._kept)

    await until(remembered)
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE sessions DISABLE TRIGGER ALL; DELETE FROM sessions")
    await connection.close()

    assert await alive(watching, "a") == ["a"]


async def test_the_end_of_a_session_is_heard_by_other_processes(watching: Ledger, database_url: str) -> None:
    await create(watching, "a")
    assert await alive(watching, "a") == ["a"]
    other = await Ledger.open(database_url)

    ended = await other.sessions.end("hash-a")
    await other.close()

    assert ended is not None
    assert (ended.id, ended.id_token) == ("a", "token-a")

    async def gone() -> bool:
        return await alive(watching, "a") == []

    await until(gone)


async def test_ending_twice_ends_nothing_more(ledger: Ledger) -> None:
    await create(ledger, "a")
    assert await ledger.sessions.end("hash-a")
    assert await ledger.sessions.end("hash-a") is None


async def test_signing_in_again_ends_the_browsers_former_session(ledger: Ledger) -> None:
    await create(ledger, "a")
    await create(ledger, "b", replaces=("hash-a",))
    assert await alive(ledger, "a", "b") == ["b"]


async def test_a_persons_oldest_sessions_end_beyond_the_limit_and_nobody_elses(ledger: Ledger) -> None:
    for minute, id in enumerate("abc"):
        await create(ledger, id, created_at=NOW + timedelta(minutes=minute))
    await create(ledger, "other", subject="bob", sub="bob", sid="x")
    await create(ledger, "elsewhere", issuer="https://other.example")

    ended = await create(ledger, "d", created_at=NOW + timedelta(minutes=5))

    assert ended == ["a"]
    assert await alive(ledger, *"abcd", "other", "elsewhere") == [*"bcd", "other", "elsewhere"]


async def test_sign_ins_at_once_never_pass_the_limit(ledger: Ledger) -> None:
    await asyncio.gather(*(create(ledger, str(n)) for n in range(8)))
    assert len(await alive(ledger, *map(str, range(8)))) == 3


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({"sid": "sid-a"}, ["b", "bob"]),
        ({"sub": "ann"}, ["bob"]),
        ({"sub": "ann", "sid": "sid-a"}, ["b", "bob"]),
        ({"sub": "bob", "sid": "sid-a"}, ["a", "b", "bob"]),
        ({"sub": "nobody"}, ["a", "b", "bob"]),
    ],
)
async def test_a_providers_logout_ends_what_it_names(
    ledger: Ledger, said: dict[str, str], left: list[str]
) -> None:
    await create(ledger, "a")
    await create(ledger, "b")
    await create(ledger, "bob", subject="bob", sub="bob")

    await ledger.sessions.sign_out(logout("j1", **said))

    assert await alive(ledger, "a", "b", "bob") == left


async def test_a_logout_is_taken_once(ledger: Ledger) -> None:
    await ledger.sessions.sign_out(logout("j1", sub="ann"))
    await create(ledger, "bob", subject="bob", sub="bob")
    with pytest.raises(Replayed):
        await ledger.sessions.sign_out(logout("j1", sub="bob"))
    assert await alive(ledger, "bob") == ["bob"]


async def test_a_logout_that_comes_before_its_session_prevents_it(ledger: Ledger) -> None:
    later = NOW + timedelta(seconds=1)
    await ledger.sessions.sign_out(logout("j1", sid="sid-a", issued_at=later))
    with pytest.raises(SignedOut):
        await create(ledger, "a")
    assert await create(ledger, "b") == []


async def test_a_sign_in_and_its_logout_at_once_leave_no_session(ledger: Ledger) -> None:
    async def begin(name: str) -> None:
        with suppress(SignedOut):
            await create(ledger, name, subject=name, sub=name)

    ids = [str(n) for n in range(10)]
    await asyncio.gather(
        *(
            one
            for id in ids
            for one in (begin(id), ledger.sessions.sign_out(logout(f"j{id}", sid=f"sid-{id}")))
        )
    )
    assert await alive(ledger, *ids) == []


async def test_all_of_a_person_ends_at_once(ledger: Ledger) -> None:
    await create(ledger, "a")
    await create(ledger, "b")
    await create(ledger, "bob", subject="bob", sub="bob")
    assert await ledger.sessions.end_of(ISSUER, "tenant:ann") == 2
    assert await alive(ledger, "a", "b", "bob") == ["bob"]


async def test_the_chosen_organisation_stays(ledger: Ledger) -> None:
    await create(ledger, "a")
    await ledger.sessions.choose("a", "acme")
    found = await ledger.sessions.find("hash-a", now=NOW, idle=IDLE)
    assert found
    assert found.organisation == "acme"


async def test_sweeping_removes_what_is_over_and_nothing_else(ledger: Ledger, database_url: str) -> None:
    await create(ledger, "idle")
    await create(ledger, "over", last_seen_at=NOW + IDLE, ends_at=NOW + IDLE, subject="bob", sub="bob")
    await create(ledger, "alive", last_seen_at=NOW + IDLE, subject="eve", sub="eve")
    await ledger.sessions.begin("old", "browser", PENDING)
    await ledger.sessions.begin(
        "new", "browser", msgspec.structs.replace(PENDING, expires_at=NOW + timedelta(hours=1))
    )
    await ledger.sessions.sign_out(logout("old", sid="x", remembered_until=NOW))
    await ledger.sessions.sign_out(logout("new", sid="x", remembered_until=NOW + timedelta(hours=1)))

    assert await ledger.sessions.sweep(NOW + IDLE, IDLE) == 2

    connection = await asyncpg.connect(database_url)
    left = await connection.fetch(
        "SELECT id FROM sessions UNION ALL SELECT state_hash FROM sign_ins UNION ALL SELECT id FROM session_logouts"
    )
    await connection.close()
    assert [row["id"] for row in left] == ["alive", "new", "new"]


async def test_no_secret_and_nothing_but_the_needed_claims_is_stored(
    ledger: Ledger, database_url: str
) -> None:
    await create(ledger, "a")
    connection = await asyncpg.connect(database_url)
    (row,) = await connection.fetch("SELECT * FROM sessions")
    await connection.close()
    assert sorted(row.keys()) == [
        *("created_at", "ends_at", "id", "id_token", "issuer", "last_seen_at", "organisation"),
        *("proof", "secret_hash", "sid", "sub", "subject"),
    ]
