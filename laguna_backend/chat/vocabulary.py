"""Which tokens keep to a grammar: the vocabulary in the order of its bytes, walked along the automaton."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable

import numpy

from .grammar import Grammar, State
from .json_grammar import SPECIAL
from .tokenizer import RESERVED, TOOL_CALL_END

KEPT_MASKS = 256
NOT_PLAIN = re.compile(rb"[\x00-\x1f" + re.escape(SPECIAL) + rb"]")


class Vocabulary:
    """The tokens that spell something. `bytes_of` is what a token id spells; control tokens spell nothing here."""

    def __init__(self, size: int, bytes_of: Callable[[int], bytes]) -> None:
        spelled = sorted((text, token) for token in range(RESERVED, size) if (text := bytes_of(token)))
        self.texts = [text for text, _ in spelled]
        self.ids = numpy.array([token for _, token in spelled], dtype=numpy.int64)
        self.size = size
        # Up to where a token has bytes that are not plain within a text of JSON.
        ends = [max((found.end() for found in NOT_PLAIN.finditer(text)), default=0) for text in self.texts]
        self.plain_from = numpy.array(ends, dtype=numpy.int64)

    def mask(self, grammar: Grammar, state: State) -> bytes:
        """One byte for each token id, not zero where the token may come."""
        table = numpy.zeros(self.size, dtype=numpy.uint8)
        self._allow(table, grammar, state, b"", 0, len(self.texts))
        if grammar.may_end(state):
            table[TOOL_CALL_END] = 1
        return table.tobytes()

    def _allow(self, table: numpy.ndarray, grammar: Grammar, state: State, prefix: bytes, low: int, high: int) -> None:
        """Allow tokens of `texts[low:high]`, all of which begin with `prefix`, which led to `state`."""
        if grammar.is_free(state):
            table[self.ids[low:high]] = 1
            return
        if grammar.is_steady(state):
            self._allow_in_a_text(table, grammar, state, len(prefix), low, high)
            return
        while low < high and self.texts[low] == prefix:  # some ids spell the same
            table[self.ids[low]] = 1
            low += 1
        for byte in grammar.bytes_after(state):
            longer = prefix + bytes([byte])
            first = bisect_left(self.texts, longer, low, high)
            last = high if byte == 0xFF else bisect_left(self.texts, prefix + bytes([byte + 1]), first, high)
            if first < last:
                self._allow(table, grammar, grammar.after(state, byte), longer, first, last)

    def _allow_in_a_text(
        self, table: numpy.ndarray, grammar: Grammar, state: State, at: int, low: int, high: int
    ) -> None:
        """The same within a text of JSON, where most tokens lead back: the others one by one, what ends alike once."""
        plain = self.plain_from[low:high] <= at
        table[self.ids[low:high][plain]] = 1
        known: dict[bytes, bool] = {}
        for index in numpy.flatnonzero(~plain):
            text = self.texts[low + int(index)]
            first = NOT_PLAIN.search(text, at)
            assert first is not None
            end = text[first.start() :]
            if (allowed := known.get(end)) is None:
                now = state
                for byte in end:
                    now = grammar.after(now, byte)
                    if not now or grammar.is_free(now):
                        break
                allowed = known[end] = bool(now)
            if allowed:
                table[self.ids[low + int(index)]] = 1
