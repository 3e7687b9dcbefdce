"""Copies of records that their vendor cannot give for many customers at once: how they are kept, and asked for."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

import msgspec

from sources.ports.common import Direction, Page, Window


class MirrorRow(msgspec.Struct, frozen=True):
    """One record as it is kept."""

    id: str
    body: bytes
    """JSON: what of the vendor's record is used, and nothing else of it."""
    parent: str | None = None
    """The customer's id."""
    places: tuple[str, ...] = ()
    """Its place in each of the orders that lists of it come in, as text that sorts."""
    marks: tuple[str, ...] = ()
    """What lists of it are filtered by, such as ``status:2``."""
    keys: tuple[str, ...] = ()
    """What it is looked for by, such as ``domain:harbour.example``."""


class Bookmark(msgspec.Struct, frozen=True):
    """Where a run has come to; with it any process goes on."""

    whole: bool
    """Does the run read all there is, or what has changed?"""
    reader: int = 0
    cursor: Any = None
    """Where the reader goes on, None at its beginning."""
    newest: dict[str, str] = {}
    """By reader: the latest change that it has come to, which the next run goes back to."""
    reached: dict[str, str] = {}
    """The same by the runs that are over."""


class Standing(msgspec.Struct, frozen=True):
    """How a stream stands when a process takes its turn. All times are the database's."""

    now: datetime
    bookmark: Bookmark | None
    """Of the run under way or of the last one; None before the first."""
    running: bool
    as_of: datetime | None
    swept_at: datetime | None


class Lag(msgspec.Struct, frozen=True):
    """How far a stream of a mirror is behind."""

    stream: str
    as_of: datetime | None
    """What was changed before is in it; None: the first copy is not complete yet."""
    age: float | None
    """Seconds since then."""
    rows: int
    dropped: int
    """Records that did not fit since the first copy was begun."""
    failure: str | None
    """Why the last run did not end; None where it did."""


class Phrase(msgspec.Struct, frozen=True):
    """Words that follow one another in a text of the body, letter case aside."""

    path: tuple[str, ...]
    words: tuple[str, ...]


class OneOf(msgspec.Struct, frozen=True):
    """A value of the body, by number or as text; None stands for nothing there."""

    path: tuple[str, ...]
    values: tuple[str | None, ...]
    numeric: bool = False


class Between(msgspec.Struct, frozen=True):
    """A value of the body within bounds, both inclusive; by number or as text that sorts."""

    path: tuple[str, ...]
    low: str | None
    high: str | None
    numeric: bool


class MirrorQuery(msgspec.Struct, frozen=True):
    """Which rows of each customer, and in what order."""

    window: Window
    place: int
    """The number of the order."""
    direction: Direction
    marks: tuple[tuple[str, ...], ...] = ()
    """Of each group one at least."""
    since: tuple[tuple[int, str], ...] = ()
    """(order's number, place): from there on."""
    conditions: tuple[Phrase | OneOf | Between, ...] = ()


class Copy(msgspec.Struct, frozen=True):
    """Whose copy, and of what account: another account's rows are never read."""

    source: str
    stream: str
    account: str


class Copied(msgspec.Struct, frozen=True):
    """What a question found. ``age`` in seconds; None: there is no complete copy, and nothing was found."""

    age: float | None
    rows: Mapping[str, Sequence[bytes]] = {}


class CopiedPages(msgspec.Struct, frozen=True):
    """The same as pages, by customer."""

    age: float | None
    pages: Mapping[str, Page[bytes]] = {}


class CopiedCounts(msgspec.Struct, frozen=True):
    """The same as counts, by customer."""

    age: float | None
    counts: Mapping[str, int] = {}


class TurnLost(Exception):
    """Another process has taken over; nothing was stored."""


class MirrorTurn(Protocol):
    """What the process whose turn it is writes. Every method raises TurnLost when it is another's meanwhile."""

    async def standing(self, copy: Copy) -> Standing:
        """Takes the stream over. Rows of another account, or kept in another form, are gone then."""

    async def begin(self, copy: Copy, bookmark: Bookmark) -> None:
        """A run begins."""

    async def save(
        self, copy: Copy, rows: Sequence[MirrorRow], gone: Sequence[str], dropped: int, bookmark: Bookmark
    ) -> None:
        """What a page gave and where it ended, or neither."""

    async def complete(self, copy: Copy, bookmark: Bookmark) -> None:
        """The run is over. After a whole one, what neither it nor the one before has seen is gone: a list that shifts
        while it is paged may leave a record out once."""

    async def fail(self, copy: Copy, failure: str) -> None:
        """The run rests where it is."""


class MirrorStore(Protocol):
    """The book of copies. Each question is one query, however many customers it is about."""

    def turn(self, source: str) -> AbstractAsyncContextManager[MirrorTurn | None]:
        """The right to write a source's copies; None while another process has it."""

    async def rows(self, copy: Copy, ids: Sequence[str]) -> Copied:
        """By id."""

    async def rows_by_key(self, copy: Copy, keys: Sequence[str]) -> Copied:
        """By key, by id."""

    async def pages(self, copy: Copy, parents: Sequence[str], query: MirrorQuery) -> CopiedPages: ...

    async def counts(self, copy: Copy, parents: Sequence[str], marks: Sequence[str]) -> CopiedCounts:
        """Rows with one of the marks at least."""

    async def lags(self, copies: Sequence[Copy]) -> Sequence[Lag]:
        """In the order asked."""
