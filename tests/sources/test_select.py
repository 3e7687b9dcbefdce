"""Windows over rows that are here: whatever the rows, ties and marks, the page is the slice that brute force gives."""

from hypothesis import given
from hypothesis import strategies as st

from sources.ports.common import Direction, Key, Page, Window
from sources.ports.select import select

KEYS = st.builds(
    Key, st.sampled_from(["", "a", "b", "ß", "東"]), st.sampled_from([str(n) for n in range(12)])
)
ROWS = st.lists(KEYS, unique=True, max_size=15)
MARKS = st.none() | KEYS
SIZES = st.integers(0, 20)


def windows() -> st.SearchStrategy[Window]:
    return st.builds(Window, first=SIZES, after=MARKS, before=MARKS) | st.builds(
        Window, last=SIZES, after=MARKS, before=MARKS
    )


def ordered(rows: list[Key], direction: Direction) -> list[Key]:
    return sorted(rows, key=lambda key: (key.value, key.id), reverse=direction is Direction.DESC)


def test_no_rows_are_an_empty_page() -> None:
    assert select([], lambda key: key, Direction.ASC, Window(first=3)) == Page([], [])


@given(ROWS, st.sampled_from(Direction), windows())
def test_a_page_is_the_slice_of_the_ordered_list(
    rows: list[Key], direction: Direction, window: Window
) -> None:
    line = ordered(rows, direction)
    rank = ordered([*rows, *filter(None, (window.after, window.before))], direction).index
    inside = [
        key
        for key in line
        if (window.after is None or rank(key) > rank(window.after))
        and (window.before is None or rank(key) < rank(window.before))
        and key not in (window.after, window.before)
    ]
    wanted = inside[: window.first] if window.last is None else inside[max(0, len(inside) - window.last) :]

    page = select(rows, lambda key: key, direction, window)

    assert list(page.rows) == list(page.keys) == wanted


@given(ROWS.filter(bool), st.sampled_from(Direction), st.integers(1, 6), st.booleans())
def test_pages_cover_all_rows_once_in_either_direction(
    rows: list[Key], direction: Direction, size: int, backwards: bool
) -> None:
    seen: list[Key] = []
    mark: Key | None = None
    while True:
        window = Window(last=size, before=mark) if backwards else Window(first=size, after=mark)
        page = select(rows, lambda key: key, direction, window)
        seen = [*page.rows, *seen] if backwards else [*seen, *page.rows]
        more, behind = (page.has_previous, page.has_next) if backwards else (page.has_next, page.has_previous)
        assert behind == (mark is not None)
        if not more:
            break
        mark = page.keys[0] if backwards else page.keys[-1]
    assert seen == ordered(rows, direction)
