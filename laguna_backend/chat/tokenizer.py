"""Text and token ids: the tokenizer of a Laguna checkpoint, by the `tokenizers` package.

Byte-level BPE in the released layout: ids 0-69 are added tokens, 70-325 the bytes in GPT-2's order, merges after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

BOS, EOS, UNK, SEP, PAD, MASK = 2, 2, 0, 8, 9, 12
THINK, THINK_END, ASSISTANT, ASSISTANT_END, TOOL_CALL, TOOL_CALL_END = 18, 19, 23, 24, 25, 26
RESERVED = 70

NAMED = {
    UNK: "〈|UNK|〉",
    BOS: "〈|EOS|〉",
    SEP: "〈|SEP|〉",
    PAD: "〈|PAD|〉",
    MASK: "〈|MASK|〉",
    THINK: "<think>",
    THINK_END: "</think>",
    ASSISTANT: "<assistant>",
    ASSISTANT_END: "</assistant>",
    TOOL_CALL: "<tool_call>",
    TOOL_CALL_END: "</tool_call>",
}

NEWLINES = r"(?:\r?\n)+(?!\r?\n)"
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_symbols() -> list[str]:
    """The printable stand-in of each byte, in the order of the released vocabulary (GPT-2's)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]


def build_tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
    """A tokenizer built like the released one, with these merges of byte symbols."""
    names = [NAMED.get(index, f"〈|RESERVED_{index}|〉") for index in range(RESERVED)]
    vocabulary = {name: index for index, name in enumerate(names)}
    for token in [*byte_symbols(), *(left + right for left, right in merges)]:
        vocabulary.setdefault(token, len(vocabulary))
    control = {index: not 18 <= index <= 26 for index in range(RESERVED)}
    return assembled(vocabulary, merges, control)


def assembled(vocabulary: dict[str, int], merges: list[tuple[str, str]], added: dict[int, bool]) -> Tokenizer:
    """A tokenizer of the released structure; `added` are the ids of added tokens and whether each is special."""
    names = {index: token for token, index in vocabulary.items()}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(NEWLINES), "merged_with_next"),
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [AddedToken(names[index], special=special, normalized=False) for index, special in sorted(added.items())]
    )
    return tokenizer


CONTROL, USER_DEFINED = 3, 4
"""Kinds of added tokens in a GGUF file (ggml's token types)."""


def gguf_tokenizer(fields: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a GGUF file by its fields `tokenizer.ggml.*`. Raises ValueError: none, or not a Laguna's.

    llama.cpp marks `</assistant>` as control; the tags 18 to 26 are no special tokens here, as in the released files.
    """
    if fields.get("tokenizer.ggml.model") != "gpt2" or fields.get("tokenizer.ggml.pre") != "laguna":
        raise ValueError("the GGUF file holds no Laguna tokenizer; put tokenizer.json beside it")
    tokens, kinds = fields.get("tokenizer.ggml.tokens", []), fields.get("tokenizer.ggml.token_type", [])
    pairs = [tuple(merge.split(" ", 1)) for merge in fields.get("tokenizer.ggml.merges", [])]
    if len(kinds) != len(tokens) or len(set(tokens)) != len(tokens) or any(len(pair) != 2 for pair in pairs):
        raise ValueError("the GGUF file's tokenizer is broken; put tokenizer.json beside it")
    added = {
        index: kind == CONTROL and not THINK <= index <= TOOL_CALL_END
        for index, kind in enumerate(kinds)
        if kind in (CONTROL, USER_DEFINED)
    }
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        return assembled(vocabulary, pairs, added)
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"the GGUF file's tokenizer is broken: {error}") from error


class TokenBytes:
    """The bytes of each token id: of an added token its spelling, of any other the bytes its symbols stand for.

    Calling it gives what a token adds to a text, which is nothing for a special token. The tags 18 to 26 are not
    special: the released tokenizer says so, and only a parser that knows their ids may hide them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        order = printable + [byte for byte in range(256) if byte not in printable]
        byte_of = dict(zip(byte_symbols(), order, strict=True))
        added = tokenizer.get_added_tokens_decoder()
        self.special = {index for index, token in added.items() if token.special}
        self.table: dict[int, bytes] = {}
        for token, index in tokenizer.get_vocab(with_added_tokens=True).items():
            known = index not in added and all(symbol in byte_of for symbol in token)
            self.table[index] = bytes(byte_of[symbol] for symbol in token) if known else token.encode()

    def __call__(self, token: int) -> bytes:
        return b"" if token in self.special else self.table.get(token, b"")

    def spelling(self, tokens: Iterable[int]) -> bytes:
        """What was encoded: every token's bytes, the special ones' too."""
        return b"".join(self.table.get(token, b"") for token in tokens)


def load_tokenizer(path: Path) -> Tokenizer:
    """A checkpoint's `tokenizer.json`. Raises ValueError when it is missing or broken."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"cannot read {path}: {error}") from error
