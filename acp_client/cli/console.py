"""Shows a turn on a terminal, or to whatever stdout is: plain ANSI, and none where it does not belong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from acp.merging import merged
from acp.updates import (
    Block,
    BlockContent,
    Changes,
    Diff,
    MessageChunk,
    OtherContent,
    Plan,
    TerminalRef,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    Update,
)

from .diffs import unified
from .result import Exit, Result
from .visible import visible, visible_line

SHOWN_LINES = 200
"""Lines of one tool call's output that are shown; the rest is counted."""
KEPT_CALLS = 256
"""Calls whose state is kept; the agent may still change any of them."""

DIM, BOLD, RED, GREEN, CYAN, RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"
_ROWS: Mapping[str, str] = {"+": GREEN, "-": RED, "@": CYAN}
_MARKS: Mapping[str, str] = {"completed": "x", "in_progress": "~"}
_FENCED = re.compile(r"\A(`{3,})[^\n`]*\n(.*?)\n?\1\s*\Z", re.DOTALL)


@dataclass(slots=True)
class _Shown:
    """What of a tool call is on the screen."""

    call: ToolCall
    diffs: list[Diff] = field(default_factory=list[Diff])
    intent: str = ""
    output: str = ""
    lines: int = 0
    left_out: int = 0
    ended: bool = False


class Console:
    """A view of a run. It writes what is new and flushes; nothing that was written is ever changed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = terminal and not os.environ.get("NO_COLOR")
        self._speaker: str | None = None
        self._calls: dict[str, _Shown] = {}

    def isatty(self) -> bool:
        return self._out.isatty()

    # Writing ---------------------------------------------------------------------------------------

    def _write(self, text: str, style: str = "") -> None:
        self._out.write(f"{style}{text}{RESET}" if style and self._coloured else text)

    def line(self, text: str, style: str = "") -> None:
        """One line of its own; the text must have been made visible."""
        self._pause()
        self._write(text, style)
        self._out.write("\n")

    def prompt(self, text: str) -> None:
        """Ask for a line."""
        self._pause()
        self._write(text, BOLD)
        self._out.flush()

    def flush(self) -> None:
        self._out.flush()

    def _pause(self) -> None:
        """End the line that somebody is speaking on."""
        if self._speaker is not None:
            self._out.write("\n")
            self._speaker = None

    # Updates ---------------------------------------------------------------------------------------

    def update(self, update: Update) -> None:
        match update:
            case MessageChunk("agent" | "thought" as role, content):
                self._speak(role, _plain(content))
            case ToolCall():
                self.show(update)
            case ToolCallUpdate(id):
                known = self._calls.get(id)
                self.show(merged(known.call if known else None, update))
            case Plan(entries):
                for entry in entries:
                    self.line(f"  [{_MARKS.get(entry.status, ' ')}] {visible_line(entry.content)}", DIM)
            case _:  # what we have no words for is in the JSON events
                pass
        self.flush()

    def _speak(self, role: str, text: str) -> None:
        if role != self._speaker:
            self._pause()
            text = text.lstrip("\n")
        if text:
            self._speaker = role
            self._write(visible(text), DIM if role == "thought" else "")

    def show(self, call: ToolCall) -> None:
        """Show what is new of a tool call."""
        known = self._calls.get(call.id)
        if known is None:
            known = self._calls[call.id] = _Shown(call)
            if len(self._calls) > KEPT_CALLS:
                self._calls.pop(next(iter(self._calls)))
            self.line(f"● {visible_line(call.title or call.name or call.id)}", BOLD)
        known.call = call
        for item in call.content:
            if isinstance(item, Diff) and item not in known.diffs:
                known.diffs.append(item)
                self.rows(diff_rows(item))
        self._show_text(known, plain_text(call.content))
        if call.status in ("completed", "failed", "cancelled") and not known.ended:
            known.ended = True
            if known.left_out:
                self.line(f"  … {known.left_out} more lines", DIM)
            if call.status != "completed":
                self.line(f"  {call.status}", RED)
        self.flush()

    def rows(self, rows: Iterator[str]) -> None:
        """The rows of a diff."""
        for row in rows:
            self.line("  " + visible_line(row), _ROWS.get(row[:1], DIM))

    def _show_text(self, known: _Shown, text: str) -> None:
        """Before a call runs its text says what it will do; then it is what it did, which grows or is replaced."""
        running = known.call.status not in ("pending", "paused")
        if not running:
            if text != known.intent and text.strip() and text.strip() not in known.call.title:
                self._show_lines(known, text)
            known.intent = text
            known.lines = known.left_out = 0
            return
        if text == known.intent:
            return
        final = known.call.status != "in_progress"
        if not text.startswith(known.output):
            if not final:
                return  # its middle was cut out; the end will say what there is to say
            known.output, known.lines, known.left_out = "", 0, 0
        new = text[len(known.output) :]
        if not final:
            new = new[: new.rfind("\n") + 1]
        known.output += new
        if new:
            self._show_lines(known, new)

    def _show_lines(self, known: _Shown, text: str) -> None:
        rows = visible(text).removesuffix("\n").split("\n")
        room = max(0, SHOWN_LINES - known.lines)
        for row in rows[:room]:
            self.line("  " + row, DIM)
        known.lines += min(len(rows), room)
        known.left_out += len(rows) - min(len(rows), room)

    # The end ---------------------------------------------------------------------------------------

    def finished(self, result: Result) -> None:
        words = [result.stop_reason or result.exit.status]
        if result.usage is not None:
            words.append(f"{result.usage.input} tokens in, {result.usage.output} out")
        if result.tokens_per_second is not None:
            words.append(f"{result.tokens_per_second:g} tokens/s")
        words.append(f"{result.seconds:.1f} s")
        self.line(f"-- {visible_line(', '.join(words))}", DIM if result.exit is Exit.DONE else RED)
        self.flush()


def diff_rows(diff: Diff) -> Iterator[str]:
    """A unified diff with a row that names the file."""
    yield f"@ {diff.path}" + (" (new file)" if diff.old_text is None else "")
    yield from unified(diff)


def plain_text(content: Sequence[ToolContent]) -> str:
    """The text of a tool call's content, without the Markdown fences around it; diffs are left out."""
    texts: list[str] = []
    for item in content:
        match item:
            case BlockContent(block):
                text = _plain(block)
                fenced = _FENCED.match(text)
                texts.append(fenced[2] if fenced else text)
            case TerminalRef(id):
                texts.append(f"[terminal {id}]")
            case OtherContent(raw):
                texts.append(f"[{raw.get('type', 'unknown content')}]")
            case Changes(files, patch):
                texts.append(patch or "\n".join(f"{file.operation} {file.path}" for file in files))
            case Diff():
                pass
    return "\n".join(texts)


def _plain(block: Block) -> str:
    """A block's text, or what stands for it."""
    if isinstance(block, TextBlock):
        return block.text
    where = block.raw.get("uri")
    return f"[{block.type}{f' {where}' if isinstance(where, str) else ''}]"
