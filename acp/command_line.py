"""Command lines of the shape `acp NAME [OPTION]... -- COMMAND [ARGUMENT]...`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def split_command(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and behind it; None is this process's own arguments."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def missing(command: Sequence[str]) -> str | None:
    """The complaint about a command that cannot be started as it is named; None if it can, or there is none."""
    if not command or shutil.which(command[0]) is not None:
        return None
    return f"there is no command {command[0]!r}"
