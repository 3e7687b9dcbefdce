"""The audit trail's book: one chain that every process adds to, and in which no change stays unnoticed."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from sources.ledger.audit_seal import Seal
from sources.ledger.book import Ledger
from sources.ports.audit import (
    AuditHead,
    AuditKind,
    AuditOutcome,
    AuditQuery,
    AuditRecord,
    Fault,
    Stage,
)
from sources.ports.common import Key, Ref, Window
from sources.ports.errors import InvalidRequest, SourceRejected
from sources.ports.links import Link, LinkState
from sources.ports.members import OrganisationRecord

KEY, EARLIER_KEY = "k" * 32, "e" * 32
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def record(number=0, **changes):
    made = AuditRecord(
        operation=f"operation-{number}",
        stage=Stage.WHOLE,
        at=NOON + timedelta(minutes=number),
        request=f"request-{number}",
        kind=AuditKind.QUERY,
        name="Home",
        outcome=AuditOutcome.OK,
        codes=(),
        principal="https://issuer.example|ann",
        principal_kind="person",
        via="bearer",
        credential=None,
        roles=("owner",),
        staff=False,
        viewed_by=None,
        organisation="acme",
        client="192.0.2.1",
        coordinates=("Account.name", "Query.account"),
        records=(f"Account:hubspot:{number}",),
        record_count=1,
    )
    return msgspec.structs.replace(made, **changes)


async def filled(ledger, count=10):
    await ledger.audit.append([record(number) for number in range(1, count + 1)])


async def opened(database_url, key=None, *known):
    return await Ledger.open(database_url, seal=Seal(key, known))


@pytest.fixture
async def intruder(database_url):
    """Somebody who may do anything in the database but has no key."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def without_guards(intruder, *statements):
    for statement in statements:
        async with intruder.transaction():
            await intruder.execute("SET LOCAL session_replication_role = replica")
            await intruder.execute(statement)


# -- the chain ---------------------------------------------------------------------------------------------------


async def test_what_is_added_is_read_back_as_it_was_and_verifies(ledger):
    records = [record(1), record(2, organisation=None, name=None, codes=("INTERNAL",), personal=("contact",))]
    await ledger.audit.append(records)

    assert [entry.record async for entry in ledger.audit.exported()] == records
    found = await ledger.audit.verify()
    assert (found.first, found.last, found.records, found.fault) == (1, 2, 2, None)


async def test_an_empty_trail_verifies(ledger):
    assert (await ledger.audit.verify()).fault is None


async def test_nothing_is_added_twice_when_an_attempt_is_repeated(ledger):
    await ledger.audit.append([record(1), record(2)])
    await ledger.audit.append([record(2), record(3)], again=True)

    assert [entry.record.operation async for entry in ledger.audit.exported()] == [
        "operation-1",
        "operation-2",
        "operation-3",
    ]


_WRITER = """
import asyncio, sys
from tests.sources.test_ledger_audit import KEY, opened, record
async def main(url, name):
    ledger = await opened(url, KEY)
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in range(20):
        await ledger.audit.append([record(n, operation=f"{name}-{batch}-{n}") for n in range(10)])
    await ledger.close()
asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_that_write_at_once_keep_one_chain_without_gaps(ledger, database_url):
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, database_url, name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."},
        )
        for name in ("one", "other")
    ]  # fmt: skip
    for writer in writers:
        assert await writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"\n")
    assert [await writer.wait() for writer in writers] == [0, 0]

    reader = await opened(database_url, KEY)
    entries = [entry async for entry in reader.audit.exported()]
    assert [entry.sequence for entry in entries] == list(range(1, 401))
    assert len({(entry.record.operation) for entry in entries}) == 400
    assert (await reader.audit.verify()).fault is None
    await reader.close()


# -- what is done to it ------------------------------------------------------------------------------------------


async def test_the_database_refuses_everything_but_adding(ledger, intruder):
    await filled(ledger)
    for statement in (
        "UPDATE audit SET outcome = 'ok' WHERE sequence = 5",
        "DELETE FROM audit WHERE sequence = 5",
        "TRUNCATE audit",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET sequence = 5",
        "INSERT INTO audit_head (one, sequence, hash, seal) VALUES (true, 0, '', '')",
        "TRUNCATE audit_head",
        "TRUNCATE audit_checkpoints",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await intruder.execute(statement)
    assert (await ledger.audit.verify()).records == 10


_SWAP = """
    UPDATE audit SET sequence = CASE sequence WHEN 4 THEN -4 WHEN 7 THEN -7 END WHERE sequence IN (4, 7);
    UPDATE audit SET sequence = CASE sequence WHEN -4 THEN 7 WHEN -7 THEN 4 END WHERE sequence IN (-4, -7)
"""
_SHIFT = "UPDATE audit SET sequence = -(sequence + 1) WHERE sequence >= 6; UPDATE audit SET sequence = -sequence WHERE sequence < 0;"


_INSERTED = """
    INSERT INTO audit SELECT {place}, operation || 'x', stage, at, request, kind, name, outcome, codes, principal,
    principal_kind, via, credential, roles, staff, viewed_by, organisation_id, client, coordinates, denied, personal,
    records, record_count, count, key_id, hash FROM audit WHERE sequence = {place} - 1
"""

_DEEDS = {
    "UPDATE audit SET principal = 'somebody else' WHERE sequence = 5": 5,
    "UPDATE audit SET at = at + interval '1 microsecond' WHERE sequence = 1": 1,
    "UPDATE audit SET records = '{}' WHERE sequence = 10": 10,
    "UPDATE audit SET organisation_id = NULL WHERE sequence = 5": 5,
    "UPDATE audit SET kind = 'nothing we know' WHERE sequence = 5": 5,
    "UPDATE audit SET hash = decode(repeat('00', 32), 'hex') WHERE sequence = 5": 5,
    "DELETE FROM audit WHERE sequence = 5": 5,
    "DELETE FROM audit WHERE sequence <= 5": 1,
    "DELETE FROM audit WHERE sequence > 7": 8,
    "DELETE FROM audit WHERE sequence = 10": 10,
    "DELETE FROM audit": 1,
    _SWAP: 4,
    _SHIFT: 6,
    _SHIFT + _INSERTED.format(place=6): 6,
    _INSERTED.format(place=11): 11,
    "UPDATE audit_head SET sequence = 9": 10,
    "UPDATE audit_head SET seal = ''": 10,
    "DELETE FROM audit_head": 1,
}
"""What somebody may do who gets past the guards, and the first record that it shows at."""


@pytest.mark.parametrize("key", [None, KEY], ids=["without a key", "with a key"])
async def test_whatever_is_altered_removed_inserted_or_moved_is_found(ledger, database_url, intruder, key):
    trail = await opened(database_url, key)
    await filled(trail)
    assert (await trail.audit.verify()).fault is None
    await without_guards(
        intruder, "CREATE TABLE saved AS TABLE audit", "CREATE TABLE saved_head AS TABLE audit_head"
    )

    found = {}
    for deed in _DEEDS:
        await without_guards(intruder, deed)
        fault = (await trail.audit.verify()).fault
        found[deed] = fault and fault.sequence
        await without_guards(
            intruder,
            "DELETE FROM audit; DELETE FROM audit_head",
            "INSERT INTO audit TABLE saved; INSERT INTO audit_head TABLE saved_head",
        )

    assert found == _DEEDS
    assert (await trail.audit.verify()).fault is None
    await trail.close()


async def rewritten(intruder, seal):
    """The whole chain as somebody would make it who knows how but has only this seal."""
    hash_, sequence = bytes(32), 0
    for entry_record in [record(number, principal="nobody") for number in range(1, 6)]:
        sequence += 1
        hash_ = seal.record(seal.key_id, hash_, sequence, entry_record)
        async with intruder.transaction():
            await intruder.execute("SET LOCAL session_replication_role = replica")
            await intruder.execute(
                "UPDATE audit SET principal = 'nobody', hash = $1, key_id = $2 WHERE sequence = $3",
                hash_, seal.key_id, sequence,
            )  # fmt: skip
    async with intruder.transaction():
        await intruder.execute("SET LOCAL session_replication_role = replica")
        await intruder.execute("DELETE FROM audit WHERE sequence > 5")
        await intruder.execute(
            "UPDATE audit_head SET sequence = $1, hash = $2, key_id = $3, seal = $4",
            sequence, hash_, seal.key_id, seal.head(seal.key_id, sequence, hash_),
        )  # fmt: skip


async def test_with_a_key_nobody_without_it_can_make_up_a_chain(ledger, database_url, intruder):
    trail = await opened(database_url, KEY)
    await filled(trail)
    await rewritten(intruder, Seal(None))

    fault = (await trail.audit.verify()).fault
    assert fault is not None
    assert "not sealed with the configured key" in fault.reason
    await trail.close()


async def test_a_chain_made_up_with_another_key_is_found(ledger, database_url, intruder):
    trail = await opened(database_url, KEY)
    await filled(trail)
    await rewritten(intruder, Seal("x" * 32))

    fault = (await trail.audit.verify()).fault
    assert fault is not None
    assert fault.sequence == 1
    assert "a key that is not configured" in fault.reason
    await trail.close()


async def test_a_head_that_was_kept_elsewhere_finds_what_was_made_up_without_a_key(ledger, intruder):
    await filled(ledger)
    kept = await ledger.audit.head()
    await rewritten(intruder, Seal(None))

    assert (await ledger.audit.verify()).fault is None
    fault = (await ledger.audit.verify(kept=kept)).fault
    assert fault is not None
    assert fault.sequence == 6
    assert "shorter than the head kept" in fault.reason


async def test_a_kept_head_with_another_hash_names_its_record(ledger):
    await filled(ledger)
    fault = (await ledger.audit.verify(kept=AuditHead(4, bytes(32)))).fault
    assert fault == Fault(4, "not the one whose head was kept")


async def test_a_trail_that_was_turned_back_is_not_continued(ledger, database_url, intruder):
    trail = await opened(database_url, KEY)
    await filled(trail)
    early = await intruder.fetchrow("SELECT * FROM audit_head")
    await trail.audit.append([record(11), record(12)])
    await without_guards(intruder, "DELETE FROM audit WHERE sequence > 10")
    async with intruder.transaction():
        await intruder.execute("SET LOCAL session_replication_role = replica")
        await intruder.execute(
            "UPDATE audit_head SET sequence = 10, hash = $1, seal = $2", early["hash"], early["seal"]
        )

    with pytest.raises(SourceRejected, match="tampered with"):
        await trail.audit.append([record(13)])
    await trail.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_head SET hash = decode(repeat('11', 32), 'hex')",
        "UPDATE audit_head SET seal = ''",
        "UPDATE audit_head SET key_id = 'unheard-of'",
        "UPDATE audit_head SET key_id = NULL",
    ],
)
async def test_another_process_does_not_continue_behind_a_head_that_is_not_ours(
    ledger, database_url, intruder, statement
):
    trail = await opened(database_url, KEY)
    await filled(trail)
    await trail.close()
    await without_guards(intruder, statement)

    other = await opened(database_url, KEY)
    with pytest.raises(SourceRejected, match="tampered with"):
        await other.audit.append([record(11)])
    await other.close()


# -- keys --------------------------------------------------------------------------------------------------------


async def test_keys_can_be_replaced_and_older_records_verify_by_the_retired_one(ledger, database_url):
    await filled(ledger, 3)
    for key, known in ((EARLIER_KEY, ()), (KEY, (EARLIER_KEY,))):
        trail = await opened(database_url, key, *known)
        await trail.audit.append([record(len(key + "".join(known)))])
        await trail.close()

    trail = await opened(database_url, KEY, EARLIER_KEY)
    assert (await trail.audit.verify()).fault is None
    await trail.close()
    trail = await opened(database_url, KEY)
    fault = (await trail.audit.verify()).fault
    assert fault is not None
    assert fault.sequence == 4
    assert "audit.retired_keys" in fault.reason
    await trail.close()


# -- a part of it, and its age -----------------------------------------------------------------------------------


async def test_a_part_is_verified_from_where_it_begins(ledger, intruder):
    await filled(ledger)
    await without_guards(intruder, "UPDATE audit SET name = 'x' WHERE sequence = 3")

    assert (await ledger.audit.verify(first=5, last=8)).records == 4
    assert (await ledger.audit.verify(first=5)).fault is None
    assert (await ledger.audit.verify(first=2, last=4)).fault.sequence == 3


async def test_what_is_deleted_by_age_leaves_a_chain_that_verifies_and_goes_on(ledger, database_url):
    trail = await opened(database_url, KEY)
    await filled(trail)

    assert await trail.audit.prune(NOON + timedelta(minutes=6)) == 5
    await trail.audit.append([record(11)])

    found = await trail.audit.verify()
    assert (found.first, found.last, found.records, found.fault) == (6, 11, 6, None)
    assert await trail.audit.prune(NOON + timedelta(days=1)) == 6
    assert (await trail.audit.verify()).fault is None
    await trail.audit.append([record(12)])
    assert (await trail.audit.verify()).records == 1
    await trail.close()


async def test_nothing_younger_is_deleted_because_something_older_stands_behind_it(ledger):
    await ledger.audit.append([record(1), record(60), record(2)])
    assert await ledger.audit.prune(NOON + timedelta(minutes=30)) == 1
    assert [entry.sequence async for entry in ledger.audit.exported()] == [2, 3]


async def test_a_checkpoint_that_somebody_made_up_is_found(ledger, database_url, intruder):
    trail = await opened(database_url, KEY)
    await filled(trail)
    await intruder.execute(
        "INSERT INTO audit_checkpoints (sequence, hash, key_id, seal) SELECT 5, hash, key_id, hash FROM audit WHERE sequence = 5"
    )
    await intruder.execute("DELETE FROM audit WHERE sequence <= 5")

    fault = (await trail.audit.verify()).fault
    assert fault is not None
    assert "checkpoint" in fault.reason
    await trail.close()


# -- reading -----------------------------------------------------------------------------------------------------


async def asked(ledger, **conditions):
    window = conditions.pop("window", Window(first=20))
    page = await ledger.audit.entries(AuditQuery(window, **conditions))
    return [entry.record.operation for entry in page.rows]


async def test_the_newest_come_first_and_pages_meet_without_gap_or_repetition(ledger):
    await filled(ledger)
    first = await ledger.audit.entries(AuditQuery(Window(first=4)))
    second = await ledger.audit.entries(AuditQuery(Window(first=4, after=first.keys[-1])))
    back = await ledger.audit.entries(AuditQuery(Window(last=4, before=second.keys[0])))

    assert [entry.sequence for entry in (*first.rows, *second.rows)] == [10, 9, 8, 7, 6, 5, 4, 3]
    assert (first.has_next, first.has_previous, second.has_previous) == (True, False, True)
    assert back == msgspec.structs.replace(first, has_next=True)


async def test_a_cursor_of_nothing_is_refused(ledger):
    for key in (Key("yesterday", "1"), Key("2026-05-01", "1"), Key(NOON.isoformat(), "9" * 30)):
        with pytest.raises(InvalidRequest, match="not a cursor"):
            await asked(ledger, window=Window(first=1, after=key))


async def test_every_condition_narrows(ledger):
    await ledger.audit.append(
        [
            record(1, principal="i|bea"),
            record(2, coordinates=("Account.balances",)),
            record(3, records=("Invoice:xero:9",)),
            record(4, outcome=AuditOutcome.REFUSED),
            record(5, kind=AuditKind.FILE),
            record(6, organisation="other"),
            record(7, viewed_by="i|staff"),
        ]
    )
    assert await asked(ledger, principal="i|bea") == ["operation-1"]
    assert await asked(ledger, principal="i|staff") == ["operation-7"]
    assert await asked(ledger, coordinate="Account.balances") == ["operation-2"]
    assert await asked(ledger, record="Invoice:xero:9") == ["operation-3"]
    assert await asked(ledger, outcomes=(AuditOutcome.REFUSED,)) == ["operation-4"]
    assert await asked(ledger, kinds=(AuditKind.FILE, AuditKind.EXPORT)) == ["operation-5"]
    assert await asked(ledger, organisation="other") == ["operation-6"]
    assert await asked(ledger, since=NOON + timedelta(minutes=6)) == ["operation-7", "operation-6"]
    assert await asked(ledger, until=NOON + timedelta(minutes=1)) == ["operation-1"]
    assert await asked(ledger, organisation="other", principal="i|bea") == []


async def test_a_write_is_one_entry_from_its_beginning_to_its_end(ledger):
    begun = record(1, stage=Stage.BEGUN, outcome=AuditOutcome.UNKNOWN, kind=AuditKind.MUTATION)
    await ledger.audit.append([begun])
    page = await ledger.audit.entries(AuditQuery(Window(first=5)))
    assert [entry.record.outcome for entry in page.rows] == [AuditOutcome.UNKNOWN]

    await ledger.audit.append([record(1, stage=Stage.DONE, kind=AuditKind.MUTATION)])
    page = await ledger.audit.entries(AuditQuery(Window(first=5)))
    assert [entry.record.outcome for entry in page.rows] == [AuditOutcome.OK]


async def test_a_share_is_its_organisations_and_nobody_elses(ledger):
    whole = record(1, organisation=None, staff=True, records=("Account:hubspot:1", "Account:hubspot:2"))
    share = record(1, stage=Stage.SHARE, organisation="acme", staff=True, records=("Account:hubspot:1",))
    await ledger.audit.append([whole, share])

    everything = await ledger.audit.entries(AuditQuery(Window(first=5)))
    assert [entry.record for entry in everything.rows] == [whole]
    own = await ledger.audit.entries(AuditQuery(Window(first=5), organisation="acme"))
    assert [entry.record for entry in own.rows] == [share]
    assert await asked(ledger, organisation="other") == []
    assert [entry.record async for entry in ledger.audit.exported(organisation="acme")] == [share]


async def test_an_entry_of_a_page_has_its_first_records_and_the_export_all(ledger):
    many = tuple(f"Invoice:xero:{number}" for number in range(250))
    await ledger.audit.append([record(1, records=many, record_count=250)])

    (entry,) = (await ledger.audit.entries(AuditQuery(Window(first=5)))).rows
    assert (entry.record.records, entry.record.record_count) == (many[:100], 250)
    assert await asked(ledger, record="Invoice:xero:249") == ["operation-1"]
    assert [entry.record.records async for entry in ledger.audit.exported()] == [many]


async def test_an_export_goes_through_pages_and_keeps_within_its_times(ledger):
    await filled(ledger, 1_100)
    assert len([entry async for entry in ledger.audit.exported()]) == 1_100
    within = ledger.audit.exported(NOON + timedelta(minutes=3), NOON + timedelta(minutes=5))
    assert [entry.sequence async for entry in within] == [3, 4, 5]


async def test_whose_records_are_is_told_by_accounts_and_by_links(ledger):
    account, customer = Ref("hubspot", "1"), Ref("xero", "c")
    await ledger.organisations.save(OrganisationRecord("acme", "Acme", (account,)))
    await ledger.links.record([Link(account, "xero", LinkState.MATCHED, customer, "number")])

    assert await ledger.audit.shares([customer, account, Ref("xero", "unknown")]) == ["acme", "acme", None]
