"""A session's updates as one client of version 1 takes them: some kinds are for those only that have asked for them."""

from __future__ import annotations

from collections.abc import Sequence

from acp.updates import (
    MAIN_PLAN,
    UNSET,
    BlockContent,
    Compaction,
    CompactionChunk,
    MessageChunk,
    Notice,
    Plan,
    PlanFile,
    PlanRemoved,
    PlanText,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    TurnEnded,
    TurnStarted,
    Update,
)
from acp.v1 import schema
from acp.v1.terminals import CAPABILITY

from .terminals.as_v1 import TerminalsAsV1

COMPACTING = "Summarise the conversation"


class ShownV1:
    """One session's. `plans`: whether several plans are open (unstable)."""

    def __init__(self, client: schema.ClientCapabilities, *, plans: bool) -> None:
        wanted = client.session
        self._notices = bool(wanted and wanted.notices)
        self._compactions = bool(wanted and wanted.compaction)
        self._plans = plans and client.plan is not None
        self._terminals = TerminalsAsV1(in_meta=(client.meta or {}).get(CAPABILITY) is True)
        self._compacting: set[str] = set()
        self._in_turn = False

    def said(self, update: Update) -> Sequence[Update]:
        """What is said in the place of an update."""
        if type(update) is MessageChunk:
            return (update,)
        return [shown for said in self._terminals.said(update) for shown in self._taken(said)]

    def asked(self, call: ToolCall) -> ToolCall:
        """What is shown of a call where the client is asked about it."""
        return self._terminals.asked(call)

    def _taken(self, update: Update) -> Sequence[Update]:
        match update:
            case TurnStarted() | TurnEnded():
                self._in_turn = isinstance(update, TurnStarted)
                taken = True
            case Notice("warning" | "error") if self._in_turn and not self._notices:
                return (_as_thought(update),)
            case Notice():
                taken = self._notices
            case Compaction() if not self._compactions:
                return (self._as_call(update),)
            case CompactionChunk():
                taken = self._compactions
            case PlanFile() | PlanText() | PlanRemoved():
                taken = self._plans
            case Plan(id=id):
                taken = self._plans or id == MAIN_PLAN
            case _:
                taken = True
        return (update,) if taken else ()

    def _as_call(self, update: Compaction) -> ToolCall | ToolCallUpdate:
        """A compaction takes its time, and a client that knows none shows a call."""
        shown = (TextBlock(update.error),) if isinstance(update.error, str) else update.summary
        content: tuple[ToolContent, ...] = tuple(map(BlockContent, shown)) if isinstance(shown, tuple) else ()
        known = update.id in self._compacting
        status = update.status if update.status in ("in_progress", "completed", "cancelled") else "failed"
        if status == "in_progress":
            self._compacting.add(update.id)
        else:
            self._compacting.discard(update.id)
        if known:
            return ToolCallUpdate(update.id, status=status, content=content or UNSET)
        return ToolCall(update.id, COMPACTING, "think", status, content)


def _as_thought(notice: Notice) -> MessageChunk:
    """A warning about a turn, to a client that takes no notices: it shows thoughts, and forgets them."""
    return MessageChunk("thought", TextBlock(f"{notice.title}: {notice.description or ''}".rstrip(": ") + "\n\n"))
