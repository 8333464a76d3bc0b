"""Where the user writes: several lines, what was written before, and words completed by Tab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Key
from textual.message import Message
from textual.widgets import Static, TextArea

from ..cli.visible import visible_line
from .completion import Completion, word_before

MOST_KEPT = 200
"""Prompts that Up goes back through."""


class Composer(Vertical):
    """`Sent` says what was written. `complete` knows what a word may become."""

    class Sent(Message):
        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    def __init__(self, complete: Callable[[str], Sequence[Completion]]) -> None:
        super().__init__(id="composer")
        self._complete = complete
        self._area = _Area()
        self._hints = Static(id="hints")
        self._kept: list[str] = []
        self._at = 0
        self._draft = ""

    def compose(self) -> ComposeResult:
        yield self._hints
        yield self._area

    def focus_text(self) -> None:
        self._area.focus()

    @property
    def text(self) -> str:
        return self._area.text

    def restore(self, text: str) -> None:
        """Put back what could not be sent, unless the user has written something else."""
        if not self._area.text:
            self._put(text)

    # Keys --------------------------------------------------------------------------------------------

    def on_text_area_changed(self) -> None:
        shown = Text()
        for number, found in enumerate(self._found()):
            what = f"  {visible_line(found.what)}" if found.what else ""
            mark, style = ("→", "bold") if number == 0 else (" ", "")
            shown.append(f"{mark} {visible_line(found.word)}{what}\n", style=style)
        shown.rstrip()
        self._hints.update(shown)
        self._hints.display = bool(shown)

    def send(self) -> None:
        text = self._area.text.strip()
        if text:
            self._kept = [*self._kept, text][-MOST_KEPT:]
            self._at, self._draft = len(self._kept), ""
            self._put("")
            self.post_message(self.Sent(text))

    def take_first(self) -> bool:
        """Complete the word before the cursor; False if there is nothing for it."""
        found = self._found()
        if not found:
            return False
        before = self._before()
        row, column = self._area.cursor_location
        start = (row, column - len(word_before(before)))
        self._area.replace(found[0].word + " ", start, (row, column))
        return True

    def go(self, step: int) -> bool:
        """To an earlier or a later prompt, from the first or last line; False elsewhere."""
        row = self._area.cursor_location[0]
        edge = 0 if step < 0 else self._area.document.line_count - 1
        to = self._at + step
        if row != edge or not 0 <= to <= len(self._kept):
            return False
        if self._at == len(self._kept):
            self._draft = self._area.text
        self._at = to
        self._put(self._draft if to == len(self._kept) else self._kept[to])
        return True

    def _put(self, text: str) -> None:
        self._area.text = text
        self._area.move_cursor(self._area.document.end)

    def _before(self) -> str:
        return self._area.get_text_range((0, 0), self._area.cursor_location)

    def _found(self) -> Sequence[Completion]:
        word = word_before(self._before())
        found = self._complete(word) if word else ()
        return () if [item.word for item in found] == [word] else found


class _Area(TextArea):
    """Enter sends, Ctrl-J begins a line, Tab completes, Up and Down at the edges go through what was sent."""

    PLAIN: ClassVar = {"enter", "tab", "up", "down", "ctrl+j"}

    def __init__(self) -> None:
        super().__init__(show_line_numbers=False, highlight_cursor_line=False, placeholder="What is to be done?")

    async def _on_key(self, event: Key) -> None:
        composer = self.parent
        assert isinstance(composer, Composer)
        match event.key:
            case "enter":
                composer.send()
                taken = True
            case "ctrl+j" | "shift+enter" | "alt+enter":
                self.insert("\n")
                taken = True
            case "tab":
                taken = composer.take_first()
            case "up":
                taken = composer.go(-1)
            case "down":
                taken = composer.go(1)
            case _:
                taken = False
        if taken:
            event.stop()
            event.prevent_default()
        else:
            await super()._on_key(event)
