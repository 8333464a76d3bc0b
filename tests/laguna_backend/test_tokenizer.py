"""The tokenizer's structure, and tokens as bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import merges, tiny_tokenizer

from laguna_backend.chat.tokenizer import TokenBytes, build_tokenizer, load_tokenizer

TOKENIZER = tiny_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def test_control_tokens_have_the_released_ids() -> None:
    tags = "〈|EOS|〉<think></think><assistant></assistant><tool_call></tool_call>"
    assert ids(tags) == [2, 18, 19, 23, 24, 25, 26]


def test_bytes_have_the_released_ids() -> None:
    bare = build_tokenizer([])
    assert [bare.encode(char, add_special_tokens=False).ids for char in "<>\n"] == [[97], [99], [268]]
    assert bare.get_vocab_size() == 326


def test_digits_stand_alone_and_line_ends_join_what_follows() -> None:
    pieces = TOKENIZER.pre_tokenizer.pre_tokenize_str("x12\r\n\n  y")  # type: ignore[union-attr]
    assert [text for text, _ in pieces] == ["x", "1", "2", "čĊĊ", "Ġ", "Ġy"]


def test_no_start_of_text_is_added() -> None:
    assert ids("") == []
    assert ids("a") == [TOKENIZER.token_to_id("a")]


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(text: str) -> None:
    assert TOKEN_BYTES.spelling(ids(text)) == text.encode()


def test_special_tokens_add_no_text_but_the_tags_do() -> None:
    assert [TOKEN_BYTES(token) for token in (0, 2, 9, 12)] == [b""] * 4
    assert [TOKEN_BYTES(token) for token in (18, 24, 26)] == [b"<think>", b"</assistant>", b"</tool_call>"]


def test_a_token_that_does_not_exist_has_no_bytes() -> None:
    assert TOKEN_BYTES(10**6) == b""


def test_a_saved_tokenizer_comes_back_the_same(tmp_path: Path) -> None:
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path / "tokenizer.json")
    text = "<user>read /path name 12\r\n\n日本</user>\n<think>"
    assert again.encode(text, add_special_tokens=False).ids == ids(text)
    assert again.get_vocab_size() == 326 + len(merges())


@pytest.mark.parametrize("content", [None, "", "{}", "[]", "not json", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_names_the_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load_tokenizer(path)
