"""The agent's terminals as version 1 shows them: as text in their calls, or, to a client that takes it, in `_meta`."""

from __future__ import annotations

import base64
import codecs
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from acp.states import ENDED
from acp.updates import (
    UNSET,
    ExitStatus,
    Notice,
    Terminal,
    TerminalChunk,
    TerminalRef,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    Update,
)
from acp.v1 import terminals as words

from ..wording import fenced, title
from .screen import Screen

MOST = 64
"""Terminals that are remembered, the last ones."""
LONGEST = 32_768
"""Characters of a terminal's text."""


@dataclass(slots=True)
class _Shown:
    """A terminal, and how the call stands that shows it. `decoder` has half a character, perhaps."""

    screen: Screen
    call: Literal["not announced", "open", "over"] = "not announced"
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


class TerminalsAsV1:
    """One session's. `in_meta`: the client takes terminals in `_meta`."""

    def __init__(self, *, in_meta: bool) -> None:
        self._in_meta = in_meta
        self._shown: OrderedDict[str, _Shown] = OrderedDict()

    def said(self, update: Update) -> Sequence[Update]:
        """What is said in the place of an update."""
        match update:
            case Terminal(id) | TerminalChunk(id):
                return self._terminal(id, update)
            case ToolCall() | ToolCallUpdate():
                return self._call(update)
            case _:
                return (update,)

    def _terminal(self, id: str, update: Terminal | TerminalChunk) -> Sequence[Update]:
        shown = self._shown.get(id)
        if shown is None:
            shown = self._shown[id] = _Shown(Screen(id))
            if len(self._shown) > MOST:
                self._shown.popitem(last=False)
        ran = not shown.screen.ended
        shown.screen.take(update)
        if shown.call == "over":
            # It runs in the background, and its call is no longer there to tell of it.
            return (_farewell(shown.screen.about),) if ran and shown.screen.ended else ()
        if shown.call == "not announced":
            return ()  # the call that shows it says it all
        if not self._in_meta:
            return (ToolCallUpdate(id, content=self._text(shown)),) if isinstance(update, TerminalChunk) else ()
        match update:
            case TerminalChunk(_, data):
                text = shown.decoder.decode(base64.b64decode(data))
                return (ToolCallUpdate(id, meta=words.output(id, text)),) if text else ()
            case Terminal(exit=ExitStatus() as status):
                return (ToolCallUpdate(id, meta=words.exit(id, status)),)
            case _:
                return ()

    def _call(self, update: ToolCall | ToolCallUpdate) -> Sequence[Update]:
        shown = self._shown.get(update.id)  # a terminal has the id of its call
        if shown is not None:
            shown.call = "over" if update.status in ENDED else "open"
        if self._in_meta:
            first = update if isinstance(update, ToolCall) else None
            return (update,) if first is None or shown is None else self._announced(first, shown.screen)
        if isinstance(update, ToolCall):
            return (self.asked(update),)
        if not isinstance(update.content, tuple):
            return (update,)
        return (replace(update, content=self._in_text(update.content) or UNSET),)  # nothing printed: the command stays

    def asked(self, call: ToolCall) -> ToolCall:
        """A call as a question about it shows it: with no terminal that the client does not know."""
        return call if self._in_meta else replace(call, content=self._in_text(call.content))

    def _in_text(self, content: Sequence[ToolContent]) -> tuple[ToolContent, ...]:
        return tuple(
            part
            for item in content
            for part in (self._printed(item.terminal_id) if isinstance(item, TerminalRef) else (item,))
        )

    def _printed(self, id: str) -> tuple[ToolContent, ...]:
        return self._text(self._shown[id]) if id in self._shown else ()

    def _announced(self, call: ToolCall, screen: Screen) -> Sequence[Update]:
        """The announcement of a call that shows a terminal; of one that is over, in two parts."""
        meta = {**(call.meta or {}), **words.info(screen.about)}
        if call.status not in ENDED:
            return (replace(call, meta=meta),)
        about = words.output(screen.about.id, screen.text(LONGEST) + "\n")
        if isinstance(screen.about.exit, ExitStatus):
            about |= words.exit(screen.about.id, screen.about.exit)
        return (
            replace(call, status="in_progress", meta=meta),
            ToolCallUpdate(call.id, status=call.status, meta=about),
        )

    def _text(self, shown: _Shown) -> tuple[ToolContent, ...]:
        text = shown.screen.text(LONGEST)
        return fenced(text, "console") if text else ()


def _farewell(ended: Terminal) -> Notice:
    """What is said when a command that ran in the background has ended."""
    how = ended.exit if isinstance(ended.exit, ExitStatus) else ExitStatus()
    said = f"exit code {how.code}" if how.code is not None else how.signal or "it was stopped"
    return Notice("info", title(f"`{ended.command or ended.id}` in the background has ended"), said)
