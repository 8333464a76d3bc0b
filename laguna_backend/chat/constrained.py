"""A `Constraint` that keeps tool calls to their grammar, and writes by itself what can be written in one way only."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence

from acp_server.model import ToolSpec

from ..engine.request import Allowed, Forced
from .grammar import Grammar, Spelling, State
from .tokenizer import RESERVED, TOOL_CALL, TOOL_CALL_END
from .vocabulary import KEPT_MASKS, Vocabulary

KEPT_GRAMMARS = 8
WINDOW = 48
"""Tokens before a forced text with which it is encoded: enough for no split to depend on what was before."""
CHECKED = 4
"""Tokens at the end of those that have to come out as they were."""


class Masks:
    """The masks of one grammar, kept by state."""

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary) -> None:
        self.grammar, self.vocabulary = grammar, vocabulary
        self.kept: OrderedDict[State, Allowed | Forced] = OrderedDict()

    def of(self, state: State) -> Allowed | Forced:
        """The tokens that may come, or the one."""
        if (found := self.kept.get(state)) is None:
            mask = self.vocabulary.mask(self.grammar, state)
            found = Forced((mask.index(1),)) if mask.count(1) == 1 else Allowed(mask)
            self.kept[state] = found
            if len(self.kept) > KEPT_MASKS:
                self.kept.popitem(last=False)
        else:
            self.kept.move_to_end(state)
        return found


class WellFormedCalls:
    """For one answer. `encode` gives a text's tokens, `bytes_of` a token's text.

    Forced tokens are those that the tokenizer makes of the text, for a model is taught no others: none is forced where
    what was written before would be split otherwise, and the last one is left to the model where more may be joined to
    it.
    """

    def __init__(self, masks: Masks, encode: Callable[[str], Sequence[int]], bytes_of: Callable[[int], bytes]) -> None:
        self.masks, self.encode, self.bytes_of = masks, encode, bytes_of
        self.state: State | None = None
        self.written: list[int] = []
        self.tried = False

    def next(self) -> Forced | Allowed | None:
        if self.state is None:
            return None
        if not self.tried:
            self.tried = True
            if forced := self.forced():
                return Forced(tuple(forced))
        return self.masks.of(self.state)

    def take(self, token: int) -> None:
        if token == TOOL_CALL and self.state is None:
            self.state, self.written = self.masks.grammar.begin, []
        elif token == TOOL_CALL_END:
            self.state = None
        elif self.state is not None:
            self.written.append(token)
            for byte in self.bytes_of(token):
                self.state = self.masks.grammar.after(self.state, byte)
            if not self.state:  # another constraint has forced what we would not have
                self.state = None
        self.tried = False

    def forced(self) -> list[int]:
        """The tokens that have to come, as far as they are sure."""
        grammar, state = self.masks.grammar, self.state
        assert state is not None
        text = bytearray()
        while not grammar.is_free(state) and not grammar.may_end(state):
            ways = grammar.bytes_after(state)
            if len(ways) != 1:
                break
            text += ways
            state = grammar.after(state, ways[0])
        ends = grammar.may_end(state) and not grammar.is_free(state) and not grammar.bytes_after(state)
        found = self.encoded(bytes(text)) if text else []
        if found is None:
            return []
        return [*found, TOOL_CALL_END] if ends else found[:-1]

    def encoded(self, text: bytes) -> list[int] | None:
        """The tokens of a text after what was written; None where it would change what was."""
        window = self.written[-WINDOW:]
        before = b"".join(map(self.bytes_of, window))
        while before and before[0] & 0xC0 == 0x80:  # the rest of a character that the window cuts
            before = before[1:]
        try:
            ids = list(self.encode((before + text).decode()))
        except UnicodeDecodeError:
            return None
        size, at = len(text), len(ids)
        while size > 0 and at:
            at -= 1
            size -= len(self.bytes_of(ids[at]))
        kept = window[-CHECKED:]
        if size or ids[max(0, at - len(kept)) : at] != kept or min(ids[at:], default=0) < RESERVED:
            return None
        return ids[at:]


class CallGrammars:
    """Makes constraints for answers, and keeps what is the same for all that are offered the same tools."""

    def __init__(
        self,
        spelling: Spelling,
        size: int,
        encode: Callable[[str], Sequence[int]],
        bytes_of: Callable[[int], bytes],
    ) -> None:
        self.spelling, self.encode, self.bytes_of = spelling, encode, bytes_of
        self.vocabulary = Vocabulary(size, bytes_of)
        self.kept: OrderedDict[str, Masks] = OrderedDict()

    def of(self, tools: Sequence[ToolSpec]) -> WellFormedCalls:
        key = json.dumps([[tool.name, tool.parameters] for tool in tools], default=repr)
        masks = self.kept.pop(key, None) or Masks(Grammar(tools, self.spelling), self.vocabulary)
        self.kept[key] = masks
        if len(self.kept) > KEPT_GRAMMARS:
            self.kept.popitem(last=False)
        return WellFormedCalls(masks, self.encode, self.bytes_of)
