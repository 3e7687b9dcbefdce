"""How a vendor's lists are read for a mirror: by what has changed, or page after page from the start.

A reader is a function ``(since, cursor) -> Slice``. A vendor whose lists have cursors of their own writes one; the others
say how one page is asked for and take one of these.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

from sources.ports.errors import UNREADABLE, SourceBadResponse
from sources.ports.mirror import MirrorRow

T = TypeVar("T")

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before anything that a vendor has."""

FORM_CHANGED = 10
"""Records in one page of which not one fits."""


class Slice(msgspec.Struct, frozen=True):
    """One page. ``cursor`` None: there is no more."""

    rows: Sequence[MirrorRow] = ()
    gone: Sequence[str] = ()
    """Ids of records that are deleted, or that do not fit any more."""
    dropped: int = 0
    newest: datetime | None = None
    """The latest change in it."""
    cursor: Any = None


Read = Callable[[datetime | None, Any], Awaitable[Slice]]
"""``since``: changes from then on, inclusive; None: everything. ``cursor``: what the slice before gave, JSON."""


class Batch(msgspec.Struct, frozen=True):
    """A page of a list, with the times of change in its order."""

    rows: Sequence[MirrorRow]
    changes: Sequence[datetime] = ()
    gone: Sequence[str] = ()
    dropped: int = 0
    more: bool = False


def by_change(source: str, page: Callable[[datetime, int], Awaitable[Batch]], *, most_pages: int) -> Read:
    """For a list sorted by change, the oldest first, that can begin at a time: ``page(since, number)``.

    Page numbers shift under changes, so each page begins where the one before ended, a second earlier: a record that is
    changed meanwhile moves to the end and hides no other. Numbers turn only where one second's changes fill a page.
    """

    async def read(since: datetime | None, cursor: Any) -> Slice:
        start, number = (datetime.fromisoformat(cursor[0]), cursor[1]) if cursor else (since or BEGINNING, 1)
        batch = await page(start, number)
        if any(later < earlier for earlier, later in pairwise(batch.changes)):
            raise SourceBadResponse(source, "a list of changes is not in the order of change")
        following = None
        if batch.more:
            anchor = batch.changes[-1] - timedelta(seconds=1) if batch.changes else start
            following = (anchor, 1) if anchor > start else (start, number + 1)
            if following[1] > most_pages:
                raise SourceBadResponse(source, f"more changes in one second than {most_pages} pages hold")
        return Slice(
            batch.rows,
            batch.gone,
            batch.dropped,
            batch.changes[-1] if batch.changes else None,
            [following[0].isoformat(), following[1]] if following else None,
        )

    return read


def by_number(page: Callable[[int], Awaitable[Batch]]) -> Read:
    """For a list that is only given whole, page by page."""

    async def read(since: datetime | None, cursor: Any) -> Slice:
        number = cursor or 1
        batch = await page(number)
        return Slice(batch.rows, batch.gone, batch.dropped, None, number + 1 if batch.more else None)

    return read


class _Named(msgspec.Struct, frozen=True):
    id: int | str


def each(
    page: Sequence[msgspec.Raw],
    type_: type[T],
    copy: Callable[[T], MirrorRow],
    drop: Callable[[str | None], None],
) -> tuple[list[tuple[T, MirrorRow]], list[str], int]:
    """Every record of a page by itself: those that fit, the ids of those that do not, and how many these are, each told to
    ``drop``. A record that fits no more must not be shown as it was. Raises msgspec.ValidationError for a page of which so
    many fit nothing that it is the form that has changed: what is kept is worth more than such an answer."""
    kept: list[tuple[T, MirrorRow]] = []
    unfit: list[str | None] = []
    failure: Exception | None = None
    for raw in page:
        try:
            record = msgspec.json.decode(raw, type=type_)
        except UNREADABLE as error:
            failure = error
            unfit.append(_id(raw))
            continue
        kept.append((record, copy(record)))
    if failure is not None and not kept and len(unfit) >= FORM_CHANGED:
        raise failure
    for id_ in unfit:
        drop(id_)
    return kept, [id_ for id_ in unfit if id_ is not None], len(unfit)


def encoded(record: Any) -> bytes:
    """As JSON that PostgreSQL can hold: it knows no zero byte."""
    text: bytes = msgspec.json.encode(record)
    if b"\\u0000" in text:
        text = msgspec.json.encode(_without_zeros(msgspec.json.decode(text)))
    return text


def _without_zeros(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "")
        case list():
            return [_without_zeros(inner) for inner in value]
        case dict():
            return {_without_zeros(key): _without_zeros(inner) for key, inner in value.items()}
    return value


def _id(raw: msgspec.Raw) -> str | None:
    try:
        return str(msgspec.json.decode(raw, type=_Named).id)
    except UNREADABLE:
        return None
