"""The command line of `acp exec`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .target import TargetOptions, add_target_options, target_of

LARGEST_PROMPT = 8 * 2**20  # bytes

DESCRIPTION = """\
Give an agent one prompt and show what it does.

Exit status: 0 done; 1 error; 2 wrong usage; 3 a permission was needed and there was nobody to ask; 4 the agent
refused; 5 it ran into a limit; 124 --timeout; 130 interrupted (Ctrl-C; a second one does not wait);
143 terminated, 129 hung up, 141 stdout was closed: the turn is cancelled in each case.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, checked."""

    prompt: str
    cwd: str
    target: TargetOptions
    allow: str
    json: bool
    log_json: str | None
    timeout: float | None
    verbose: bool


def parse(argv: Sequence[str] | None = None) -> Options:
    """The options; wrong ones are said on stderr and end the process with status 2."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        prompt = _prompt(given)
        if given.timeout is not None and not (math.isfinite(given.timeout) and given.timeout > 0):
            raise ValueError("--timeout: not a positive number of seconds")
        target = target_of(given, "--allow", given.allow)
    except (OSError, ValueError) as error:
        parser.error(str(error).encode(errors="backslashreplace").decode())
    return Options(
        prompt=prompt,
        cwd=os.path.abspath(given.cwd),
        target=target,
        allow=given.allow,
        json=given.json,
        log_json=given.log_json,
        timeout=given.timeout,
        verbose=given.verbose,
    )


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp exec", description=DESCRIPTION, formatter_class=raw)
    add = parser.add_argument
    add("prompt", nargs="?", metavar="PROMPT", help="what to do; - reads it from stdin")
    add("-f", "--file", metavar="FILE", help="read the prompt from a file")
    add_target_options(parser)
    add(
        "--allow",
        choices=("ask", "edits", "all"),
        default="ask",
        help="what goes without asking: nothing that changes anything, edits in the workspace, or all (default: ask)",
    )
    add("--json", action="store_true", help="JSON events, one a line, instead of text; the last is the result")
    add("--log-json", metavar="FILE", help="write the JSON events to a file as well")
    add("--timeout", type=float, metavar="S", help="cancel the turn after S seconds")
    return parser


def _prompt(given: argparse.Namespace) -> str:
    """The prompt, wherever it comes from. Raises OSError, ValueError."""
    if (given.prompt is None) == (given.file is None):
        raise ValueError("give a prompt, or -f FILE, or - to read it from stdin")
    if given.file is not None:
        with open(given.file, "rb") as file:
            data = file.read(LARGEST_PROMPT + 1)
    elif given.prompt == "-":
        data = b"" if sys.stdin is None else sys.stdin.buffer.read(LARGEST_PROMPT + 1)  # pyright: ignore[reportUnnecessaryComparison]
    else:
        data = os.fsencode(given.prompt)
    if len(data) > LARGEST_PROMPT:
        raise ValueError(f"the prompt is longer than {LARGEST_PROMPT} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the prompt is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise ValueError("the prompt is empty")
    return text
