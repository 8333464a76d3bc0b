"""Text made fit to be shown: titles, fences, and the cutting of what is too long.

File names, commands and model arguments come from anywhere. In a title an escape sequence or a bidi mark
could make one command look like another, so everything invisible is spelled out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from acp.updates import BlockContent, TextBlock

LONGEST_TITLE = 256

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, keep: str = "") -> str:
    """`text` with every control, bidi, zero-width and surrogate character escaped, but those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in keep or unicodedata.category(c) not in _HIDDEN else c.encode("unicode_escape").decode() for c in text
    )


def title(text: str) -> str:
    """One line of at most `LONGEST_TITLE` characters."""
    line = visible(text[: 2 * LONGEST_TITLE])
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def fenced(text: str, language: str = "") -> tuple[BlockContent, ...]:
    """`text` as a Markdown code block that nothing inside can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return (BlockContent(TextBlock(f"{fence}{language}\n{text}\n{fence}")),)


def bounded(text: str, limit: int) -> str:
    """`text` in at most about `limit` characters, by leaving out its middle and saying so."""
    if len(text) <= limit:
        return text
    keep = max(0, limit - 50)
    head, tail = keep - keep // 2, keep // 2
    return joined(text[:head], len(text) - head - tail, text[len(text) - tail :])


def joined(head: str, left_out: int, tail: str) -> str:
    """Two ends of a text whose middle was left out."""
    return f"{head}\n[… {left_out} characters left out …]\n{tail}"


def fitting(lines: Sequence[str], limit: int) -> int:
    """How many of `lines`, joined by line ends, stay within `limit` characters; at least one."""
    size = 0
    for n, line in enumerate(lines):
        size += len(line) + 1
        if size > limit + 1:
            return max(1, n)
    return len(lines)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
