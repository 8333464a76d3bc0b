"""What stands in the transcript: a widget for each kind of thing in a session's snapshot.

Each has `show`, which takes the thing as it now is; it draws no more than what changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Collapsible, Markdown, Static
from textual.widgets.markdown import MarkdownStream

from acp.updates import Diff, Notice, OtherBlock, Plan, PlanFile, PlanText, TerminalRef, TextBlock, ToolCall

from ..cli.console import diff_rows, plain_text
from ..cli.visible import visible, visible_line
from ..snapshot import AnyPlan, SaidMessage, ShownTerminal, Summary

MOST_LINES = 400
"""Lines of one call that are shown; the rest is counted."""
ENDED = ("completed", "failed", "cancelled")

_MARKS = {"pending": "○", "in_progress": "◐", "paused": "◫", "completed": "●", "failed": "✗", "cancelled": "⊘"}
_PLAN = {"completed": "☒", "in_progress": "◐", "cancelled": "⊘"}
_ROWS = {"+": "green", "-": "red", "@": "cyan"}


class UserEntry(Static):
    """What the user said."""

    def show(self, message: SaidMessage) -> None:
        self.update(Text(_words(message)))


class AnswerEntry(Vertical):
    """What the agent said, as Markdown that grows."""

    def __init__(self) -> None:
        super().__init__()
        self._markdown = Markdown(open_links=False)
        self._stream: MarkdownStream | None = None
        self._text = ""

    def compose(self) -> ComposeResult:
        yield self._markdown

    async def show(self, message: SaidMessage) -> None:
        text = _words(message)
        if self._stream is not None and text.startswith(self._text):
            await self._stream.write(text[len(self._text) :])
        elif text != self._text:
            await self._stop()
            await self._markdown.update(text)
            self._stream = Markdown.get_stream(self._markdown)
        self._text = text

    async def on_unmount(self) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None


class ThoughtEntry(Collapsible):
    """What the agent thought, folded."""

    def __init__(self) -> None:
        self._body = Static()
        super().__init__(self._body, title="Thinking", collapsed=True)

    def show(self, message: SaidMessage) -> None:
        text = _words(message)
        self._body.update(Text(text))
        first = text.strip().partition("\n")[0]
        self.title = f"Thought: {first[:80]}" if first else "Thinking"


class CallEntry(Collapsible):
    """A tool call: what it is, what it would change, what it did."""

    def __init__(self) -> None:
        self._body = Static()
        self._opened = False
        super().__init__(self._body, title="", collapsed=True)

    def show(self, call: ToolCall, terminals: Mapping[str, ShownTerminal]) -> None:
        self.title = _escaped(f"{_MARKS.get(call.status, '?')} {visible_line(call.title or call.name or call.id)}")
        self.set_classes(f"call {call.status if call.status in _MARKS else ''}")
        self._body.update(call_text(call, terminals))
        worth = any(isinstance(item, Diff) for item in call.content) or call.status == "failed"
        if worth and not self._opened:  # once: what the user folds stays folded
            self._opened, self.collapsed = True, False


class PlanEntry(Static):
    """The agent's plan."""

    def show(self, plan: AnyPlan) -> None:
        text = Text("Plan\n", style="bold")
        if isinstance(plan, PlanText | PlanFile):
            text.append(visible(plan.text) if isinstance(plan, PlanText) else visible_line(plan.uri))
        for entry in plan.entries if isinstance(plan, Plan) else ():
            style = {"completed": "dim", "in_progress": "bold", "cancelled": "dim strike"}.get(entry.status, "")
            text.append(f"  {_PLAN.get(entry.status, '☐')} {visible_line(entry.content)}\n", style=style)
        text.rstrip()
        self.update(text)


class SummaryEntry(Static):
    """A compaction of the history."""

    def show(self, summary: Summary) -> None:
        words = {"in_progress": "Making room in the context …", "completed": "Made room in the context."}
        error = f": {visible_line(summary.error)}" if summary.error else ""
        self.update(Text(words.get(summary.status, f"The context was not made smaller ({summary.status}){error}.")))


class NoticeEntry(Static):
    """Something to tell that is no part of the conversation."""

    def show(self, notice: Notice) -> None:
        words = visible_line(notice.title) + (f"\n{visible(notice.description)}" if notice.description else "")
        self.update(Text(words))
        self.set_classes(f"notice {notice.severity if notice.severity in ('warning', 'error') else 'info'}")


class LineEntry(Static):
    """A line of our own."""

    def __init__(self, words: str, *, error: bool = False) -> None:
        super().__init__(Text(visible(words)), classes="line error" if error else "line")


def call_text(call: ToolCall, terminals: Mapping[str, ShownTerminal]) -> Text:
    """All that is known of a call, as it is put to the user."""
    rows = list(_call_rows(call, terminals))
    text = Text()
    for row, style in rows[:MOST_LINES]:
        text.append(visible(row) + "\n", style=style)
    if len(rows) > MOST_LINES:
        text.append(f"… {len(rows) - MOST_LINES} more lines\n", style="dim")
    if call.status in ("failed", "cancelled"):
        text.append(call.status, style="red")
    text.rstrip()
    return text


def _call_rows(call: ToolCall, terminals: Mapping[str, ShownTerminal]) -> Iterator[tuple[str, str]]:
    """Lines with their styles."""
    texts = [item for item in call.content if not isinstance(item, Diff | TerminalRef)]
    for item in call.content:
        match item:
            case Diff():
                for row in diff_rows(item):
                    yield row, _ROWS.get(row[:1], "dim")
            case TerminalRef(id) if (terminal := terminals.get(id)) is not None:
                for row in terminal.output.decode(errors="replace").splitlines():
                    yield row, "dim"
            case _:
                pass
    for row in plain_text(texts).splitlines():
        yield row, "dim"


def _words(message: SaidMessage) -> str:
    """A message's text, and names for what is no text."""
    return "".join(
        visible(block.text) if isinstance(block, TextBlock) else f"[{visible_line(_name(block))}]"
        for block in message.content
    )


def _name(block: OtherBlock) -> str:
    return " ".join(str(word) for word in (block.type, block.raw.get("name") or block.raw.get("uri")) if word)


def _escaped(text: str) -> str:
    """A title that Textual does not read as markup."""
    return text.replace("[", r"\[")
