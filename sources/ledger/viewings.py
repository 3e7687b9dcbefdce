"""The book of viewings."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update

from sources.ledger.database import Database, given, storable
from sources.ledger.tables import viewings as table
from sources.ports.viewings import ViewingRecord
from sources.ports.writing import Refusal, WriteRefused

MOST = 20
"""That one member of staff has running at a time."""
KEPT = timedelta(days=90)
"""How long a viewing that is over is remembered; the audit trail has its own time."""


class Viewings:
    """Fills ViewingStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, viewing: ViewingRecord) -> None:
        if not storable([viewing.reason]):
            raise WriteRefused(Refusal.INVALID, "the reason has a zero byte", "reason")
        running = (
            select(func.count())
            .select_from(table)
            .where(
                table.c.staff == viewing.staff,
                table.c.ended_at.is_(None),
                table.c.expires_at > viewing.created_at,
            )
        )
        async with self._database.writing(f"viewings:{viewing.staff}") as connection:
            if (await connection.execute(running)).scalar_one() >= MOST:
                raise WriteRefused(Refusal.TOO_MANY, f"you have {MOST} viewings running; end one first")
            await connection.execute(delete(table).where(table.c.expires_at < viewing.created_at - KEPT))
            values = msgspec.structs.asdict(viewing)
            values |= {
                "organisation_id": values.pop("organisation"),
                "member_id": values.pop("member"),
                "roles": list(viewing.roles),
            }
            await connection.execute(insert(table).values(values))

    async def end(self, viewing: str, staff: str) -> None:
        own = (table.c.id == viewing, table.c.staff == staff)
        if not storable([viewing]):
            raise _not_found()
        async with self._database.writing() as connection:
            found = await connection.execute(select(table.c.ended_at).where(*own))
            row = found.first()
            if row is None:
                raise _not_found()
            if row.ended_at is None:
                await connection.execute(update(table).where(*own).values(ended_at=datetime.now(UTC)))

    async def begun_by(self, staff: str, viewing: str) -> ViewingRecord | None:
        memory, key = self._database.memory, ("viewing of", staff, viewing)
        known = memory.recall([key])
        if known or not storable([staff, viewing]):
            return known.get(key)
        begun = memory.begin()
        query = select(table).where(table.c.id == viewing, table.c.staff == staff)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            # Not kept, as made-up ones would fill the memory. Another's is asked for each time, too.
            return None
        found = _viewing(row)
        memory.keep(begun, {key: found})
        return found

    async def viewings(self, ids: Sequence[str]) -> Sequence[ViewingRecord | None]:
        memory = self._database.memory
        keys = {id_: ("viewing", id_) for id_ in ids}
        known = dict(memory.recall(keys.values()))
        asked = [id_ for id_, key in keys.items() if key not in known and storable([id_])]
        if asked:
            begun = memory.begin()
            rows = given("id")
            query = select(table).join(rows, rows.c.id == table.c.id)
            async with self._database.reading() as connection:
                found = await connection.execute(query, {"id": asked})
            read = {keys[row.id]: _viewing(row) for row in found}
            # Only those that exist: made-up ones would fill the memory.
            memory.keep(begun, read)
            known |= read
        return [known.get(keys[id_]) for id_ in ids]


def _not_found() -> WriteRefused:
    return WriteRefused(Refusal.NOT_FOUND, "you have no such viewing", "viewingId")


def _viewing(row: Row[*tuple[Any, ...]]) -> ViewingRecord:
    values = dict(row._mapping)
    values |= {
        "organisation": values.pop("organisation_id"),
        "member": values.pop("member_id"),
        "roles": tuple(row.roles),
    }
    return ViewingRecord(**values)
