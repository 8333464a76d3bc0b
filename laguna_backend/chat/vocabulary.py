"""Which tokens keep to a grammar: the vocabulary as a tree of bytes, walked along the automaton level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy

from .characters import ANY
from .grammar import NOWHERE, Grammar, Place, State, is_between_characters, length_of, of_any_length, text_in
from .tokenizer import RESERVED, TOOL_CALL_END

KEPT_MASKS = 256
KEPT_TEXTS = 64
"""what is known of texts by themselves: each takes two bytes a token and more"""

Numbers = numpy.ndarray[Any, numpy.dtype[Any]]


class Vocabulary:
    """The tokens that spell something. `bytes_of` is what a token id spells; control tokens spell nothing here.

    `ids` are in the order of their bytes. A node of the tree is what some tokens begin with, which are neighbours
    there: from `low` to `high`, and up to `own` those that spell no more than that. Nodes are numbered level by level,
    so that a node's children are neighbours too, from `first` to `last`; `parent` is -1 of the first
    level, and `node` is each token's.
    """

    def __init__(self, size: int, bytes_of: Callable[[int], bytes]) -> None:
        spelled = sorted((text, token) for token in range(RESERVED, size) if (text := bytes_of(token)))
        self.size = size
        self.ids = numpy.array([token for _, token in spelled], dtype=numpy.int64)
        lengths = numpy.array([len(text) for text, _ in spelled], dtype=numpy.int64)
        begins = lengths.cumsum() - lengths
        every = numpy.frombuffer(b"".join(text for text, _ in spelled), dtype=numpy.uint8)
        self.longest = int(lengths.max(initial=0))
        apart = numpy.zeros(len(spelled), dtype=numpy.bool_)  # from the token before, by a byte up to this level
        apart[:1] = True
        before, levels = 0, list[tuple[Numbers, ...]]()
        for level in range(self.longest):
            longer = lengths > level
            bytes_here = numpy.full(len(spelled), -1, dtype=numpy.int16)
            bytes_here[longer] = every[begins[longer] + level]
            apart[1:] |= bytes_here[1:] != bytes_here[:-1]
            low = numpy.flatnonzero(apart & longer)
            high = numpy.append(numpy.flatnonzero(apart), len(spelled))
            high = high[numpy.searchsorted(high, low, side="right")]
            ending = numpy.append(0, (lengths == level + 1).cumsum())
            levels.append((low, low + ending[high] - ending[low], high, bytes_here[low]))
        self.low, self.own, self.high, self.byte = (
            numpy.concatenate(parts) if parts else numpy.zeros(0, dtype=numpy.int64)
            for parts in (zip(*levels, strict=True) if levels else ((),) * 4)
        )
        self.node = numpy.arange(len(self.low)).repeat(self.own - self.low)[numpy.argsort(spans(self.low, self.own))]
        self.first, self.last = numpy.zeros_like(self.low), numpy.zeros_like(self.low)
        self.parent = numpy.full_like(self.low, -1)
        for (low, _, high, _), (below, *_) in pairwise(levels):
            here, after = slice(before, before + len(low)), before + len(low)
            self.first[here] = after + numpy.searchsorted(below, low)
            self.last[here] = after + numpy.searchsorted(below, high)
            self.parent[after : after + len(below)] = numpy.arange(before, after).repeat((self.last - self.first)[here])
            before = after
        self.roots = len(levels[0][0]) if levels else 0
        self.inside: dict[Place, _Inside] = {}

    def mask(self, grammar: Grammar, state: State) -> bytes:
        """One byte for each token id, not zero where the token may come."""
        table = numpy.zeros(self.size, dtype=numpy.uint8)
        table[self.ids[self._allowed(grammar, state)]] = 1
        if grammar.may_end(state):
            table[TOOL_CALL_END] = 1
        return table.tobytes()

    def _allowed(self, grammar: Grammar, state: State) -> Numbers:
        """Of each token, in the order of `ids`, whether it may come from any of the places."""
        allowed = numpy.zeros(len(self.ids), dtype=numpy.bool_)
        if grammar.is_free(state):
            return ~allowed
        rest, texts = set[Place](), dict[Place, set[Place]]()
        for place in state:
            if split := text_in(place):
                texts.setdefault(split[0], set()).add(split[1])
            else:
                rest.add(place)
        walk = _Walk(grammar)
        begun = [(numpy.arange(self.roots), walk.number(frozenset(rest)))]
        for text, after in texts.items():
            length = length_of(text) or ANY
            inside = self._inside(grammar, text)
            allowed |= (inside.written >= 0) & (inside.written <= length.most)
            ends = (inside.ends_after >= length.least) & (inside.ends_after <= length.most)
            nodes = inside.ends[ends]
            allowed[spans(self.low[nodes], self.own[nodes])] = True
            first, last = self.first[nodes], self.last[nodes]
            begun.append((spans(first, last), walk.number(frozenset(after))))
        roots = numpy.concatenate([nodes for nodes, _ in begun])
        before = numpy.concatenate([numpy.full(len(nodes), number) for nodes, number in begun])
        for nodes, _, states in self._levels(walk, roots, before):
            free = walk.free[states]
            allowed[spans(self.low[nodes], numpy.where(free, self.high[nodes], self.own[nodes]))] = True
        return allowed

    def _inside(self, grammar: Grammar, text: Place) -> _Inside:
        """Of a text by itself. What is known of any length is known of all: by how many characters are written."""
        text = of_any_length(text)
        if found := self.inside.pop(text, None):
            self.inside[text] = found
            return found
        split = text_in(text)
        assert split is not None
        walk = _Walk(grammar, split[1])
        written = numpy.full(len(self.low) + 1, -1, dtype=numpy.int16)  # by node; the last one is the root of the tree
        written[-1] = 0
        ends, ends_after = [self.low[:0]], [written[:0]]
        begin = numpy.full(self.roots, walk.number(frozenset([text])))
        for nodes, before, states in self._levels(walk, numpy.arange(self.roots), begin):
            inside, ended = walk.inside[states], walk.ended[states]
            before_it = written[self.parent[nodes]]
            ends.append(nodes[ended])
            ends_after.append(before_it[ended])
            written[nodes] = before_it + walk.between[before]
            written[nodes[~inside]] = -1
        found = _Inside(written[self.node], numpy.concatenate(ends), numpy.concatenate(ends_after))
        self.inside[text] = found
        if len(self.inside) > KEPT_TEXTS:
            self.inside.pop(next(iter(self.inside)))
        return found

    def _levels(self, walk: _Walk, nodes: Numbers, states: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        """Nodes that are come to, level by level, and the states before and after them; first to these from those."""
        while len(nodes):
            after = walk.after(states, self.byte[nodes])
            lives = after > 0
            nodes, states, after = nodes[lives], states[lives], after[lives]
            yield nodes, states, after
            goes_on = ~walk.free[after]
            nodes, states = nodes[goes_on], after[goes_on]
            first, last = self.first[nodes], self.last[nodes]
            nodes, states = spans(first, last), states.repeat(last - first)


def spans(first: Numbers, last: Numbers) -> Numbers:
    """All numbers from each first to before the last beside it."""
    count = last - first
    return (first - count.cumsum() + count).repeat(count) + numpy.arange(count.sum())


@dataclass(frozen=True, slots=True)
class _Inside:
    """What comes of each token within a text: how many characters are written after it, below zero if it may not come;
    the nodes at whose ends the text has ended, and how many characters it had then."""

    written: Numbers
    ends: Numbers
    ends_after: Numbers


class _Walk:
    """The automaton in numbers: 0 is nowhere. States get theirs as they are come to, and a row as they are left.

    `end` is a place that is not gone on from, only told.
    """

    def __init__(self, grammar: Grammar, end: Place | None = None) -> None:
        self.grammar, self.end = grammar, frozenset([end] if end else ())
        self.numbers: dict[State, int] = {}
        self.states: list[State] = []
        self.rows = numpy.zeros((16, 256), dtype=numpy.int64)
        self.left, self.free, self.ended, self.inside, self.between = (
            numpy.zeros(16, dtype=numpy.bool_) for _ in range(5)
        )
        self.left[self.number(NOWHERE)] = True

    def number(self, state: State) -> int:
        if (found := self.numbers.get(state)) is not None:
            return found
        number = self.numbers[state] = len(self.states)
        if number == len(self.rows):
            self.rows, self.left, self.free, self.ended, self.inside, self.between = (
                numpy.concatenate((held, numpy.zeros_like(held)))
                for held in (self.rows, self.left, self.free, self.ended, self.inside, self.between)
            )
        inside = state - self.end
        self.states.append(inside)
        self.free[number] = self.grammar.is_free(state)
        self.ended[number], self.inside[number] = len(inside) < len(state), bool(inside)
        self.between[number] = any(map(is_between_characters, inside))
        return number

    def after(self, states: Numbers, some: Numbers) -> Numbers:
        """Where each byte leads from the state beside it."""
        for one in numpy.flatnonzero(numpy.bincount(states, minlength=1)).tolist():
            if not self.left[one]:
                self.left[one] = True
                row = self.grammar.row(self.states[one])
                leads = numpy.array([self.number(state) for state in row.states])
                self.rows[one] = leads[numpy.frombuffer(row.kinds, dtype=numpy.uint8)]
        return self.rows[states, some]
