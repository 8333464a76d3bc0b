"""laguna-nano's tokenizer: the released tokenizer's structure with a few hundred merges instead of a hundred thousand.

Merges join letters only, besides `</` and double spaces. So a name is cut the same way after a space, a slash, a
bracket or a tag, and copying one is copying its tokens. The merge `</` matters for safety: a closing tag forged in a
file is encoded in two pieces, as `<` and `/`, and is told apart from a real one by that.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer

from ..chat.tokenizer import build_tokenizer
from .names import WORDS, Names
from .phrasings import PHRASINGS
from .tasks import CANNOT, HELLO, PLAN, draw, play

MERGES = 320


def learn_merges(count: int = MERGES, seed: int = 0) -> list[tuple[str, str]]:
    """The `count` most useful merges of letters, by byte-pair counting over words, phrasings and conversations."""
    words = Counter(letters(corpus(seed)))
    pieces = {word: tuple(word) for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best, _ = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        merges.append(best)
        pieces = {word: joined(parts, best) for word, parts in pieces.items()}
    return [*merges, ("<", "/"), ("Ġ", "Ġ")]


def joined(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


def letters(text: str) -> list[str]:
    """The runs of ASCII letters in `text`."""
    return "".join(char if char.isascii() and char.isalpha() else " " for char in text).split()


def corpus(seed: int) -> str:
    """Words by themselves, every phrasing, the answers, and some conversations."""
    names = Names(random.Random(seed))
    texts = [" ".join(WORDS * 12), CANNOT * 40, HELLO * 10, " ".join(PLAN.values()) * 40]
    texts += [" ".join(table.training) * 20 for table in PHRASINGS.values()]
    texts.append("arg key value path tool response user pattern content replace old new string all true cmd " * 300)
    for _ in range(400):
        task = draw(names)
        texts += [task.prompt] + [step.response for step in play(task)]
    return " ".join(texts)


def merges() -> list[tuple[str, str]]:
    """The merges in use. They were learnt once and are kept: another table would make the checkpoint unreadable."""
    rows = (Path(__file__).parent / "merges.txt").read_text(encoding="utf-8").splitlines()
    return [(left, right) for left, right in (row.split(" ") for row in rows)]


def nano_tokenizer() -> Tokenizer:
    """laguna-nano's tokenizer."""
    return build_tokenizer(merges())
