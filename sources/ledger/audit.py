"""The book of the audit trail: one chain of records, to which any process adds under one lock."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.audit_rows import entry_of, selected
from sources.ledger.audit_seal import Seal
from sources.ledger.audit_verifying import verified
from sources.ledger.audit_writer import ChainWriter
from sources.ledger.database import NAME, Database, failures, given, storable
from sources.ledger.tables import audit, audit_checkpoints, audit_head, held, links, organisation_accounts
from sources.ports.audit import AuditEntry, AuditHead, AuditQuery, AuditRecord, Stage, Verified
from sources.ports.common import Key, Page, Ref
from sources.ports.errors import InvalidRequest

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
        self._writer = ChainWriter(database, seal)

    # -- adding -------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[AuditRecord], *, again: bool = False) -> None:
        await self._writer.append(records, again=again)

    async def close(self) -> None:
        """Lets go of the writer's connection."""
        await self._writer.close()

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
            await self._writer.require_own(head._mapping, lambda: _sealed(connection))
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
