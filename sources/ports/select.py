"""Filtering, ordering and windowing of rows that are already here, for what a vendor cannot do itself."""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TypeVar

from sources.ports.common import Direction, Key, Page, Window

R = TypeVar("R")


def select(rows: Iterable[R], key: Callable[[R], Key], direction: Direction, window: Window) -> Page[R]:
    """The window's slice of all ``rows``, ordered by ``key`` (text order, then id; reversed whole for DESC).

    All rows of the list must be given, once each, in any order.
    """
    descending = direction is Direction.DESC
    keyed = [(place.value, place.id, place, row) for row in rows for place in (key(row),)]
    keyed.sort(key=_PLACE, reverse=descending)
    after, before = window.after, window.before
    start, end = 0, len(keyed)
    if after is not None:
        start = sum(1 for one in keyed if not _beyond(one[2], after, descending))
    if before is not None:
        end = sum(1 for one in keyed if _beyond(before, one[2], descending))
    end = max(start, end)
    low, high = start, end
    if window.first is not None:
        high = min(end, start + window.first)
    else:
        low = max(start, end - window.size)
    chosen = keyed[low:high]
    return Page(
        rows=[one[3] for one in chosen],
        keys=[one[2] for one in chosen],
        has_next=high < len(keyed),
        has_previous=low > 0,
    )


_PLACE = itemgetter(0, 1)


def _beyond(key: Key, mark: Key, descending: bool) -> bool:
    """Does ``key`` come strictly after ``mark`` in the list's order?"""
    a, b = (key.value, key.id), (mark.value, mark.id)
    return a < b if descending else a > b
