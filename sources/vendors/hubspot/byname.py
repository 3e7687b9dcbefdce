"""A page of the list of accounts by name: HubSpot sorts, and a cursor remembers where in the list it was."""

from collections.abc import Awaitable, Callable, Sequence

from sources.ports.common import Direction, Key, Page, Window
from sources.ports.errors import InvalidRequest
from sources.vendors.hubspot.api import SEARCH_CAP, SOURCE, Found, Row

Read = Callable[[int, int], Awaitable[Found]]
"""``read(offset, limit)`` of the list sorted by name."""

_MARK = "\x1f"


async def accounts_by_name(read: Read, window: Window, direction: Direction, page_size: int) -> Page[Row]:
    """HubSpot cannot compare texts, so a cursor holds the name and its place in the list. The hits around that place
    are read and the cursor's own account looked for among them: one call while the list stays about as it was. Where
    it is not found, the whole list is read (at most SEARCH_CAP, InvalidRequest beyond) and the name decides."""
    size, after, before = window.size, window.after, window.before
    if (after and before) or (after and window.backwards) or (before and not window.backwards):
        return await _whole(read, window, direction, page_size)
    if after is None and before is None and not window.backwards:
        found = await _checked(read, 0, max(1, size))
        return _page(found.results[:size], 0, found.total)
    if after is None and before is None:
        total = (await _checked(read, 0, 1)).total
        start = max(0, total - size)
        found = await _checked(read, start, size) if total > start else Found(total, [])
        return _page(found.results, start, found.total)
    mark = before if window.backwards else after
    assert mark is not None
    place = _place(mark)
    if place is None or size + 1 >= page_size:
        return await _whole(read, window, direction, page_size)
    spare = (page_size - size - 1) // 2
    offset = max(0, place - spare - (size if window.backwards else 0))
    found = await _checked(read, offset, page_size)
    at = next((i for i, row in enumerate(found.results) if row and row.id == mark.id), None)
    if at is None:
        return await _whole(read, window, direction, page_size)
    if window.backwards:
        low, high, enough = max(0, at - size), at, at >= size or offset == 0
    else:
        low, high = at + 1, at + 1 + size
        enough = high <= len(found.results) or offset + len(found.results) >= found.total
    if not enough:
        return await _whole(read, window, direction, page_size)
    return _page(found.results[low:high], offset + low, found.total)


async def _whole(read: Read, window: Window, direction: Direction, page_size: int) -> Page[Row]:
    rows: list[Row | None] = []
    while True:
        found = await _checked(read, len(rows), page_size)
        rows += found.results
        if not found.results or len(rows) >= found.total:
            break
    descending = direction is Direction.DESC
    start = 0 if window.after is None else _behind(rows, window.after, descending, past=True)
    end = len(rows) if window.before is None else _behind(rows, window.before, descending, past=False)
    end = max(start, end)
    if window.backwards:
        start = max(start, end - window.size)
    return _page(rows[start : min(end, start + window.size)], start, len(rows))


def _behind(rows: Sequence[Row | None], mark: Key, descending: bool, *, past: bool) -> int:
    """Where the list goes on after the mark (or stops before it): by its account, else by its name."""
    for position, row in enumerate(rows):
        if row and row.id == mark.id:
            return position + past
    name = mark.value.partition(_MARK)[0]
    return next(
        (
            position
            for position, row in enumerate(rows)
            if row and (_name(row) < name if descending else _name(row) > name)
        ),
        len(rows),
    )


async def _checked(read: Read, offset: int, limit: int) -> Found:
    if offset >= SEARCH_CAP:
        raise InvalidRequest(
            SOURCE, f"HubSpot pages through {SEARCH_CAP:,} accounts by name at most: narrow the search"
        )
    return await read(offset, min(limit, SEARCH_CAP - offset))


def _page(hits: Sequence[Row | None], start: int, total: int) -> Page[Row]:
    rows = [(place, row) for place, row in enumerate(hits, start) if row]
    keys = [Key(f"{_name(row)}{_MARK}{place}", row.id) for place, row in rows]
    return Page([row for _, row in rows], keys, has_next=start + len(hits) < total, has_previous=start > 0)


def _name(row: Row) -> str:
    return (row.text("name") or "").casefold()


def _place(mark: Key) -> int | None:
    place = mark.value.rpartition(_MARK)[2]
    return int(place) if place.isascii() and place.isdigit() and len(place) < 6 else None
