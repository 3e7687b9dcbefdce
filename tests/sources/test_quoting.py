"""Percent-encoding: urllib's, faster."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sources.transport.quoting import quoting

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
