"""Shows a turn on a terminal, or as one JSON event a line.

Whatever comes from the agent is shown, never obeyed: control and bidirectional characters are escaped, so that a file
or a command's output cannot move the cursor, recolour the screen or reorder what is read.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO

from acp.updates import (
    BlockContent,
    ContextUsage,
    Diff,
    MessageChunk,
    Plan,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    Unset,
    Update,
)

SCHEMA_VERSION = 1
LONGEST_OUTPUT = 40  # lines of a tool's output that are shown

DIM, BOLD, RED, GREEN, CYAN, RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"


EVENTS = {
    "MessageChunk": "message",
    "ToolCall": "tool_call",
    "ToolCallUpdate": "tool_call_update",
    "Plan": "plan",
    "ContextUsage": "usage",
}
"""What an update is called in the JSON events."""


class View(Protocol):
    """Shows what happens in a turn."""

    def update(self, update: Update) -> None: ...

    def result(self, stop_reason: str, meta: Mapping[str, Any]) -> None: ...

    def error(self, message: str) -> None: ...


def visible(text: str) -> str:
    """`text` with every character that acts on a terminal, or reorders a line, written as an escape."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp") else f"\\u{ord(char):04x}"
        for char in text.replace("\r\n", "\n")
    )


def diff_lines(diff: Diff) -> list[str]:
    """A unified diff without its first two lines."""
    before = (diff.old_text or "").splitlines()
    return list(difflib.unified_diff(before, diff.new_text.splitlines(), n=2, lineterm=""))[2:]


class JsonView:
    """One event a line on `out`; the last is the result, or the error."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def event(self, type: str, **values: Any) -> None:
        line = json.dumps({"schema_version": SCHEMA_VERSION, "type": type, **values}, ensure_ascii=True, default=repr)
        self._out.write(line + "\n")
        self._out.flush()

    def update(self, update: Update) -> None:
        self.event(EVENTS.get(type(update).__name__, "other"), update=plain(update))

    def result(self, stop_reason: str, meta: Mapping[str, Any]) -> None:
        self.event("result", stop_reason=stop_reason, meta=dict(meta))

    def error(self, message: str) -> None:
        self.event("error", message=message)


def plain(value: Any) -> Any:
    """A frozen value as JSON, without what is unset."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: plain(inner) for name, inner in pairs if not isinstance(inner, Unset)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    return value


class TerminalView:
    """Plain text with a little colour, where the terminal takes it (NO_COLOR and TERM=dumb do not)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = terminal and not os.environ.get("NO_COLOR")
        self._role: str | None = None
        self._calls: dict[str, str] = {}
        self._usage: ContextUsage | None = None

    def write(self, text: str, *styles: str) -> None:
        shown = visible(text)
        self._out.write("".join(styles) + shown + RESET if self._colour and styles else shown)
        self._out.flush()

    def line(self, text: str, *styles: str) -> None:
        self._break()
        self.write(text, *styles)
        self._out.write("\n")

    def _break(self) -> None:
        if self._role is not None:
            self._out.write("\n")
            self._role = None

    def update(self, update: Update) -> None:
        match update:
            case MessageChunk(role, TextBlock(text)):
                if role != self._role:
                    self._break()
                    self._role = role
                self.write(text, *([DIM] if role == "thought" else []))
            case ToolCall(id, title):
                self._calls[id] = title
                self.line(f"* {title}", BOLD, CYAN)
                self.content(update.content, before=True)
            case ToolCallUpdate(status="completed" | "failed" as status):
                if isinstance(update.content, tuple):
                    self.content(update.content, before=False)
                if status == "failed":
                    self.line(f"  failed: {self._calls.get(update.id, update.id)}", RED)
            case Plan(entries):
                for entry in entries:
                    mark = {"completed": "x", "in_progress": "~"}.get(entry.status, " ")
                    self.line(f"  [{mark}] {entry.content}", DIM)
            case ContextUsage():
                self._usage = update
            case _:
                pass

    def content(self, content: Sequence[ToolContent], *, before: bool) -> None:
        """What a call is about to do (`before`), or what it did; diffs are shown once, before."""
        for item in content:
            if isinstance(item, Diff) and before:
                for row in diff_lines(item):
                    colour = {"+": GREEN, "-": RED}.get(row[:1])
                    self.line("  " + row, *([colour] if colour else [DIM]))
            elif isinstance(item, BlockContent) and isinstance(item.block, TextBlock) and not before:
                rows = [row for row in item.block.text.splitlines() if not row.startswith("```")]
                for row in rows[:LONGEST_OUTPUT]:
                    self.line("  " + row, DIM)
                if len(rows) > LONGEST_OUTPUT:
                    self.line(f"  … {len(rows) - LONGEST_OUTPUT} more lines", DIM)

    def result(self, stop_reason: str, meta: Mapping[str, Any]) -> None:
        cost: Mapping[str, Any] = meta.get("acp-laguna/turn") or {}
        tokens, seconds = cost.get("outputTokens"), cost.get("modelSeconds")
        words = [stop_reason]
        if tokens is not None:
            words.append(f"{cost.get('inputTokens', 0)} tokens in, {tokens} out")
            if seconds:
                words.append(f"{tokens / seconds:.0f} tokens/s")
        self.line(f"-- {', '.join(words)}", DIM)

    def error(self, message: str) -> None:
        self._break()
        print(f"acp exec: {visible(message)}", file=sys.stderr)
