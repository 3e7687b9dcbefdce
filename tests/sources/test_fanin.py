"""Pages of many parents out of one mixed list: equal to brute force, whatever the parents, ties and page sizes."""

from collections.abc import Sequence
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.ports.common import Direction, Key, Page, Window
from sources.ports.errors import SourceError, SourceUnavailable
from sources.ports.select import select
from sources.transport.fanin import Slice, Span, windows_of


class Row(msgspec.Struct, frozen=True):
    """One row of the mixed list."""

    parent: str
    key: Key


class Vendor:
    """Answers as vendors do: sorted by value alone, ties in an order of its own, bounds inclusive."""

    def __init__(self, rows: Sequence[Row], foreign: bool = False) -> None:
        self.rows, self.foreign = rows, foreign
        self.calls: list[tuple[tuple[str, ...], int]] = []

    async def fetch(self, parents: Sequence[str], span: Span, page: int, size: int) -> Slice[Row]:
        self.calls.append(((*parents,), size))
        descending = span.direction is Direction.DESC
        low, high = (span.end, span.start) if descending else (span.start, span.end)
        there = [
            row
            for row in sorted(self.rows, key=lambda row: crc32(row.key.id.encode()))
            if (row.parent in parents or self.foreign)
            and (low is None or row.key.value >= low)
            and (high is None or row.key.value <= high)
        ]
        there.sort(key=lambda row: row.key.value, reverse=descending)
        start = (page - 1) * size
        return Slice(there[start : start + size], start + size < len(there))


PARENTS = ["p", "q", "r", "s", "t"]
VALUES = ["", "1", "2", "3"]


@st.composite
def mixed_rows(draw: st.DrawFn) -> list[Row]:
    places = draw(st.lists(st.tuples(st.sampled_from(PARENTS), st.sampled_from(VALUES)), max_size=40))
    return [Row(parent, Key(value, f"{number:03}")) for number, (parent, value) in enumerate(places)]


KEYS = st.builds(Key, st.sampled_from(VALUES), st.integers(0, 40).map("{:03}".format))
MARKS = st.none() | KEYS
WINDOWS = st.builds(Window, first=st.integers(0, 8), after=MARKS, before=MARKS) | st.builds(
    Window, last=st.integers(0, 8), after=MARKS, before=MARKS
)


async def read(
    vendor: Vendor,
    parents: Sequence[str],
    window: Window,
    direction: Direction,
    chunk: int = 3,
    page_sizes: tuple[int, int] = (1, 4),
) -> list[Page[Row] | SourceError]:
    return await windows_of(
        parents,
        window,
        direction,
        fetch=vendor.fetch,
        parents_of=parents_of,
        keys_of=keys_of,
        chunk=chunk,
        page_sizes=page_sizes,
    )


def parents_of(rows: Sequence[Row]) -> list[str]:
    return [row.parent for row in rows]


def keys_of(rows: Sequence[Row]) -> list[Key]:
    return [row.key for row in rows]


def more(page: Page[Row] | SourceError, window: Window) -> bool:
    """Is there more on the side that the window is read towards?"""
    assert isinstance(page, Page)
    return page.has_previous if window.backwards else page.has_next


def truth(rows: Sequence[Row], parent: str, window: Window, direction: Direction) -> Page[Row]:
    own = [row for row in rows if row.parent == parent]
    return select(own, lambda row: row.key, direction, window)


@given(
    rows=mixed_rows(),
    parents=st.lists(st.sampled_from([*PARENTS, "nobody"]), min_size=1, max_size=8),
    window=WINDOWS,
    direction=st.sampled_from(Direction),
    chunk=st.integers(1, 6),
    page_sizes=st.sampled_from([(1, 1), (1, 4), (2, 5), (30, 30)]),
    foreign=st.booleans(),
)
async def test_each_parent_gets_the_page_that_brute_force_gives(
    rows: list[Row],
    parents: list[str],
    window: Window,
    direction: Direction,
    chunk: int,
    page_sizes: tuple[int, int],
    foreign: bool,
) -> None:
    vendor = Vendor(rows, foreign)

    pages = await read(vendor, parents, window, direction, chunk, page_sizes)

    wanted = [truth(rows, parent, window, direction) for parent in parents]
    assert [(list(page.rows), list(page.keys)) for page in pages if isinstance(page, Page)] == [
        (list(page.rows), list(page.keys)) for page in wanted
    ]
    if (window.after if window.backwards else window.before) is None:
        assert [more(page, window) for page in pages] == [more(page, window) for page in wanted]
    # It comes to an end: every call passes over a row or sets a parent aside, and chunks do so apart from each other.
    distinct = len(set(parents))
    assert len(vendor.calls) <= (len(rows) + 1) * (distinct + -(-distinct // chunk))


@given(
    rows=mixed_rows(), size=st.integers(1, 5), direction=st.sampled_from(Direction), backwards=st.booleans()
)
async def test_pages_say_whether_more_lies_before_and_behind(
    rows: list[Row], size: int, direction: Direction, backwards: bool
) -> None:
    vendor = Vendor(rows)
    seen: list[Row] = []
    mark: Key | None = None
    for _ in range(len(rows) + 1):
        window = Window(last=size, before=mark) if backwards else Window(first=size, after=mark)
        (page,) = await read(vendor, ["p"], window, direction)
        assert isinstance(page, Page)
        seen = [*page.rows, *seen] if backwards else [*seen, *page.rows]
        assert (page.has_next if backwards else page.has_previous) == (mark is not None)
        if not more(page, window):
            break
        mark = page.keys[0] if backwards else page.keys[-1]
    assert seen == list(truth(rows, "p", Window(first=len(rows)), direction).rows)


async def test_a_parent_with_very_many_rows_is_not_read_to_its_end() -> None:
    crowd = [Row("p", Key(f"{number:05}", f"{number:05}")) for number in range(5_000)]
    few = [Row(parent, Key("00000", parent)) for parent in ("q", "r", "s")]
    vendor = Vendor([*crowd, *few])

    pages = await read(vendor, ["p", "q", "r", "s"], Window(first=3), Direction.DESC, 4, (10, 100))

    assert [list(page.rows) for page in pages if isinstance(page, Page)] == [
        list(reversed(crowd))[:3],
        *([row] for row in few),
    ]
    assert [parents for parents, _ in vendor.calls] == [("p", "q", "r", "s"), ("q", "r", "s")]


async def test_a_page_behind_a_cursor_is_read_from_there_on() -> None:
    vendor = Vendor([Row("p", Key(f"{number:05}", f"{number:05}")) for number in range(5_000)])

    (page,) = await read(
        vendor, ["p"], Window(first=2, after=Key("04000", "04000")), Direction.ASC, 1, (5, 100)
    )

    assert isinstance(page, Page)
    assert [key.id for key in page.keys] == ["04001", "04002"]
    assert len(vendor.calls) == 1


async def test_parents_are_asked_for_in_even_chunks() -> None:
    vendor = Vendor([])

    await read(vendor, ["p", "q", "r", "s", "p"], Window(first=1), Direction.ASC, chunk=3)

    assert sorted(parents for parents, _ in vendor.calls) == [("p", "q"), ("r", "s")]


async def test_a_chunk_that_fails_leaves_the_others_alone() -> None:
    rows = [Row("r", Key("1", "1"))]

    class Failing(Vendor):
        async def fetch(self, parents: Sequence[str], span: Span, page: int, size: int) -> Slice[Row]:
            if "p" in parents:
                raise SourceUnavailable("test", "down")
            return await super().fetch(parents, span, page, size)

    pages = await read(Failing(rows), ["p", "q", "r", "s"], Window(first=1), Direction.ASC, chunk=2)

    assert [type(page) for page in pages] == [SourceUnavailable, SourceUnavailable, Page, Page]


async def test_what_is_no_failure_of_the_source_is_not_hidden_in_a_page() -> None:
    class Broken(Vendor):
        async def fetch(self, parents: Sequence[str], span: Span, page: int, size: int) -> Slice[Row]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read(Broken([]), ["p"], Window(first=1), Direction.ASC)


async def test_rows_of_nobody_asked_for_are_dropped_and_told_of() -> None:
    rows = [Row("a", Key("3", "1")), Row("stranger", Key("2", "2")), Row("a", Key("1", "3"))]
    told: list[int] = []

    async def fetch(parents: Sequence[str], span: Span, page: int, size: int) -> Slice[Row]:
        return Slice(rows, more=False)

    (page,) = await windows_of(
        ["a"], Window(first=5), Direction.DESC, fetch=fetch, parents_of=parents_of, keys_of=keys_of,
        chunk=3, page_sizes=(1, 4), astray=told.append,
    )  # fmt: skip

    assert isinstance(page, Page)
    assert page.rows == [rows[0], rows[2]]
    assert told == [1]
