"""Reading the newest few of each of many parents from one mixed, ordered list.

Vendors give "invoices of these 40 customers" as one list in one order. Read naively, one customer with 10,000 invoices
fills page after page before another's first appears. Here every page narrows the next call: parents that have all they
need drop out, and the list goes on from the last value seen, so nobody starves and nobody is read to the end.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from sources.ports.common import Direction, Key, Page, Window
from sources.ports.errors import SourceError
from sources.transport.abreast import abreast

R = TypeVar("R")


class Span(msgspec.Struct, frozen=True):
    """A stretch of an ordered list by sort value, inclusive at both ends; None is open. ``direction`` is the running
    order of the call, so with DESC ``start`` is the larger value."""

    direction: Direction
    start: str | None = None
    end: str | None = None


class Slice(msgspec.Struct, Generic[R], frozen=True):
    """One answer: rows in the span's order, and whether the vendor has more behind them."""

    rows: Sequence[R]
    more: bool


Fetch = Callable[[Sequence[str], Span, int, int], Awaitable[Slice[R]]]
"""``fetch(parent ids, span, page from 1, page size)``."""


async def windows_of(
    parents: Sequence[str],
    window: Window,
    direction: Direction,
    *,
    fetch: Fetch[R],
    parents_of: Callable[[Sequence[R]], Iterable[str]],
    keys_of: Callable[[Sequence[R]], Iterable[Key]],
    chunk: int,
    page_sizes: tuple[int, int],
    sort: Callable[[str], Any] = str,
    astray: Callable[[int], None] | None = None,
) -> list[Page[R] | SourceError]:
    """The window of each parent's list, in the order of ``parents``.

    ``chunk``: parent ids per call; ``page_sizes``: the smallest and largest page worth asking for; ``sort`` turns a key's
    text into what the vendor orders by. Rows of none of the parents are dropped, and ``astray`` is told how many. A chunk that fails gives its SourceError to each of its parents.
    """
    distinct = list(dict.fromkeys(parents))
    count = -(-len(distinct) // chunk) or 1
    size = -(-len(distinct) // count) or 1
    chunks = [distinct[i : i + size] for i in range(0, len(distinct), size)]
    reader = _Reader(window, direction, fetch, parents_of, keys_of, page_sizes, sort, astray)
    answers = await abreast(reader.read(ids) for ids in chunks)
    found: dict[str, Page[R] | SourceError] = {}
    for ids, answer in zip(chunks, answers, strict=True):
        if isinstance(answer, SourceError):
            found.update(dict.fromkeys(ids, answer))
        else:
            found.update(answer)
    return [found[parent] for parent in parents]


class _Reader(Generic[R]):
    def __init__(
        self,
        window: Window,
        direction: Direction,
        fetch: Fetch[R],
        parents_of: Callable[[Sequence[R]], Iterable[str]],
        keys_of: Callable[[Sequence[R]], Iterable[Key]],
        page_sizes: tuple[int, int],
        sort: Callable[[str], Any],
        astray: Callable[[int], None] | None,
    ) -> None:
        self._window = window
        # The last few of a list are the first few of the list turned round.
        backwards = window.backwards
        self._running = direction if not backwards else _turned(direction)
        self._after = window.before if backwards else window.after
        self._until = window.after if backwards else window.before
        self._fetch, self._parents_of, self._keys_of = fetch, parents_of, keys_of
        self._page_sizes, self._sort, self._astray = page_sizes, sort, astray

    async def read(self, parents: Sequence[str]) -> dict[str, Page[R]]:
        wanted = self._window.size + 1  # one more tells whether a next page exists
        seen: dict[str, dict[str, _Found[R]]] = {parent: {} for parent in parents}
        waiting = list(parents)
        span = Span(
            self._running,
            start=self._after.value if self._after else None,
            end=self._until.value if self._until else None,
        )
        page = 1
        while waiting:
            smallest, largest = self._page_sizes
            size = max(smallest, min(largest, len(waiting) * wanted * 3 // 2))
            answer = await self._fetch(waiting, span, page, size)
            if (strays := self._sorted_out(answer.rows, seen)) and self._astray:
                self._astray(strays)
            if not answer.more or not answer.rows:
                break
            # Rows that tie with the last one may go on behind the page's end: only those before it are certain.
            (key,) = self._keys_of(answer.rows[-1:])
            start, last = key.value, self._sort(key.value)
            hungry = [
                parent
                for parent in waiting
                if sum(1 for one in seen[parent].values() if one[0] != last) < wanted
            ]
            if hungry == waiting and start == span.start:
                page += 1  # a page full of ties: only turning it gets further
            else:
                span, page, waiting = Span(self._running, start=start, end=span.end), 1, hungry
        return {parent: self._page(list(rows.values())) for parent, rows in seen.items()}

    def _sorted_out(self, rows: Sequence[R], seen: Mapping[str, "dict[str, _Found[R]]"]) -> int:
        """Puts each row to its parent's, where the window reaches; how many are of no parent."""
        sort, as_text, bounded = self._sort, self._sort is str, bool(self._after or self._until)
        strays = 0
        for own, key, row in zip(
            map(seen.get, self._parents_of(rows)), self._keys_of(rows), rows, strict=True
        ):
            if own is None:
                strays += 1
                continue
            value, id_ = key.value, key.id
            found = (value if as_text else sort(value), id_, key, row)
            if not bounded or self._inside(found[:2]):
                own[id_] = found
        return strays

    def _inside(self, place: tuple[Any, str]) -> bool:
        return (self._after is None or self._beyond(place, self._place(self._after))) and (
            self._until is None or self._beyond(self._place(self._until), place)
        )

    def _beyond(self, place: tuple[Any, str], mark: tuple[Any, str]) -> bool:
        return place < mark if self._running is Direction.DESC else place > mark

    def _place(self, key: Key) -> tuple[Any, str]:
        return self._sort(key.value), key.id

    def _page(self, found: "list[_Found[R]]") -> Page[R]:
        window = self._window
        # By value, then id; no two have the same, so that nothing behind these is compared.
        found.sort(reverse=self._running is Direction.DESC)
        more = len(found) > window.size
        del found[window.size :]
        if window.backwards:
            found.reverse()
        rows, keys = [one[3] for one in found], [one[2] for one in found]
        if window.backwards:
            return Page(rows, keys, window.before is not None, more)
        return Page(rows, keys, more, window.after is not None)


_Found = tuple[Any, str, Key, R]
"""A row by what it is sorted by, its id and its key."""


def _turned(direction: Direction) -> Direction:
    return Direction.ASC if direction is Direction.DESC else Direction.DESC
