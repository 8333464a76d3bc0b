"""Nothing that is shown may act on the terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from acp_client.cli.visible import visible, visible_line


@given(st.text(st.characters(codec=None)))
def test_no_character_acts_hides_or_reorders(text: str) -> None:
    shown = visible(text)
    shown.encode()
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert "\n" not in visible_line(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=40))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert visible(text) == text


def test_line_ends_of_either_kind_end_lines() -> None:
    assert visible("a\r\nb\nc\rd") == "a\nb\nc\\rd"
