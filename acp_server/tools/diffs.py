"""A change of one file, as hunks for the model and as a diff for the client."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from acp.updates import Diff

from ..workspace.jail import Place

LARGEST_SHOWN = 200_000
"""Characters of a file that are sent to the client whole; of a larger one only the part that changes."""

_MOST_COMPARED = 4000
_CONTEXT = 3


def hunks(old: str, new: str) -> list[str]:
    """The unified hunks, three lines of context, without the two lines that name the file."""
    a, b = old.splitlines(), new.splitlines()
    start, a_middle, b_middle = _middle(a, b)
    if len(a_middle) + len(b_middle) > _MOST_COMPARED:
        removed, added = [f"-{line}" for line in a_middle], [f"+{line}" for line in b_middle]
        head = f"@@ -{start + 1},{len(a_middle)} +{start + 1},{len(b_middle)} @@"
        return [head, *removed, *added]
    if len(a) + len(b) <= _MOST_COMPARED:
        return list(difflib.unified_diff(a, b, lineterm="", n=_CONTEXT))[2:]
    # The same text for the lines that differ; only the numbers have to be those of the whole file.
    return list(difflib.unified_diff([""] * start + a_middle, [""] * start + b_middle, lineterm="", n=_CONTEXT))[2:]


def shown_diff(place: Place, old: str | None, new: str) -> Diff:
    """What the client is shown: both whole texts, or for a large file just the lines around the change."""
    if len(old or "") + len(new) <= LARGEST_SHOWN or old is None:
        return Diff(place.absolute, new[:LARGEST_SHOWN], old)
    _, a, b = _middle(old.splitlines(keepends=True), new.splitlines(keepends=True))
    return Diff(place.absolute, "".join(b)[:LARGEST_SHOWN], "".join(a)[:LARGEST_SHOWN])


def changed_line(old: str, new: str) -> int:
    """The first line that differs, from 1."""
    start, a, b = _middle(old.splitlines(), new.splitlines())
    same = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return start + same + 1


def _middle(a: Sequence[str], b: Sequence[str]) -> tuple[int, list[str], list[str]]:
    """How many lines both begin with, and the rest of each without what both end with, plus context."""
    shortest = min(len(a), len(b))
    head = next((n for n in range(shortest) if a[n] != b[n]), shortest)
    tail = next((n for n in range(shortest - head) if a[-1 - n] != b[-1 - n]), shortest - head)
    start = max(0, head - _CONTEXT)
    after = max(0, tail - _CONTEXT)
    return start, list(a[start : len(a) - after]), list(b[start : len(b) - after])
