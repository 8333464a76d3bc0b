"""What an application missed of a session while the connection was lost: a replay, cut to what is new.

Messages are known by their ids, and of each how much was told; calls by their ids and by what they looked like. What
was told once is not told again. Of a session whose beginning this client never saw, only what follows the turn's own
prompt counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from acp.merging import FIELDS, merged
from acp.updates import (
    Block,
    Message,
    MessageChunk,
    Notice,
    Plan,
    PlanFile,
    PlanText,
    Role,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    Update,
)

from .snapshot import AnyPlan

MOST_MESSAGES = 1024
"""Messages whose length is remembered, the last ones. What comes before them in a replay was told whole."""


class Told:
    """How much of each message the application was told: characters of text, or blocks where it is no text."""

    def __init__(self) -> None:
        self.is_partial = False
        """Whether there are messages that were told and are not remembered."""
        self._sizes: dict[str, int] = {}

    def note(self, chunk: MessageChunk) -> None:
        if chunk.message_id is not None:
            self._sizes[chunk.message_id] = self._sizes.get(chunk.message_id, 0) + _size(chunk.content)
            if len(self._sizes) > MOST_MESSAGES:
                self._sizes.pop(next(iter(self._sizes)))
                self.is_partial = True

    def __contains__(self, id: str) -> bool:
        return id in self._sizes

    def rest(self, id: str, role: Role, blocks: Sequence[Block]) -> list[MessageChunk]:
        """The chunks of a whole message that were not told yet."""
        skip, chunks = self._sizes.get(id, 0), list[MessageChunk]()
        for block in blocks:
            size = _size(block)
            if skip < size:
                chunks.append(MessageChunk(role, _cut(block, skip), id))
            skip = max(0, skip - size)
        return chunks


class CatchUp:
    """A replay that is read to learn what was missed. `calls` and `plans` are as the application knows them."""

    def __init__(
        self,
        told: Told,
        calls: Mapping[str, ToolCall],
        plans: Mapping[str, AnyPlan],
        prompt: str | None,
        *,
        whole: bool,
    ) -> None:
        self._told, self._calls, self._plans, self._prompt = told, calls, plans, prompt
        self._counts = whole
        self._is_long_told = told.is_partial
        self._seen: dict[str, list[Block]] = {}

    def missed(self, update: Update) -> Sequence[Update]:
        """What the application is to hear of one update of the replay."""
        match update:
            case Message("user", content=content):
                blocks = content if isinstance(content, tuple) else ()
                self._asked("".join(block.text for block in blocks if isinstance(block, TextBlock)))
                return []
            case MessageChunk("user", TextBlock(text)):
                self._asked(text)
                return []
            case _ if not self._counts:
                return []
            case Message(message_id=str(id)) | MessageChunk(message_id=str(id)) if self._was_long_told(id):
                return []
            case Message(role, id, content):
                blocks = self._seen[id] = [*content] if isinstance(content, tuple) else []
                return self._told.rest(id, role, blocks)
            case MessageChunk(role, content, str(id)):
                blocks = self._seen.setdefault(id, [])
                before = len(self._told.rest(id, role, blocks))
                blocks.append(content)
                return self._told.rest(id, role, blocks)[before:]
            case ToolCall(id):
                known = self._calls.get(id)
                return [update] if known is None else _difference(known, update)
            case ToolCallUpdate(id):
                known = self._calls.get(id)
                return _difference(known, merged(known, update)) if known is not None else [merged(None, update)]
            case Plan() | PlanFile() | PlanText() if self._plans.get(update.id) == update:
                return []
            case MessageChunk() | Notice():
                return []  # without an id nobody can say whether it was told
            case _:
                return [update]

    def _was_long_told(self, id: str) -> bool:
        """Whether a message comes before all that are remembered, which are the last ones that were told."""
        self._is_long_told = self._is_long_told and id not in self._told
        return self._is_long_told

    def _asked(self, text: str) -> None:
        self._counts = self._counts or text == self._prompt


def _difference(known: ToolCall, now: ToolCall) -> Sequence[Update]:
    changed = {name: getattr(now, name) for name in FIELDS if getattr(now, name) != getattr(known, name)}
    return [ToolCallUpdate(now.id, **changed)] if changed else []


def _size(block: Block) -> int:
    return len(block.text) if isinstance(block, TextBlock) else 1


def _cut(block: Block, skip: int) -> Block:
    return TextBlock(block.text[skip:], block.extra) if isinstance(block, TextBlock) and skip else block
