"""Keeps a session's state as updates come, and gives it out as a `Snapshot`.

An update costs the same however long the session is; in a snapshot what did not change is shared with the one before.

The rules are those of version 2 (prompt lifecycle, tool calls): a whole message, call or terminal replaces what was
there field by field, omitted fields stay and null ones are cleared, chunks append, and each chunk of a terminal's
output is decoded by itself. In version 1, where messages may have no ids, chunks of one role in a row are one message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count, groupby
from typing import Any

from acp.merging import merged
from acp.updates import (
    UNSET,
    ActionRequired,
    Block,
    Commands,
    Compaction,
    CompactionChunk,
    ConfigOptions,
    ContextUsage,
    Message,
    MessageChunk,
    ModeChanged,
    Notice,
    Plan,
    PlanFile,
    PlanRemoved,
    PlanText,
    Role,
    SessionInfo,
    SessionMessage,
    SessionMessageChunk,
    StateUnknown,
    Subagent,
    Terminal,
    TerminalChunk,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContentChunk,
    TurnEnded,
    TurnStarted,
    Update,
    Work,
)

from .snapshot import (
    AnyPlan,
    Change,
    Kind,
    PassedMessage,
    SaidMessage,
    ShownSubagent,
    ShownTerminal,
    Snapshot,
    Summary,
)

MOST_OUTPUT = 2**20
"""Bytes of a terminal's output that are kept, the last ones."""
RUN = 256
"""Chunks of a message that are kept one by one: each costs ten times what a word does."""
MOST_NOTICES = 100
"""Notices that are kept, the last ones."""


_SHOWN = ("message", "call", "plan", "terminal", "compaction", "subagent", "session_message")
"""The kinds of which there may be many, and that have a place in what is shown."""
_OF_SUBAGENT = ("title", "description", "capabilities", "state", "cwd", "directories")
_ASKED: tuple[Role, str] = "user", ""
"""In the place of the last message: the user's words, in a replay."""
_OF_MESSAGE = ("sender", "recipient", "sender_message", "recipient_message")


class Ledger:
    """Takes a session's updates, in order. Never raises for any of them."""

    def __init__(self) -> None:
        self._messages: dict[str, _Said] = {}
        self._calls: dict[str, ToolCall] = {}
        self._terminals: dict[str, _Output] = {}
        self._summaries: dict[str, _Said] = {}
        self._statuses: dict[str, tuple[str, str | None]] = {}
        self._plans: dict[str, AnyPlan] = {}
        self._subagents: dict[str, ShownSubagent] = {}
        self._passed: dict[str, tuple[PassedMessage, _Said]] = {}
        self._order: dict[tuple[Kind, str], None] = {}
        self._stale: set[tuple[Kind, str]] = set()
        self._facts = Snapshot()
        self._last: tuple[Role, str] | None = None
        self._asked: list[str] = []
        """The user's messages."""
        self._turn = 0
        """How many of them there were before what comes now."""
        self._snapshot: Snapshot | None = None

    def begin_replay(self) -> None:
        """What is told again replaces what is there under the same id; a message without one has that of its place."""
        self._stale = set(self._order)
        self._turn = 0
        self._last = None

    def asked_again(self, chunk: MessageChunk) -> None:
        """The replay has come to what the user said, which is here already (version 1); then the answer follows."""
        following = self._asked[self._turn : self._turn + 1]
        begins = any(_begins_with(self._messages[id], chunk.content) for id in following)
        if begins or self._last != _ASKED:
            self._turn += 1
        self._last = _ASKED

    def end_replay(self, *, complete: bool) -> None:
        """What was not told again stays; but messages without ids that a `complete` replay lacks were cut otherwise."""
        nameless = {id: said.role for id, said in self._messages.items() if said.nameless}
        told = {role for id, role in nameless.items() if ("message", id) not in self._stale}
        for id, role in nameless.items() if complete else ():
            if role in told and ("message", id) in self._stale:
                del self._messages[id], self._order["message", id]
                self._snapshot = None
        self._stale.clear()
        self._turn = len(self._asked)

    def apply(self, update: Update) -> Change | None:
        """Take an update; what it changed, None if nothing."""
        change = self._apply(update)
        if change is not None:
            self._snapshot = None
            if change.kind in _SHOWN and (change.kind, change.id) not in self._order:
                self._order[change.kind, change.id] = None
                if change.kind == "message" and self._messages[change.id].role == "user":
                    self._asked.append(change.id)
                    self._turn = len(self._asked)
        if not isinstance(update, MessageChunk):
            self._last = None
        return change

    @property
    def snapshot(self) -> Snapshot:
        """The state now."""
        if self._snapshot is None:
            summaries = {
                id: Summary(id, self._statuses[id][0], said.content(), self._statuses[id][1])
                for id, said in self._summaries.items()
            }
            self._snapshot = replace(
                self._facts,
                order=tuple(self._order),
                messages={id: said.frozen(id) for id, said in self._messages.items()},
                calls=dict(self._calls),
                plans=dict(self._plans),
                terminals={id: output.frozen(id) for id, output in self._terminals.items()},
                compactions=summaries,
                subagents=dict(self._subagents),
                session_messages={
                    id: replace(message, content=said.content()) for id, (message, said) in self._passed.items()
                },
            )
        return self._snapshot

    def _apply(self, update: Update) -> Change | None:
        match update:
            case MessageChunk():
                return self._chunk(update)
            case Message(role, id, content):
                self._fresh("message", id)
                said = self._messages.setdefault(id, _Said(role))
                if content is not UNSET:
                    said.replace(content if isinstance(content, tuple) else ())
                return Change("message", id)
            case ToolCall(id):
                self._fresh("call", id)
                self._calls[id] = update
                return Change("call", id)
            case ToolCallUpdate(id):
                self._fresh("call", id)
                self._calls[id] = merged(self._calls.get(id), update)
                return Change("call", id)
            case ToolContentChunk(id, content):
                self._fresh("call", id)
                call = self._calls.get(id) or ToolCall(id, "")
                self._calls[id] = replace(call, content=(*call.content, content))
                return Change("call", id)
            case Terminal(id) | TerminalChunk(id):
                self._fresh("terminal", id)
                self._terminals.setdefault(id, _Output()).take(update)
                return Change("terminal", id)
            case Plan() | PlanFile() | PlanText():
                self._plans[update.id] = update
                return Change("plan", update.id)
            case PlanRemoved(id):
                self._order.pop(("plan", id), None)
                return None if self._plans.pop(id, None) is None else Change("session")
            case Subagent(id):
                known = self._subagents.get(id, ShownSubagent(id))
                self._subagents[id] = replace(known, **_given(update, _OF_SUBAGENT))
                return Change("subagent", id)
            case SessionMessage(id) | SessionMessageChunk(id):
                return self._passed_on(id, update)
            case Compaction(id, status, summary, error):
                self._fresh("compaction", id)
                said = self._summaries.setdefault(id, _Said("agent"))
                if summary is not UNSET:
                    said.replace(summary if isinstance(summary, tuple) else ())
                old = self._statuses.get(id, ("", None))[1]
                self._statuses[id] = status, (old if error is UNSET else _text(error))
                return Change("compaction", id)
            case CompactionChunk(id, content):
                self._fresh("compaction", id)
                self._summaries.setdefault(id, _Said("agent")).append(content)
                self._statuses.setdefault(id, ("in_progress", None))
                return Change("compaction", id)
            case _:
                return self._fact(update)

    def _fact(self, update: Update) -> Change:
        """An update of what there is one of."""
        facts = self._facts
        change = Change("session")
        match update:
            case Notice():
                facts, change = replace(facts, notices=(*facts.notices, update)[-MOST_NOTICES:]), Change("notice")
            case ConfigOptions(options):
                facts = replace(facts, options=options)
            case ModeChanged(mode):
                facts = replace(facts, mode=mode)
            case Commands(commands):
                facts = replace(facts, commands=commands)
            case ContextUsage():
                facts = replace(facts, usage=update)
            case SessionInfo():
                facts = replace(facts, **_given(update, ("title", "updated_at")))
            case (
                TurnStarted(background)
                | ActionRequired(background)
                | StateUnknown(background)
                | TurnEnded(background=background)
            ):
                facts, change = self._moved(update, background), Change("state")
            case _:
                facts = replace(facts, unknown=facts.unknown + 1)
        self._facts = facts
        return change

    def _moved(self, update: Update, background: tuple[Work, ...] | None) -> Snapshot:
        facts = self._facts if background is None else replace(self._facts, background=background)
        match update:
            case TurnStarted():
                return replace(facts, state="running")
            case ActionRequired():
                return replace(facts, state="requires_action")
            case StateUnknown():
                return replace(facts, state="unknown")
            case TurnEnded(stop_reason):
                # An idle that is told again, or says no reason, ends no turn (v2 prompt lifecycle).
                ended = facts.state != "idle" and stop_reason is not None
                reason = stop_reason if ended else facts.stop_reason
                return replace(facts, state="idle", stop_reason=reason, turns=facts.turns + ended)
            case _:
                return facts

    def _chunk(self, chunk: MessageChunk) -> Change:
        id = chunk.message_id
        if id is None:
            if self._last is not None and self._last[0] == chunk.role:
                id = self._last[1]
            else:
                id = self._next_id(chunk.role)
                self._fresh("message", id)
                self._messages[id] = _Said(chunk.role, nameless=True)
            self._last = chunk.role, id
        else:
            self._last = None
            self._fresh("message", id)
        self._messages.setdefault(id, _Said(chunk.role)).append(chunk.content)
        return Change("message", id)

    def _next_id(self, role: Role) -> str:
        """What a message without an id is called: by its place in its turn, so in a replay as it was called before."""
        for number in count(1):
            id = f"{role} {self._turn}.{number}"
            if id not in self._messages or ("message", id) in self._stale:
                return id
        raise AssertionError

    def _passed_on(self, id: str, update: SessionMessage | SessionMessageChunk) -> Change:
        self._fresh("session_message", id)
        message, said = self._passed.get(id) or (PassedMessage(id), _Said("agent"))
        if isinstance(update, SessionMessageChunk):
            said.append(update.content)
        else:
            message = replace(message, **_given(update, _OF_MESSAGE))
            if update.content is not UNSET:
                said.replace(update.content or ())
        self._passed[id] = message, said
        return Change("session_message", id)

    def _fresh(self, kind: Kind, id: str) -> None:
        """Forget what was there under an id that a replay tells again."""
        if (kind, id) in self._stale:
            self._stale.discard((kind, id))
            stores: Mapping[str, dict[str, Any]] = {
                "message": self._messages,
                "call": self._calls,
                "terminal": self._terminals,
                "compaction": self._summaries,
                "subagent": self._subagents,
                "session_message": self._passed,
            }
            stores[kind].pop(id, None)


class _Said:
    """A message that grows. Its texts are joined when it is looked at, and `RUN` at a time when it is not.

    There may be a million of them: hence slots.
    """

    __slots__ = ("_frozen", "_joined", "_parts", "nameless", "role")

    def __init__(self, role: Role, *, nameless: bool = False) -> None:
        self.role: Role = role
        self.nameless = nameless
        self._parts: list[Block | str] = []
        self._joined = 0
        """How many of the parts were joined before."""
        self._frozen: SaidMessage | None = None

    def append(self, block: Block) -> None:
        self._frozen = None
        self._parts.append(block.text if isinstance(block, TextBlock) and not block.extra else block)
        if len(self._parts) - self._joined >= RUN:
            self._join(self._joined)

    def replace(self, blocks: Iterable[Block]) -> None:
        self._parts, self._joined, self._frozen = [], 0, None
        for block in blocks:
            self.append(block)

    def content(self) -> tuple[Block, ...]:
        self._join(0)
        return tuple(TextBlock(part) if isinstance(part, str) else part for part in self._parts)

    def _join(self, first: int) -> None:
        """Make texts that follow each other one, from a part on."""
        parts: list[Block | str] = []
        for kind, run in groupby(self._parts[first:], type):
            if kind is str:
                parts.append("".join(map(str, run)))
            else:
                parts.extend(run)
        self._parts[first:] = parts
        self._joined = len(self._parts)

    def frozen(self, id: str) -> SaidMessage:
        if self._frozen is None:
            self._frozen = SaidMessage(self.role, id, self.content())
        return self._frozen


class _Output:
    """A terminal whose output grows."""

    def __init__(self) -> None:
        self._shown = ShownTerminal("")
        self._output = bytearray()
        self._cut = False
        self._frozen: ShownTerminal | None = None

    def take(self, update: Terminal | TerminalChunk) -> None:
        self._frozen = None
        if isinstance(update, TerminalChunk):
            self._add(update.data)
            return
        if update.output is not UNSET:
            self._output.clear()
            self._cut = False
            self._add(update.output or "")
        self._shown = replace(self._shown, **_given(update, ("command", "cwd", "exit", "capabilities")))

    def _add(self, data: object) -> None:
        try:
            self._output += base64.b64decode(str(data), validate=True)
        except (binascii.Error, ValueError):
            return  # what cannot be decoded cannot be shown
        if len(self._output) > MOST_OUTPUT:
            self._cut = True
            del self._output[:-MOST_OUTPUT]

    def frozen(self, id: str) -> ShownTerminal:
        if self._frozen is None:
            self._frozen = replace(self._shown, id=id, output=bytes(self._output), cut=self._cut)
        return self._frozen


def _begins_with(said: _Said, block: Block) -> bool:
    match said.content(), block:
        case (TextBlock(whole), *_), TextBlock(text):
            return text != "" and whole.startswith(text)
        case (first, *_), _:
            return first == block
        case _:
            return False


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _given(update: Update, names: Iterable[str]) -> dict[str, Any]:
    """The fields of a patch that it changes."""
    return {name: value for name in names if (value := getattr(update, name)) is not UNSET}
