"""Adds to the audit trail's chain: in four round trips on a connection of its own, since every operation pays for it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from sources.ledger.audit_rows import row_of
from sources.ledger.audit_seal import NO_HASH, Seal
from sources.ledger.database import NAME, Database, failures
from sources.ports.audit import AuditHead, AuditRecord
from sources.ports.errors import SourceRejected

# The row of the chain's end is the lock: whoever holds it alone adds.
_HEAD = "SELECT sequence, hash, key_id, seal FROM audit_head FOR UPDATE"

# JSON is what a batch is cheapest written as here: PostgreSQL makes the columns of it.
_ADD = """
    WITH added AS (INSERT INTO audit SELECT * FROM jsonb_populate_recordset(NULL::audit, $1::jsonb))
    UPDATE audit_head SET sequence = $2, hash = $3, key_id = $4, seal = $5
"""

_WRITTEN = "SELECT operation, stage, organisation_id FROM audit WHERE operation = ANY($1)"

_SEALED = """
    SELECT EXISTS (SELECT FROM audit WHERE key_id IS NOT NULL)
        OR EXISTS (SELECT FROM audit_checkpoints WHERE key_id IS NOT NULL)
"""

_encode = msgspec.json.Encoder().encode


class ChainWriter:
    """Of one process."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database, self._seal = database, seal
        self._connection: Any = None
        self._alone = asyncio.Lock()
        self._seen = AuditHead(0, NO_HASH)
        """The chain's end as this process wrote it last."""

    async def append(self, records: Sequence[AuditRecord], *, again: bool) -> None:
        """As AuditStore's."""
        with failures():
            async with asyncio.timeout(self._database.patience()), self._alone:
                try:
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._database.driver()
                    async with self._connection.transaction():
                        head = await self._append(records, again)
                except BaseException:
                    # Whatever state it is in: the next attempt has another.
                    connection, self._connection = self._connection, None
                    if connection is not None:
                        connection.terminate()
                    raise
                self._seen = head or self._seen

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _append(self, records: Sequence[AuditRecord], again: bool) -> AuditHead | None:
        connection = self._connection
        head = await connection.fetchrow(_HEAD)
        if again:
            operations = list({record.operation for record in records})
            written = {tuple(row) for row in await connection.fetch(_WRITTEN, operations)}
            records = [
                record
                for record in records
                if (record.operation, record.stage.value, record.organisation) not in written
            ]
        if not records:
            return None

        async def sealed() -> bool:
            return bool(await connection.fetchval(_SEALED))

        await self.require_own(head, sealed)
        sequence, hash_, key = head["sequence"], head["hash"], self._seal.key_id
        rows = []
        for record in records:
            sequence += 1
            hash_ = self._seal.record(key, hash_, sequence, record)
            rows.append(row_of(sequence, record, key, hash_))
        await connection.execute(
            _ADD, _encode(rows).decode(), sequence, hash_, key, self._seal.head(key, sequence, hash_)
        )
        return AuditHead(sequence, hash_)

    async def require_own(self, head: Any, sealed: Callable[[], Awaitable[bool]]) -> None:
        """A chain that somebody else has cut or turned back is not continued: that would hide it. ``sealed`` looks
        whether anything is sealed with a key."""
        sequence, hash_, key = head["sequence"], head["hash"], head["key_id"]
        seen, fault = self._seen, ""
        if not self._seal.knows(key):
            fault = f"its end is sealed with a key that is not configured ({key})"
        elif sequence < seen.sequence or (sequence and sequence == seen.sequence and hash_ != seen.hash):
            fault = f"it ended at {seen.sequence} before and ends at {sequence} now"
        elif sequence and head["seal"] != self._seal.head(key, sequence, hash_):
            fault = "its end is not sealed as it should be"
        elif key is None and self._seal.key_id is not None and await sealed():
            fault = "records are sealed with a key, but its end is not"
        if fault:
            raise SourceRejected(
                NAME, f"the audit trail was tampered with: {fault}; run gateway audit verify"
            )
