"""The command line of `acp chat`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..cli.target import TargetOptions, add_target_options, target_of

DESCRIPTION = """\
Talk with an agent in the terminal.

Enter sends, Ctrl-J begins a new line, Escape stops the turn. / begins a command of the agent, @ the name of a file.
"""

NEWEST = "newest"
"""Stands for the session that was changed last."""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What was asked for, checked. `resume`: the id of a session, `NEWEST`, or None for a new one."""

    cwd: str
    target: TargetOptions
    allow: str
    resume: str | None
    version: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = parse(argv)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("acp chat: needs a terminal; use `acp exec` without one", file=sys.stderr)
        return 2
    try:
        from .app import Chat
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("textual", "rich"):
            raise
        print("acp chat: install acp-laguna[chat] for it", file=sys.stderr)
        return 2
    logging.getLogger().addHandler(logging.NullHandler())  # nothing may write over the screen
    return Chat(options).run() or 0


def parse(argv: Sequence[str] | None = None) -> ChatOptions:
    """The options; wrong ones are said on stderr and end the process with status 2."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp chat", description=DESCRIPTION, formatter_class=raw)
    add = parser.add_argument
    add_target_options(parser)
    add(
        "--allow",
        choices=("ask", "edits", "all"),
        default="ask",
        help="what goes without asking: nothing that changes anything, edits in the workspace, or all (default: ask)",
    )
    add("--resume", nargs="?", const=NEWEST, metavar="ID", help="go on with a session; the newest if none is named")
    add("--protocol", type=int, choices=(1, 2), default=1, help="the highest version to speak (default: 1)")
    given = parser.parse_args(argv)
    try:
        target = target_of(given, "--allow", given.allow)
    except (OSError, ValueError) as error:
        parser.error(str(error).encode(errors="backslashreplace").decode())
    return ChatOptions(os.path.abspath(given.cwd), target, given.allow, given.resume, given.protocol)


if __name__ == "__main__":
    sys.exit(main())
