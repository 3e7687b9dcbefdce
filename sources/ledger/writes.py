"""The book of changes that took place, so that asking again for one does not make another."""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select

from sources.ledger.database import Database, storable
from sources.ledger.tables import writes
from sources.ports.writing import Refusal, Work, WriteRefused, Written

KEPT = timedelta(days=7)
"""How long a change is remembered."""


class Writes:
    """Fills WriteStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(self, caller: str, key: str, change: str, given: bytes, work: Work) -> Written:
        if not storable((caller, key)):
            raise WriteRefused(Refusal.INVALID, "the idempotency key has a zero byte", "idempotencyKey")
        fingerprint = hashlib.sha256(change.encode() + b"\0" + given).digest()
        async with self._database.together(f"write:{caller}|{key}") as connection:
            now = datetime.now(UTC)
            await connection.execute(delete(writes).where(writes.c.written_at < now - KEPT))
            found = await connection.execute(
                select(writes).where(writes.c.caller == caller, writes.c.key == key)
            )
            if former := found.first():
                if former.fingerprint != fingerprint:
                    raise WriteRefused(
                        Refusal.IDEMPOTENCY_KEY_REUSED,
                        "this idempotency key came with another change before; make a new one",
                        "idempotencyKey",
                    )
                return Written(former.id, former.written_at, former.records, repeated=True)
            written = Written(str(uuid.uuid4()), now, dict(await work()))
            await connection.execute(
                insert(writes).values(
                    caller=caller,
                    key=key,
                    id=written.id,
                    fingerprint=fingerprint,
                    records=written.records,
                    written_at=written.at,
                )
            )
        return written
