"""A change of one file as git shows it, with absolute and unprefixed paths (v2 tool calls, diff content)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..updates import Diff

LONGEST = 20_000
"""Lines of a file, old and new, that are compared; of more the patch replaces all, for comparing costs too much."""
NOWHERE = "/dev/null"


def git_patch(diff: Diff) -> str:
    """The patch of a diff; empty if nothing changes."""
    old, new = (diff.old_text or "").splitlines(keepends=True), diff.new_text.splitlines(keepends=True)
    if old == new and diff.old_text is not None:
        return ""
    head = [f"diff --git {diff.path} {diff.path}\n"]
    if diff.old_text is None:
        head.append("new file mode 100644\n")
    before = NOWHERE if diff.old_text is None else diff.path
    return "".join([*head, *_hunks(old, new, before, diff.path)])


def _hunks(old: list[str], new: list[str], before: str, after: str) -> Iterable[str]:
    if len(old) + len(new) <= LONGEST:
        lines = difflib.unified_diff(old, new, before, after)
    else:
        head = (f"--- {before}\n", f"+++ {after}\n", f"@@ -1,{len(old)} +1,{len(new)} @@\n")
        lines = [*head, *("-" + line for line in old), *("+" + line for line in new)]
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
