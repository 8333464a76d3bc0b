"""Puts a permission request to the user at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

import anyio

from acp.updates import UNSET

from ..host.host import Option, PermissionRequest
from .console import Console
from .keyboard import forget_typed, read_line
from .visible import visible_line

_KEYS = {"allow_once": "y", "allow_always": "a", "reject_once": "n", "reject_always": "r"}


class Quit(Exception):
    """The user wants neither answer but the end of the turn."""


class TerminalAsk:
    """Shows the whole command or diff, then the options, and reads a line. One request at a time.

    The call is shown on `console` when that is a terminal, so that nothing is shown twice; otherwise on stderr,
    where the options always are. What was typed before the request was shown is no answer to it.
    """

    def __init__(
        self, console: Console | None = None, *, err: TextIO | None = None, one_at_a_time: anyio.Lock | None = None
    ) -> None:
        self._err = Console(err or sys.stderr)
        self._console = console if console is not None and console.isatty() else self._err
        self._one_at_a_time = one_at_a_time or anyio.Lock()

    async def __call__(self, request: PermissionRequest) -> str | None:
        """The id of the option chosen. Raises Quit."""
        async with self._one_at_a_time:
            self._show(request)
            keys = keys_of(request.options)
            for key, option in keys.items():
                self._err.line(f"  {key}  {visible_line(option.name)}")
            self._err.line("  q  stop the turn")
            answered = False
            try:
                while True:
                    forget_typed()
                    self._err.prompt("> ")
                    line = await read_line()
                    word = (line or "q").strip()
                    if word in keys:
                        answered = True
                        return keys[word].id
                    if word == "q":
                        answered = True
                        raise Quit
            finally:
                if not answered:
                    self._err.line("")

    def _show(self, request: PermissionRequest) -> None:
        call = request.call
        self._console.show(call)
        if not call.content and call.raw_input is not UNSET and call.raw_input is not None:
            self._console.line(f"  {visible_line(repr(call.raw_input))}")
        self._console.flush()
        self._err.line(f"? May the agent do this in {visible_line(request.cwd)}? ({visible_line(call.kind)})")


def keys_of(options: Sequence[Option]) -> dict[str, Option]:
    """The key of each option: a letter for the first of its kind, a number for the rest."""
    keys: dict[str, Option] = {}
    for number, option in enumerate(options, 1):
        key = _KEYS.get(option.kind, "")
        keys[key if key and key not in keys else str(number)] = option
    return keys
