"""The book of the audit trail: one chain of records, to which any process adds under one lock."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Row,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.audit_rows import COLUMNS, entry_of, selected, values_of
from sources.ledger.audit_seal import NO_HASH, Seal
from sources.ledger.audit_verifying import verified
from sources.ledger.database import NAME, Database, failures, given, storable
from sources.ledger.tables import audit, audit_checkpoints, audit_head, held, links, organisation_accounts
from sources.ports.audit import AuditEntry, AuditHead, AuditQuery, AuditRecord, Stage, Verified
from sources.ports.common import Key, Page, Ref
from sources.ports.errors import InvalidRequest, SourceRejected

LOCK = "audit"
SHOWN_RECORDS = 100
"""Of one entry in a page; the export has all."""
PAGE = 500
"""Records read at once by what reads many."""
DELETED = 5_000
"""At once."""


class AuditBook:
    """Fills AuditStore."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database, self._seal = database, seal
        self._seen = AuditHead(0, NO_HASH)
        """The chain's end as this process wrote it last."""

    # -- adding -------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[AuditRecord], *, again: bool = False) -> None:
        async with self._database.writing(LOCK, forgets=False) as connection:
            if again:
                records = await _missing(connection, records)
            if not records:
                return
            row = (await connection.execute(select(audit_head))).one()
            await self._require_own(connection, row)
            sequence, hash_, key = row.sequence, row.hash, self._seal.key_id
            rows = []
            for record in records:
                sequence += 1
                hash_ = self._seal.record(key, hash_, sequence, record)
                rows.append((sequence, *values_of(record), key, hash_))
            # COPY takes a third of the processor time of an INSERT here.
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.copy_records_to_table(audit.name, records=rows, columns=COLUMNS)
            await connection.execute(
                update(audit_head).values(
                    sequence=sequence, hash=hash_, key_id=key, seal=self._seal.head(key, sequence, hash_)
                )
            )
        self._seen = AuditHead(sequence, hash_)

    async def _require_own(self, connection: AsyncConnection, head: Row[*tuple[Any, ...]]) -> None:
        """A chain that somebody else has cut or turned back is not continued: that would hide it."""
        fault = ""
        if not self._seal.knows(head.key_id):
            fault = f"its end is sealed with a key that is not configured ({head.key_id})"
        elif head.sequence < self._seen.sequence or (
            head.sequence == self._seen.sequence and self._seen.sequence and head.hash != self._seen.hash
        ):
            fault = f"it ended at {self._seen.sequence} before and ends at {head.sequence} now"
        elif head.sequence and head.seal != self._seal.head(head.key_id, head.sequence, head.hash):
            fault = "its end is not sealed as it should be"
        elif head.key_id is None and self._seal.key_id is not None and await _sealed(connection):
            fault = "records are sealed with a key, but its end is not"
        if fault:
            raise SourceRejected(
                NAME, f"the audit trail was tampered with: {fault}; run gateway audit verify"
            )

    async def shares(self, owners: Sequence[Ref]) -> Sequence[str | None]:
        asked = [ref for ref in dict.fromkeys(owners) if storable((ref.source, ref.id))]
        if not asked:
            return [None] * len(owners)
        arrays = {"source": [ref.source for ref in asked], "id": [ref.id for ref in asked]}
        rows = given("source", "id")
        asking = select(rows.c.source, rows.c.id, organisation_accounts.c.organisation_id).select_from(rows)
        accounts = asking.join(
            organisation_accounts,
            (organisation_accounts.c.account_source == rows.c.source)
            & (organisation_accounts.c.account_id == rows.c.id),
        )
        customers = asking.join(
            links, (links.c.source == rows.c.source) & (links.c.counterpart_id == rows.c.id) & held
        ).join(
            organisation_accounts,
            (organisation_accounts.c.account_source == links.c.account_source)
            & (organisation_accounts.c.account_id == links.c.account_id),
        )
        async with self._database.reading() as connection:
            found = [
                *await connection.execute(customers, arrays),
                *await connection.execute(accounts, arrays),
            ]
        holders = {Ref(row.source, row.id): row.organisation_id for row in found}
        return [holders.get(ref) for ref in owners]

    # -- reading ------------------------------------------------------------------------------------------------

    async def entries(self, query: AuditQuery) -> Page[AuditEntry]:
        window = query.window
        place = tuple_(audit.c.at, audit.c.sequence)
        statement = selected(audit.c.records[1:SHOWN_RECORDS]).where(*_conditions(query))
        if window.after:
            statement = statement.where(place < tuple_(*_place(window.after)))
        if window.before:
            statement = statement.where(place > tuple_(*_place(window.before)))
        order = (
            (audit.c.at, audit.c.sequence)
            if window.backwards
            else (audit.c.at.desc(), audit.c.sequence.desc())
        )
        async with self._database.reading() as connection:
            found = [
                entry_of(row)
                for row in await connection.execute(statement.order_by(*order).limit(window.size + 1))
            ]
        more, rows = len(found) > window.size, found[: window.size]
        if window.backwards:
            rows.reverse()
        return Page(
            rows,
            [Key(entry.record.at.isoformat(), str(entry.sequence)) for entry in rows],
            has_next=window.before is not None if window.backwards else more,
            has_previous=more if window.backwards else window.after is not None,
        )

    async def exported(
        self, since: datetime | None = None, until: datetime | None = None, organisation: str | None = None
    ) -> AsyncIterator[AuditEntry]:
        statement = selected(audit.c.records).order_by(audit.c.sequence).limit(PAGE)
        if since is not None:
            statement = statement.where(audit.c.at >= since)
        if until is not None:
            statement = statement.where(audit.c.at <= until)
        if organisation is not None:
            statement = statement.where(audit.c.organisation_id == organisation)
        last = (await self.head()).sequence
        after = 0
        while True:
            async with self._database.reading(patient=True) as connection:
                within = statement.where(audit.c.sequence > after, audit.c.sequence <= last)
                found = [entry_of(row) for row in await connection.execute(within)]
            for entry in found:
                yield entry
            if len(found) < PAGE:
                return
            after = found[-1].sequence

    async def head(self) -> AuditHead:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(audit_head))).one()
        return AuditHead(row.sequence, row.hash)

    # -- keeping ------------------------------------------------------------------------------------------------

    async def verify(
        self, first: int | None = None, last: int | None = None, kept: AuditHead | None = None
    ) -> Verified:
        async with self._database.alone() as connection:
            with failures():
                # One snapshot: what is added or pruned meanwhile does not disturb.
                await connection.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    return await verified(connection, self._seal, first, last, kept)

    async def prune(self, before: datetime) -> int:
        async with self._database.writing(LOCK, forgets=False, patient=True) as connection:
            younger = select(func.min(audit.c.sequence)).where(audit.c.at >= before)
            kept = (await connection.execute(younger)).scalar()
            head = (await connection.execute(select(audit_head))).one()
            await self._require_own(connection, head)
            upto = head.sequence if kept is None else kept - 1
            ends = select(audit.c.sequence, audit.c.hash).where(audit.c.sequence == upto)
            end = (await connection.execute(ends)).first()
            if end is not None:
                key = self._seal.key_id
                await connection.execute(
                    insert(audit_checkpoints).values(
                        sequence=upto,
                        hash=end.hash,
                        key_id=key,
                        seal=self._seal.checkpoint(key, upto, end.hash),
                    )
                )
        return await self._delete(upto)

    async def _delete(self, upto: int) -> int:
        """Part by part, so that nobody waits long. What is left when this ends early goes with the next time."""
        deleted = 0
        while True:
            async with self._database.writing(forgets=False, patient=True) as connection:
                some = select(audit.c.sequence).where(audit.c.sequence <= upto).limit(DELETED)
                gone = await connection.execute(delete(audit).where(audit.c.sequence.in_(some)))
            deleted += gone.rowcount
            if gone.rowcount < DELETED:
                return deleted


async def _missing(connection: AsyncConnection, records: Sequence[AuditRecord]) -> list[AuditRecord]:
    """Those that no earlier attempt has written."""
    there = select(audit.c.operation, audit.c.stage, audit.c.organisation_id).where(
        audit.c.operation.in_({record.operation for record in records})
    )
    written = {tuple(row) for row in await connection.execute(there)}
    return [
        record
        for record in records
        if (record.operation, record.stage.value, record.organisation) not in written
    ]


async def _sealed(connection: AsyncConnection) -> bool:
    """Is anything sealed with a key?"""
    by_key = [
        select(1).select_from(table).where(table.c.key_id.is_not(None)).exists()
        for table in (audit, audit_checkpoints)
    ]
    return bool((await connection.execute(select(or_(*by_key)))).scalar())


def _conditions(query: AuditQuery) -> list[ColumnElement[bool]]:
    ended = audit.alias()
    # A write that has ended is told of by its end.
    told = or_(
        audit.c.stage != Stage.BEGUN.value,
        ~exists().where(ended.c.operation == audit.c.operation, ended.c.stage == Stage.DONE.value),
    )
    conditions = [told]
    if query.organisation is None:
        conditions.append(audit.c.stage != Stage.SHARE.value)
    else:
        conditions.append(audit.c.organisation_id == query.organisation)
    if query.principal is not None:
        conditions.append(or_(audit.c.principal == query.principal, audit.c.viewed_by == query.principal))
    if query.coordinate is not None:
        conditions.append(audit.c.coordinates.contains([query.coordinate]))
    if query.record is not None:
        conditions.append(audit.c.records.contains([query.record]))
    if query.outcomes is not None:
        conditions.append(audit.c.outcome.in_([outcome.value for outcome in query.outcomes]))
    if query.kinds is not None:
        conditions.append(audit.c.kind.in_([kind.value for kind in query.kinds]))
    if query.since is not None:
        conditions.append(audit.c.at >= query.since)
    if query.until is not None:
        conditions.append(audit.c.at <= query.until)
    return conditions


def _place(key: Key) -> tuple[Any, Any]:
    """Raises InvalidRequest for a key that no entry has."""
    try:
        at, sequence = datetime.fromisoformat(key.value), int(key.id)
    except ValueError:
        at, sequence = datetime.min, 0
    if at.tzinfo is None or not 0 < sequence < 1 << 63:
        raise InvalidRequest(NAME, "this is not a cursor of the audit log")
    return literal(at, DateTime(timezone=True)), literal(sequence, BigInteger)
