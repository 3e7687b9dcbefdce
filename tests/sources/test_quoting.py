"""Percent-encoding: urllib's, faster."""

from collections.abc import Callable
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sources.transport.quoting import quoting, unquoted

SAFE = ["", "/", "[]", ",:@/", "%", "é/"]
WRITERS = {safe: quoting(safe) for safe in SAFE}


@given(st.text(), st.sampled_from(SAFE))
@example("", "")
@example("100 % of 50%25", "")
@example("".join(map(chr, range(256))), ",:@/")
def test_any_text_is_written_as_urllib_writes_it_and_reads_back(text: str, safe: str) -> None:
    assert WRITERS[safe](text) == quote(text, safe=safe)
    if safe != "%":
        assert unquote(WRITERS[safe](text)) == text


def test_half_a_character_is_refused_as_urllib_refuses_it() -> None:
    with pytest.raises(UnicodeEncodeError):
        quoting()("\ud800")


PIECES = st.sampled_from(
    ["%", "%0A", "%00", "%2", "%25", "%5C", "%c3%BC", "%C3", "%FF", "\\", "\\x41", "\\u00e9", "\n", "+", "ü", "\ud800"]
)  # fmt: skip


@given(st.lists(st.text(max_size=3) | PIECES).map("".join) | st.text().map(quote))
@example("a%5Cx41\\x41%2541%%41%4")
def test_any_text_is_read_as_urllib_reads_it(text: str) -> None:
    assert outcome(unquoted, text) == outcome(lambda text: unquote_to_bytes(text).decode(), text)


def outcome(read: Callable[[str], str], text: str) -> str | type[Exception]:
    try:
        return read(text)
    except UnicodeError as error:
        return type(error)
