"""The audit trail of one process: what is handed over is written, and what cannot be written does not happen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from gateway.audit import RECORD_IDS, REFUSING_ADDRESSES, AuditTrail, nobody, operator
from gateway.client import Clients, network
from gateway.settings import Audit
from sources.layers.touched import Touched
from sources.ledger.book import Ledger
from sources.ports.audit import AuditKind, AuditOutcome, AuditRecord, Stage
from sources.ports.common import Page, Ref
from sources.ports.crm import AccountRecord
from sources.ports.errors import SourceUnavailable
from sources.ports.members import InvitationRecord
from sources.transport.deadline import remaining


@asynccontextmanager
async def trail_over(url: str, **settings: object) -> AsyncIterator[AuditTrail]:
    """Closed at the end, so that everything is written."""
    ledger = await Ledger.open(url, patience=remaining)
    trail = AuditTrail(ledger.audit, msgspec.convert(settings, Audit))
    trail.start()
    try:
        yield trail
    finally:
        await trail.close()
        await ledger.close()


async def records(ledger: Ledger) -> list[AuditRecord]:
    return [entry.record async for entry in ledger.audit.exported()]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.02)


@pytest.fixture
async def database(database_url: str, ledger: Ledger) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def refuse(database: asyncpg.Connection) -> None:
    await database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


async def accept(database: asyncpg.Connection) -> None:
    await database.execute("DROP FUNCTION refuse CASCADE")


@asynccontextmanager
async def away(postgres: str, url: str) -> AsyncIterator[None]:
    """Nobody can connect to the database, and whoever was connected is not any more."""
    name = urlsplit(url).path.removeprefix("/")
    server = await asyncpg.connect(postgres)
    await server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
    await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    try:
        yield
    finally:
        await server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        await server.close()


async def test_a_read_that_is_handed_over_is_written_without_anybody_waiting_for_it(ledger, database_url):
    async with trail_over(database_url) as trail:
        trail.read(trail.record(AuditKind.QUERY, operator(), name="Home"))

        async def written() -> bool:
            return [record.name for record in await records(ledger)] == ["Home"]

        await until(written)


async def test_a_write_runs_when_its_record_is_durable_and_not_before(ledger, database_url):
    async with (
        trail_over(database_url) as trail,
        trail.writing(trail.record(AuditKind.COMMAND, operator(), name="x")) as writing,
    ):
        (begun,) = await records(ledger)
        writing.wrote("Member", "m1", organisation="acme")
    assert (begun.stage, begun.outcome) == (Stage.BEGUN, AuditOutcome.UNKNOWN)
    _, done, share = await records(ledger)
    assert (done.stage, done.outcome, done.records) == (Stage.DONE, AuditOutcome.OK, ("Member:ledger:m1",))
    assert (share.stage, share.organisation) == (Stage.SHARE, "acme")
    assert begun.operation == done.operation == share.operation


async def test_a_write_that_cannot_be_recorded_does_not_run(ledger, database_url, database):
    await refuse(database)
    ran = False
    async with trail_over(database_url) as trail:
        with pytest.raises(SourceUnavailable, match="so it was not done"):
            async with trail.writing(trail.record(AuditKind.COMMAND, operator())):
                ran = True
        assert not ran
        await accept(database)

    (attempt,) = await records(ledger)
    assert (attempt.outcome, attempt.codes) == (AuditOutcome.FAILED, ("SOURCE_UNAVAILABLE",))


async def test_how_a_write_failed_is_recorded(ledger, database_url):
    async with trail_over(database_url) as trail:
        for error in (SourceUnavailable("xero", "down"), ValueError("secret"), asyncio.CancelledError()):
            with pytest.raises(type(error)):
                async with trail.writing(trail.record(AuditKind.COMMAND, operator())):
                    raise error

    ends = [record for record in await records(ledger) if record.stage is Stage.DONE]
    assert [(record.outcome, record.codes) for record in ends] == [
        (AuditOutcome.FAILED, ("SOURCE_UNAVAILABLE",)),
        (AuditOutcome.FAILED, ("INTERNAL",)),
        (AuditOutcome.UNKNOWN, ("CANCELLED",)),
    ]


async def test_reads_wait_for_the_database_and_are_refused_when_too_many_wait(ledger, postgres, database_url):
    async with trail_over(database_url, queue=3) as trail:
        async with away(postgres, database_url):
            for number in range(3):
                with trail.reading(trail.record(AuditKind.QUERY, operator(), name=str(number)), Touched()):
                    pass
            await asyncio.sleep(0)
            with (
                pytest.raises(SourceUnavailable, match="reads cannot be recorded"),
                trail.reading(trail.record(AuditKind.QUERY, operator(), name="too many"), Touched()),
            ):
                raise AssertionError("this must not run")

        async def written() -> bool:
            return [record.name for record in await records(ledger)] == ["0", "1", "2"]

        await until(written)
        with trail.reading(trail.record(AuditKind.QUERY, operator(), name="again"), Touched()):
            pass
    assert [record.name for record in await records(ledger)] == ["0", "1", "2", "again"]
    assert (await ledger.audit.verify()).fault is None


async def test_best_effort_answers_and_says_afterwards_how_many_were_lost(ledger, postgres, database_url):
    async with trail_over(database_url, queue=3, reads="best-effort") as trail:
        async with away(postgres, database_url):
            for number in range(10):
                with trail.reading(trail.record(AuditKind.QUERY, operator(), name=str(number)), Touched()):
                    pass
            await asyncio.sleep(0)
            assert trail.lost == 7

        async def written() -> bool:
            return len(await records(ledger)) == 4

        await until(written)
    *kept, loss = await records(ledger)
    assert [record.name for record in kept] == ["0", "1", "2"]
    assert (loss.kind, loss.count, loss.outcome) == (AuditKind.LOSS, 7, AuditOutcome.FAILED)


async def test_everything_is_written_when_the_trail_is_closed(ledger, database_url):
    async with trail_over(database_url) as trail:
        for _ in range(2_500):
            trail.read(trail.record(AuditKind.QUERY, operator()))
    assert len(await records(ledger)) == 2_500


async def test_a_flood_of_refused_sign_ins_leaves_few_records(ledger, database_url):
    async with trail_over(database_url) as trail:
        for _ in range(1_000):
            trail.refused("192.0.2.1", "UNAUTHENTICATED")
        for number in range(5_000):
            trail.refused(f"198.51.{number % 250}.{number // 250}", "UNAUTHENTICATED")

    found = await records(ledger)
    assert len(found) <= REFUSING_ADDRESSES + 2
    assert sum(record.count for record in found) == 6_000
    assert {record.kind for record in found} == {AuditKind.REFUSAL}
    assert {record.count for record in found if record.client == "192.0.2.1"} == {1, 999}
    assert {record.principal for record in found} == {""}


async def test_a_huge_operation_makes_a_bounded_record(ledger, database_url):
    rows = [AccountRecord(Ref("hubspot", str(number)), None) for number in range(RECORD_IDS + 5_000)]
    long = [AccountRecord(Ref("hubspot", f"{number}-{'x' * 1_000}"), None) for number in range(5_000)]
    async with trail_over(database_url) as trail:
        for answer in (rows, long):
            touched = Touched()
            touched.take(answer)
            trail.read(trail.record(AuditKind.QUERY, nobody(), name="n" * 10_000), touched)

    many, lengthy = await records(ledger)
    assert (len(many.records), many.record_count) == (RECORD_IDS, RECORD_IDS + 5_000)
    assert (sum(map(len, lengthy.records)) <= 1 << 20, lengthy.record_count) == (True, 5_000)
    assert many.name == "n" * 200


async def test_texts_that_a_database_cannot_hold_do_not_stop_the_trail(ledger, database_url):
    touched = Touched()
    touched.take([AccountRecord(Ref("hubspot", "a\0b"), None), AccountRecord(Ref("hubspot", "\ud800"), None)])
    async with trail_over(database_url) as trail:
        trail.read(trail.record(AuditKind.QUERY, operator(), name="\0\ud800"), touched)
    (found,) = await records(ledger)
    assert (found.name, found.records) == ("\ufffd?", ("Account:hubspot:a\ufffdb", "Account:hubspot:?"))
    assert (await ledger.audit.verify()).fault is None


async def test_a_record_that_was_met_twice_is_named_once_for_everybody(ledger, database_url):
    def invitation(id_: str, organisation: str) -> InvitationRecord:
        at = datetime.now(UTC)
        return InvitationRecord(id_, organisation, "", (), "", at, at)

    first, second, third = invitation("1", "acme"), invitation("2", "other"), invitation("3", "acme")
    touched = Touched()
    touched.take([first, None, second])
    touched.take(Page([second, third], ()))
    touched.name("Invitation", "1", "acme")
    async with trail_over(database_url) as trail:
        trail.read(trail.record(AuditKind.QUERY, operator()), touched)
    whole, *shares = await records(ledger)
    assert (whole.records, whole.record_count) == (tuple(f"Invitation:ledger:{n}" for n in "123"), 3)
    assert [(share.organisation, share.records, share.record_count) for share in shares] == [
        ("acme", ("Invitation:ledger:1", "Invitation:ledger:3"), 2),
        ("other", ("Invitation:ledger:2",), 1),
    ]


async def test_each_record_is_named_by_its_own_system(ledger, database_url):
    def account(source: str, id_: str) -> AccountRecord:
        return AccountRecord(Ref(source, id_), None)

    touched = Touched()
    touched.take([account("hubspot", "1"), account("salesforce", "1"), None, account("hubspot", "2")])
    touched.take([Page([account("salesforce", "2")], ()), SourceUnavailable("hubspot", "down"), Page([], ())])
    touched.take(Page((account("hubspot", "3"),), ()))
    touched.take([])
    async with trail_over(database_url) as trail:
        trail.read(trail.record(AuditKind.QUERY, nobody()), touched)
    (found,) = await records(ledger)
    named = ("hubspot:1", "salesforce:1", "hubspot:2", "salesforce:2", "hubspot:3")
    assert found.records == tuple(f"Account:{one}" for one in named)


async def test_ids_are_sealed_and_stored_letter_by_letter(ledger, database_url):
    odd = ['a","b', "c\\", "\u2028é\n", "'; --", "{1,2}", "NULL", ""]
    touched = Touched()
    touched.take([AccountRecord(Ref("hubspot", id_), None) for id_ in odd])
    async with trail_over(database_url) as trail:
        trail.read(trail.record(AuditKind.QUERY, nobody()), touched)
    (found,) = await records(ledger)
    assert found.records == tuple(f"Account:hubspot:{id_}" for id_ in odd)
    assert (await ledger.audit.verify()).fault is None


def connection(peer: str, *forwarded: str) -> dict:
    return {
        "client": (peer, 1),
        "headers": [(b"x-forwarded-for", one.encode()) for one in forwarded],
    }


@pytest.mark.parametrize(
    ("scope", "client"),
    [
        (connection("192.0.2.9"), "192.0.2.9"),
        (connection("192.0.2.9", "203.0.113.5"), "192.0.2.9"),
        (connection("10.0.0.1", "203.0.113.5"), "203.0.113.5"),
        (connection("10.0.0.1", "198.51.100.1, 203.0.113.5"), "203.0.113.5"),
        (connection("10.0.0.1", "203.0.113.5, 10.0.0.2"), "203.0.113.5"),
        (connection("10.0.0.1", "198.51.100.1", "203.0.113.5"), "203.0.113.5"),
        (connection("10.0.0.1", "<script>"), "10.0.0.1"),
        (connection("10.0.0.1", "10.0.0.3"), "10.0.0.3"),
        (connection("10.0.0.1"), "10.0.0.1"),
    ],
)
def test_only_what_trusted_proxies_say_of_a_client_is_believed(scope, client):
    assert Clients(["10.0.0.0/8"]).address(scope) == client


def test_nothing_is_believed_where_no_proxy_is_trusted():
    assert Clients([]).address(connection("10.0.0.1", "203.0.113.5")) == "10.0.0.1"


def test_one_sender_of_ipv6_is_told_by_its_network():
    assert network("2001:db8::1") == network("2001:db8::ffff:1") == "2001:db8::/64"
    assert network("192.0.2.1") == "192.0.2.1"
