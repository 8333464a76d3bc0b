"""Where every three tokens of a sequence stood last; kept while the sequence grows and is cut. No torch."""

from __future__ import annotations

from collections.abc import Sequence

GRAM = 3
"""tokens that have to have stood before"""


class Trigrams:
    """By every three `tokens` the place of what followed them where they stood last: `table`.

    About 190 bytes a token. Up to `first` the table was made at once, which is quickest; what each later token replaced
    in it is kept, so that the tokens can be taken back one by one. `work` counts those that were ever taken in.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.table: dict[tuple[int, int, int], int] = {}
        self.replaced: list[int] = []  # of each token from `first` on: the place that stood in the table, or 0
        self.first = self.work = 0

    def __repr__(self) -> str:
        return f"<Trigrams of {len(self.tokens)} tokens>"

    def copy(self) -> Trigrams:
        copied = Trigrams()
        copied.tokens, copied.table, copied.replaced = self.tokens.copy(), self.table.copy(), self.replaced.copy()
        copied.first, copied.work = self.first, self.work
        return copied

    def follow(self, tokens: Sequence[int]) -> None:
        """Become those of these tokens. It takes as long as there are others than before."""
        kept = common(self.tokens, tokens)
        if kept < self.first or not self.tokens:
            self.begin(tokens)
            return
        while len(self.tokens) > kept:
            self.drop()
        for token in tokens[kept:]:
            self.add(token)

    def begin(self, tokens: Sequence[int]) -> None:
        """Forget all that was, and take these in at once."""
        self.tokens, self.replaced, self.first = list(tokens), [], len(tokens)
        threes = zip(self.tokens, self.tokens[1:], self.tokens[2:-1], strict=False)
        self.table = dict(zip(threes, range(GRAM, self.first), strict=False))
        self.work += self.first

    def add(self, token: int) -> None:
        """One more."""
        place = len(self.tokens)
        before = 0
        if place >= GRAM:
            three = (self.tokens[place - 3], self.tokens[place - 2], self.tokens[place - 1])
            before, self.table[three] = self.table.get(three, 0), place
        self.replaced.append(before)
        self.tokens.append(token)
        self.work += 1

    def drop(self) -> None:
        """One less."""
        self.tokens.pop()
        place, before = len(self.tokens), self.replaced.pop()
        if place >= GRAM:
            three = (self.tokens[place - 3], self.tokens[place - 2], self.tokens[place - 1])
            if before:
                self.table[three] = before
            else:
                del self.table[three]

    def last(self) -> int:
        """The place of what followed where the last three tokens stood before; 0 if they never did."""
        tokens = self.tokens
        return self.table.get((tokens[-3], tokens[-2], tokens[-1]), 0) if len(tokens) >= GRAM else 0


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low + 1 < high:  # equal up to `low`, not up to `high`
        middle = (low + high) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle)
    return low
