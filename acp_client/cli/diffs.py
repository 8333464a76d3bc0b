"""A change of a file as a unified diff, in time that stays small for files of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from acp.updates import Diff

CONTEXT = 3
SMALL = 2_000
"""Lines of a change that are compared one by one; a larger one is shown as all of the old, then all of the new."""

Opcode = tuple[str, int, int, int, int]


def unified(diff: Diff) -> Iterator[str]:
    """The rows of the diff, headers of hunks included, line ends left out. None where nothing changed."""
    old, new = _lines(diff.old_text or ""), _lines(diff.new_text)
    start, end = _common(old, new)
    first = max(0, start - CONTEXT)
    old_part, new_part = old[first : len(old) - max(0, end - CONTEXT)], new[first : len(new) - max(0, end - CONTEXT)]
    for group in _groups(old_part, new_part):
        yield _header(group, first)
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from _rows(" ", old_part[i1:i2])
            else:
                yield from _rows("-", old_part[i1:i2])
                yield from _rows("+", new_part[j1:j2])


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    ends = [line + "\n" for line in lines[:-1]]
    return ends + ([lines[-1]] if lines[-1] else [])


def _common(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines are the same at the start, and at the end."""
    shorter = min(len(old), len(new))
    start = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    rest = shorter - start
    end = next((n for n in range(rest) if old[-1 - n] != new[-1 - n]), rest)
    return start, end


def _groups(old: Sequence[str], new: Sequence[str]) -> Iterator[list[Opcode]]:
    if list(old) == list(new):
        return
    if len(old) + len(new) <= SMALL:
        yield from SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT)
        return
    start, end = _common(old, new)
    a, b = len(old) - end, len(new) - end
    whole: list[Opcode] = [
        ("equal", 0, start, 0, start),
        ("replace", start, a, start, b),
        ("equal", a, len(old), b, len(new)),
    ]
    yield whole


def _header(group: Sequence[Opcode], first: int) -> str:
    old = _range(group[0][1] + first, group[-1][2] + first)
    new = _range(group[0][3] + first, group[-1][4] + first)
    return f"@@ -{old} +{new} @@"


def _range(start: int, stop: int) -> str:
    """Lines count from 1, but an empty range names the line before it."""
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _rows(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"
