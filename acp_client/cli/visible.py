"""Text from elsewhere, made safe to show.

What an agent, a model, a file or a command wrote is shown, never obeyed: it must not move the cursor, recolour the
screen, reorder what is read or hide a part of it.
"""

from __future__ import annotations

import re

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls but tab and line feed, what shows nothing or reorders, halves of characters, invisible tags."""


def visible(text: str) -> str:
    """`text` with every character that acts or hides written as an escape; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _ACTING.sub(_escape, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """`text` as one line."""
    return visible(text).replace("\n", "\\n").replace("\t", " ")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
