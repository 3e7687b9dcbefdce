"""The first level: what this process has read, in as many bytes as it may take."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from typing import Any

import msgspec

from sources.ports.common import Page

_encode = msgspec.msgpack.Encoder(enc_hook=attrgetter("given")).encode  # parts of records, read or not
_OBJECTS = 3
"""How much larger a record is as Python's objects than as MessagePack, about (64-bit CPython 3.11)."""
_ENTRY = 400
"""Bytes of an entry without its value."""


class Shelf:
    """One list by its question, or the records of one type: of one source."""

    __slots__ = ("airborne", "boarding", "count", "query", "source", "type_name")

    def __init__(self, source: str, type_name: str, query: Hashable) -> None:
        self.source, self.type_name, self.query = source, type_name, query
        self.count = 0
        """Entries and calls that hold on to it."""
        self.airborne = 0
        """Calls under way."""
        self.boarding: dict[Hashable, Any] = {}
        """By who they are for, calls that still take keys."""


class Entry:
    """One answer of a source."""

    __slots__ = ("grace", "lasts", "read_at", "size", "value")

    def __init__(self, value: Any, read_at: float, lasts: float, grace: float) -> None:
        self.value, self.read_at, self.lasts, self.grace = value, read_at, lasts, grace
        self.size = 0


Place = tuple[Shelf, Hashable]


class Memory:
    """The least recently used goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._shelves: dict[Hashable, Shelf] = {}
        self._entries: OrderedDict[Place, Entry] = OrderedDict()
        self.size = 0
        """Bytes, as estimated."""
        self.evicted = 0
        """Entries that had to make room."""

    def __len__(self) -> int:
        return len(self._entries)

    def shelf(self, source: str, type_name: str, query: Hashable) -> Shelf:
        """Whoever takes one holds it and lets it go."""
        key = (source, type_name, query)
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = Shelf(source, type_name, query)
        return shelf

    def hold(self, shelf: Shelf) -> None:
        shelf.count += 1

    def let_go(self, shelf: Shelf) -> None:
        """Questions are without number: one of which nothing is left is forgotten itself."""
        shelf.count -= 1
        if shelf.count == 0:
            self._shelves.pop((shelf.source, shelf.type_name, shelf.query), None)

    def get(self, place: Place) -> Entry | None:
        entry = self._entries.get(place)
        if entry is not None:
            self._entries.move_to_end(place)
        return entry

    def put(self, place: Place, entry: Entry) -> None:
        self.drop(place)
        entry.size = _ENTRY + _estimate(entry.value)
        if entry.size > self._most:
            return
        self._entries[place] = entry
        self.size += entry.size
        self.hold(place[0])
        while self.size > self._most:
            self.evicted += 1
            self.drop(next(iter(self._entries)))

    def drop(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.size -= entry.size
            self.let_go(place[0])

    def forget(self, belongs: Callable[[Place], bool]) -> None:
        """All of it that belongs to what has changed."""
        for place in [place for place in self._entries if belongs(place)]:
            self.drop(place)

    def places(self) -> Iterator[Place]:
        return iter(self._entries)


def _estimate(value: Any) -> int:
    """A list's rows are taken to be as large as its first: it is asked for every list that was read."""
    rows = value.rows if isinstance(value, Page) else value if isinstance(value, list | tuple) else [value]
    return _OBJECTS * len(rows) * len(_encode(rows[0])) if rows else 0
