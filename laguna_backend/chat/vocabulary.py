"""Which tokens keep to a grammar: the vocabulary in the order of its bytes, walked along the automaton."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy

from .grammar import Grammar, State
from .tokenizer import RESERVED, TOOL_CALL_END

KEPT_MASKS = 256


class Vocabulary:
    """The tokens that spell something. `bytes_of` is what a token id spells; control tokens spell nothing here."""

    def __init__(self, size: int, bytes_of: Callable[[int], bytes]) -> None:
        spelled = sorted((text, token) for token in range(RESERVED, size) if (text := bytes_of(token)))
        self.texts = [text for text, _ in spelled]
        self.ids = numpy.array([token for _, token in spelled], dtype=numpy.int64)
        self.size = size

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
        while low < high and self.texts[low] == prefix:  # some ids spell the same
            table[self.ids[low]] = 1
            low += 1
        for byte in grammar.bytes_after(state):
            longer = prefix + bytes([byte])
            first = bisect_left(self.texts, longer, low, high)
            last = high if byte == 0xFF else bisect_left(self.texts, prefix + bytes([byte + 1]), first, high)
            if first < last:
                self._allow(table, grammar, grammar.after(state, byte), longer, first, last)
