"""How old what one request is given may be, and how old it was."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from math import inf

import msgspec


class Verdict(IntEnum):
    """Where something came from, from best to worst."""

    LIVE = 0
    """Its source was asked for this request, or for one that ran beside it."""
    CACHED = 1
    STALE = 2
    """Older than it should be, as the source failed."""


class Demand(msgspec.Struct, frozen=True):
    """What a client asks for, in seconds: nothing older than ``max_age`` (None: whatever the settings say), or also what
    has been due for a new read for up to ``max_stale``."""

    max_age: float | None = None
    max_stale: float = 0.0
    by_client: bool = True
    """False: it is the gateway's own caution, for which a copy that follows its source will do."""


ANY = Demand()
LIVE = Demand(max_age=0.0, by_client=False)


class Note(msgspec.Struct):
    """Of all that one source gave of one type: the oldest, and the worst."""

    read_at: float
    verdict: Verdict
    lasts: float
    """Seconds for which it may be kept from when it was given."""


class Reading:
    """One request's reads. Notes are taken per batch, never per row."""

    __slots__ = ("_notes", "began", "demand", "items")

    def __init__(self, demand: Demand, began: float) -> None:
        """``began``: by the cache's clock."""
        self.demand, self.began = demand, began
        self.items: dict[Hashable, tuple[str, str, Note]] | None = None
        """Notes of single records instead, where not all that is read may be told of."""
        self._notes: dict[tuple[str, str], Note] = {}

    def note(self, source: str, type_name: str, read_at: float, verdict: Verdict, lasts: float) -> None:
        """A batch of what the graph shows as this type was given."""
        known = self._notes.get((source, type_name))
        if known is None:
            self._notes[source, type_name] = Note(read_at, verdict, lasts)
            return
        known.read_at = min(known.read_at, read_at)
        known.verdict = max(known.verdict, verdict)
        known.lasts = min(known.lasts, lasts)

    @property
    def notes(self) -> Mapping[tuple[str, str], Note]:
        """By source and type."""
        return self._notes


class Itemised:
    """Reads by id of which some may be somebody else's: when those were read, and by whom they are remembered, is told to
    nobody."""

    __slots__ = ("_outer", "_reading")

    def __init__(self, outer: Reading | None) -> None:
        self._outer = outer
        self._reading = Reading(LIVE, 0.0) if outer is None else Reading(outer.demand, outer.began)
        self._reading.items = {}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, reads are noted here."""
        if self._outer is None:
            yield
            return
        with reading_as(self._reading):
            yield

    @contextmanager
    def live(self) -> Iterator[None]:
        """Inside, the sources are asked anew."""
        if self._outer is None:
            yield
            return
        anew = Reading(LIVE, inf)
        anew.items = self._reading.items
        with reading_as(anew):
            yield

    def remembered(self, ref: Hashable) -> bool:
        """Did it come without its source being asked for it?"""
        item = (self._reading.items or {}).get(ref)
        return item is not None and item[2].verdict is not Verdict.LIVE

    def give(self, refs: Iterable[Hashable]) -> None:
        """These are the caller's, so that the request may tell of them."""
        items = self._reading.items
        if self._outer is None or not items:
            return
        for ref in refs:
            if (item := items.get(ref)) is not None:
                source, type_name, note = item
                self._outer.note(source, type_name, note.read_at, note.verdict, note.lasts)


def itemised() -> Itemised:
    """For one read by id."""
    return Itemised(_reading.get())


_reading: ContextVar[Reading | None] = ContextVar("reading", default=None)


class reading_as:  # noqa: N801 - said as ``with reading_as(...)``
    """Ports read inside take what the cache has. Whoever says nothing reads live."""

    __slots__ = ("_reading", "_token")

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def __enter__(self) -> None:
        self._token = _reading.set(self._reading)

    def __exit__(self, *error: object) -> None:
        _reading.reset(self._token)


def current_reading() -> Reading | None:
    """None: nobody has said what may be old."""
    return _reading.get()
