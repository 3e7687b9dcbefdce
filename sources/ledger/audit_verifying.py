"""Reads the audit trail's chain from end to end and says where it does not hold."""

from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.audit_rows import entry_of, selected
from sources.ledger.audit_seal import NO_HASH, Seal
from sources.ledger.tables import audit, audit_checkpoints, audit_head
from sources.ports.audit import AuditHead, Fault, Hash, Verified

READ_AT_ONCE = 500
"""Records in memory."""


async def verified(
    connection: AsyncConnection, seal: Seal, first: int | None, last: int | None, kept: AuditHead | None
) -> Verified:
    """In one snapshot, which the connection's transaction gives."""
    head = (await connection.execute(select(audit_head))).first()
    latest = select(audit_checkpoints).order_by(audit_checkpoints.c.sequence.desc()).limit(1)
    checkpoint = (await connection.execute(latest)).first()
    chain = _Chain(seal, checkpoint, head, kept)
    start = max(first or 1, chain.begins)
    if chain.fault is None and start > chain.begins:
        before = select(audit.c.sequence, audit.c.hash, audit.c.key_id).where(audit.c.sequence == start - 1)
        chain.begin_behind(start, (await connection.execute(before)).first())
    if chain.fault is None:
        rows = selected(audit.c.records).where(audit.c.sequence >= start).order_by(audit.c.sequence)
        if last is not None:
            rows = rows.where(audit.c.sequence <= last)
        async with connection.stream(rows.execution_options(yield_per=READ_AT_ONCE)) as found:
            async for row in found:
                if not chain.holds(row):
                    break
    if chain.fault is None:
        highest = (await connection.execute(select(func.max(audit.c.sequence)))).scalar()
        chain.end(last, highest)
    return Verified(start, chain.sequence, chain.records, chain.fault)


class _Chain:
    """The chain as far as it was followed."""

    def __init__(
        self,
        seal: Seal,
        checkpoint: Row[*tuple[Any, ...]] | None,
        head: Row[*tuple[Any, ...]] | None,
        kept: AuditHead | None,
    ) -> None:
        self._seal, self._head, self._kept = seal, head, kept
        self.sequence, self._hash, self._by_key = 0, NO_HASH, False
        self.records, self.begins = 0, 1
        self.fault: Fault | None = None
        if head is None:
            self._fail(1, "the row that says where the trail ends is missing")
            return
        if checkpoint is not None:
            self.sequence, self._hash = checkpoint.sequence, checkpoint.hash
            self._by_key = checkpoint.key_id is not None
            expected = self._known(checkpoint.key_id, self.sequence) and seal.checkpoint(
                checkpoint.key_id, self.sequence, self._hash
            )
            if self.fault is None and expected != checkpoint.seal:
                self._fail(self.sequence + 1, "the checkpoint before it is not sealed as it should be")
        self.begins = self.sequence + 1
        if (
            kept is not None
            and kept.sequence <= self.sequence
            and not self._is_kept(self.sequence, self._hash)
        ):
            self._fail(kept.sequence, "it was deleted by age since its head was kept; nothing to compare")

    def begin_behind(self, first: int, before: Row[*tuple[Any, ...]] | None) -> None:
        """Begins in the middle: the record before is believed."""
        if before is None:
            self._fail(first - 1, "missing")
            return
        self.sequence, self._hash, self._by_key = before.sequence, before.hash, before.key_id is not None

    def holds(self, row: Row[*tuple[Any, ...]]) -> bool:
        """Is this the record that comes next?"""
        expected = self.sequence + 1
        if row.sequence != expected:
            return self._fail(expected, "missing")
        if not self._known(row.key_id, expected):
            return False
        if row.key_id is None and self._by_key:
            return self._fail(expected, "not sealed with a key, though those before it are")
        try:
            record = entry_of(row).record
        except ValueError:
            return self._fail(expected, "altered: not what the gateway writes")
        if self._seal.record(row.key_id, self._hash, expected, record) != row.hash:
            return self._fail(expected, "altered, moved, or not the one that followed the one before it")
        self.sequence, self._hash, self._by_key = expected, row.hash, row.key_id is not None
        self.records += 1
        return self._is_kept(expected, row.hash) or self._fail(expected, "not the one whose head was kept")

    def end(self, last: int | None, highest: int | None) -> None:
        """Nothing may be missing behind the last record."""
        head = self._head
        assert head is not None
        if last is not None and last <= self.sequence:
            return
        if head.sequence > self.sequence:
            self._fail(self.sequence + 1, "missing, with all behind it: the trail was cut")
        elif (highest or 0) > head.sequence:
            self._fail(head.sequence + 1, "behind the trail's end: it was not written by the gateway")
        elif self._kept is not None and self._kept.sequence > self.sequence:
            self._fail(
                self.sequence + 1, "missing, with all behind it: the trail is shorter than the head kept"
            )
        elif head.sequence and head.hash != self._hash:
            self._fail(head.sequence, "not the one that the trail's end names")
        elif head.sequence and self._known(head.key_id, head.sequence):
            if head.seal != self._seal.head(head.key_id, head.sequence, head.hash):
                self._fail(head.sequence, "the trail's end is not sealed as it should be")
            elif head.key_id is None and self._seal.key_id is not None:
                self._fail(
                    head.sequence,
                    "the trail's end is not sealed with the configured key: either nothing was recorded since the key "
                    "was set, or somebody without the key has rewritten it",
                )

    def _is_kept(self, sequence: int, hash_: Hash) -> bool:
        kept = self._kept
        return kept is None or kept.sequence != sequence or kept.hash == hash_

    def _known(self, key_id: str | None, sequence: int) -> bool:
        return self._seal.knows(key_id) or self._fail(
            sequence, f"sealed with a key that is not configured ({key_id}); add it to audit.retired_keys"
        )

    def _fail(self, sequence: int, reason: str) -> bool:
        self.fault = Fault(sequence, reason)
        return False
