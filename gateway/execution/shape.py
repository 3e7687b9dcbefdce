"""What a row of the answer is made of, and making rows straight from records.

A row is a msgspec Struct made for one selection: cheaper to make, to encode and to let go of than a dict. Where all that a
selection asks for is copied from records, one call checks and copies it for all of a block; as soon as a record holds
anything but what its type promises, the block is read column by column like any other.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

DOUBTS = 3
"""Blocks that could not be copied, after which a selection is not tried again."""

TYPENAME = "__typename"


class Part:
    """What is known of a field before anything was read: the attribute that it copies and the type of what may stand there,
    or the value that it has in every row. Neither: its values come otherwise."""

    __slots__ = ("attribute", "constant", "type")

    def __init__(self, attribute: str | None = None, type_: Any = None, constant: str | None = None) -> None:
        self.attribute, self.type, self.constant = attribute, type_, constant


class Shape:
    """The rows of one selection. ``copies``: may all of it be had straight of records?"""

    __slots__ = ("_copies", "_keys", "_parts", "_row", "copies")

    def __init__(self, keys: Sequence[str], parts: Sequence[Part]) -> None:
        self._keys, self._parts = keys, parts
        self._row: Any = None
        self.copies = all(part.attribute or part.constant for part in parts)
        self._copies: dict[type, Copies | None] = {}

    def of_columns(self, columns: Sequence[Sequence[Any]], rows: int) -> list[Any]:
        """One row per place of the columns, which are all of this length and in the fields' order."""
        if not columns:
            return [{} for _ in range(rows)]
        if self._row is None:
            names = [f"f{place}" for place in range(len(self._keys))]
            keys = dict(zip(names, self._keys, strict=True))
            self._row = msgspec.defstruct("Row", [(name, Any) for name in names], gc=False, rename=keys.get)
        if rows == 1:  # no iterators, which cost more than the row
            return [self._row(*[column[0] for column in columns])]
        return list(map(self._row, *columns))

    def of_records(self, records: Sequence[Any]) -> list[Any] | None:
        """One row per record; None where they are to be read by columns."""
        kinds = set(map(type, records))
        if len(kinds) != 1:
            return None
        (kind,) = kinds
        try:
            copies = self._copies[kind]
        except KeyError:
            copies = self._copies[kind] = Copies.of(kind, self._keys, self._parts)
        return None if copies is None else copies.rows(records)


class Records(msgspec.Struct, gc=False):
    """Those of a block, as one thing to convert."""

    records: Any


class Copies:
    """Makes rows of records of one class."""

    __slots__ = ("_doubts", "_rows")

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._doubts = 0

    @classmethod
    def of(cls, record: type, keys: Sequence[str], parts: Sequence[Part]) -> "Copies | None":
        """None where anything asked is not copied, or twice from one attribute.

        A row's field has the name of the record's attribute. msgspec looks for a field under the response key, too, where
        the record lacks the attribute: a client chooses that key, so every attribute must be one of the record's own.
        """
        if not issubclass(record, msgspec.Struct):
            return None
        attributes = set(record.__struct_fields__)
        renamed: dict[str, str] = {}
        fields: list[Any] = []
        for key, part in zip(keys, parts, strict=True):
            if part.attribute in attributes:
                name = part.attribute
                attributes.remove(name)
                fields.append((name, part.type))
            elif part.constant is not None and key == TYPENAME:
                name = "_typename"
                fields.append((name, str, part.constant))
            else:
                return None
            renamed[name] = key
        if not fields or hasattr(record, "_typename") or hasattr(record, TYPENAME):
            return None
        row: Any = msgspec.defstruct("Row", fields, kw_only=True, gc=False, rename=renamed.get)
        # msgspec remembers what it knows of a Struct, and works out what a list holds each time.
        return cls(msgspec.defstruct("Rows", [("records", list[row])], gc=False))

    def rows(self, records: Sequence[Any]) -> list[Any] | None:
        """None where a record does not hold what its type promises: columns then find out what that means."""
        if self._doubts >= DOUBTS:
            return None
        try:
            # As a built-in type a date is taken as a date alone, and not as text that could be one.
            return msgspec.convert(  # type: ignore[no-any-return]
                Records(records), self._rows, from_attributes=True, builtin_types=(date,)
            ).records
        except Exception:  # whatever reading an attribute raises
            self._doubts += 1
            return None
