"""The line below the conversation: which agent, in which mode, how full its context is, and what it does."""

from __future__ import annotations

import time

from rich.text import Text
from textual.widgets import Static

from acp.updates import ConfigOption

from ..cli.visible import visible_line
from ..snapshot import Snapshot

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHOWN_OPTIONS = ("model", "mode", "thought_level")
"""Categories of options whose values are shown."""


class Status(Static):
    """`agent` is its name; `words` stand in the place of what it does, while they are set."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self.agent = ""
        self.words = "starting the agent …"
        self._began: float | None = None
        self._line = ""

    def show(self, snapshot: Snapshot, waiting: int, *, asks: bool) -> None:
        """Draw it anew; `waiting` prompts are to follow. `asks`: the user is being asked something."""
        running = snapshot.state != "idle"
        now = time.monotonic()
        self._began = (self._began or now) if running else None
        parts = [self.agent, *_options(snapshot), _usage(snapshot)]
        if self.words:
            parts.append(self.words)
        elif self._began is not None:
            spin = SPINNER[int(now * 10) % len(SPINNER)]
            what = "waits for you" if asks or snapshot.state == "requires_action" else "works"
            parts.append(f"{spin} {what}, {now - self._began:.0f} s, Escape stops it")
        if waiting:
            parts.append(f"{waiting} to follow")
        line = visible_line(" · ".join(filter(None, parts)))
        if line != self._line:  # to draw it costs more than all else that an idle chat does
            self._line = line
            self.update(Text(line))


def _options(snapshot: Snapshot) -> list[str]:
    shown: list[str] = []
    for option in snapshot.options:
        if isinstance(option, ConfigOption) and option.category in SHOWN_OPTIONS and isinstance(option.value, str):
            name = next((choice.name for choice in option.choices if choice.value == option.value), option.value)
            shown.append(name)
    return shown or ([snapshot.mode] if snapshot.mode else [])


def _usage(snapshot: Snapshot) -> str:
    usage = snapshot.usage
    if usage is None or usage.size <= 0:
        return ""
    return f"{usage.used / usage.size:.0%} of {_short(usage.size)} tokens"


def _short(number: int) -> str:
    return f"{number / 1000:.0f}k" if number >= 10_000 else str(number)
