"""The conversation as it stands, drawn from the session's snapshot: twenty times a second, what has changed."""

from __future__ import annotations

from typing import TypeVar

from textual.containers import VerticalScroll
from textual.widget import Widget

from acp.updates import Notice, TerminalRef

from ..session import Session
from ..snapshot import Change, Kind, Snapshot
from .entries import (
    AnswerEntry,
    CallEntry,
    LineEntry,
    NoticeEntry,
    PlanEntry,
    SummaryEntry,
    ThoughtEntry,
    UserEntry,
)

INTERVAL = 1 / 20
"""Seconds between two drawings."""
MOST_ENTRIES = 300
"""Entries that are on the screen or above it; older ones are in the agent's history only."""

Key = tuple[Kind, str]
Entry = TypeVar("Entry", bound=Widget)


class Transcript(VerticalScroll):
    """Follows one session."""

    def __init__(self) -> None:
        super().__init__(id="transcript")
        self._session: Session | None = None
        self._entries: dict[Key, Widget] = {}
        self._changed: dict[Key, None] = {}
        self._notices: tuple[Notice, ...] = ()

    def on_mount(self) -> None:
        self.anchor()
        self.set_interval(INTERVAL, self._draw)

    async def follow(self, session: Session) -> None:
        """Show this session from now on, with all that was said in it, and no other."""
        if self._session is not None:
            self._session.on_change = None
        await self.remove_children()
        self._entries.clear()
        self._session, session.on_change = session, self._note
        self._changed = dict.fromkeys(session.snapshot.order)
        self._notices = ()
        self._changed["notice", ""] = None

    async def say(self, words: str, *, error: bool = False) -> None:
        """A line of our own, behind all that there is."""
        await self._draw()
        await self.mount(LineEntry(words, error=error))

    def _note(self, change: Change) -> None:
        self._changed[change.kind, change.id] = None

    async def _draw(self) -> None:
        if self._session is None or not self._changed:
            return
        changed, self._changed = self._changed, {}
        snapshot = self._session.snapshot
        for kind, id in changed:
            if kind == "terminal":
                for call in snapshot.calls.values():
                    if any(isinstance(item, TerminalRef) and item.terminal_id == id for item in call.content):
                        await self._show("call", call.id, snapshot)
            elif kind == "notice":
                await self._show_notices(snapshot)
            else:
                await self._show(kind, id, snapshot)
        for key in [key for key in self._entries if key not in snapshot.order]:
            await self._entries.pop(key).remove()
        surplus = len(self.children) - MOST_ENTRIES
        if surplus > 0:
            oldest = set(self.children[:surplus])
            self._entries = {key: entry for key, entry in self._entries.items() if entry not in oldest}
            await self.remove_children(list(oldest))

    async def _show(self, kind: Kind, id: str, snapshot: Snapshot) -> None:
        match kind:
            case "message" if (message := snapshot.messages.get(id)) is not None:
                match message.role:
                    case "user":
                        (await self._entry(kind, id, UserEntry)).show(message)
                    case "agent":
                        await (await self._entry(kind, id, AnswerEntry)).show(message)
                    case "thought":
                        (await self._entry(kind, id, ThoughtEntry)).show(message)
            case "call" if (call := snapshot.calls.get(id)) is not None:
                (await self._entry(kind, id, CallEntry)).show(call, snapshot.terminals)
            case "plan" if (plan := snapshot.plans.get(id)) is not None:
                (await self._entry(kind, id, PlanEntry)).show(plan)
            case "compaction" if (summary := snapshot.compactions.get(id)) is not None:
                (await self._entry(kind, id, SummaryEntry)).show(summary)
            case _:
                pass

    async def _show_notices(self, snapshot: Snapshot) -> None:
        for notice in snapshot.notices:
            if all(notice is not shown for shown in self._notices):
                entry = NoticeEntry()
                await self.mount(entry)
                entry.show(notice)
        self._notices = snapshot.notices

    async def _entry(self, kind: Kind, id: str, make: type[Entry]) -> Entry:
        entry = self._entries.get((kind, id))
        if not isinstance(entry, make):
            entry = self._entries[kind, id] = make()
            await self.mount(entry)
        return entry
