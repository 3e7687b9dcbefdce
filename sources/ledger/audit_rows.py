"""Audit records as rows: every column but the seal's own is a part of the record."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, select

from sources.ledger.tables import audit
from sources.ports.audit import AuditEntry, AuditKind, AuditOutcome, AuditRecord, Hash, Stage

_RECORD = (
    audit.c.operation, audit.c.stage, audit.c.at, audit.c.request, audit.c.kind, audit.c.name, audit.c.outcome,
    audit.c.codes, audit.c.principal, audit.c.principal_kind, audit.c.via, audit.c.credential, audit.c.roles,
    audit.c.staff, audit.c.viewed_by, audit.c.organisation_id, audit.c.client, audit.c.coordinates, audit.c.denied,
    audit.c.personal, audit.c.records, audit.c.record_count, audit.c.count,
)  # fmt: skip
"""In the order of AuditRecord's attributes."""

_Row = msgspec.defstruct(
    "_Row",
    [(str(name), Any) for name in ("sequence", *(column.name for column in _RECORD), "key_id", "hash")],
    gc=False,
)


def row_of(sequence: int, record: AuditRecord, key_id: str | None, hash_: Hash) -> Any:
    """As JSON has it in which PostgreSQL looks for columns by their names."""
    return _Row(sequence, *msgspec.structs.astuple(record), key_id, f"\\x{hash_.hex()}")


def selected(records: ColumnElement[Any]) -> Select[Any]:
    """Entries, with this of their record ids."""
    columns = [records.label("records") if column is audit.c.records else column for column in _RECORD]
    return select(audit.c.sequence, *columns, audit.c.key_id, audit.c.hash)


def entry_of(row: Row[*tuple[Any, ...]]) -> AuditEntry:
    """Raises ValueError for what was never written by us."""
    sequence, *values, key_id, hash_ = tuple(row)
    return AuditEntry(sequence, _record(values), hash_, key_id)


def _record(values: Sequence[Any]) -> AuditRecord:
    found: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
    found[1], found[4], found[6] = Stage(found[1]), AuditKind(found[4]), AuditOutcome(found[6])
    return AuditRecord(*found)
