"""The next tokens guessed from what was said before, and whether to run guesses at all; no torch.

Answers repeat what their conversation holds: the file that is edited, a path, a name. Where the last few tokens stood
before, those that followed them there may follow again (prompt lookup decoding, Saxena 2023; arXiv 2304.04487). The
engine runs them together with the token that is due and draws as ever, so that guesses change when tokens come and
never which. A pass with guesses costs more than one without and may give one token all the same: wall-clock time
decides. How often guesses come true costs nothing to learn, for they are made, and compared with what comes, when
nobody runs them too. What passes cost is learned from passes, and those that do not pay are paid from a small credit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from .ngrams import Trigrams

LONGEST = 32
"""tokens in common beyond which no more are counted"""
SHARE = 0.02
"""of a pass without guesses is the credit it earns: guesses that fail cost no more than that in all"""
FIRST, MOST = 1.0, 4.0
"""passes of credit that an answer begins with, and the most that it keeps of what guesses have won"""
GAIN = 1.05
"""times as fast as without is the least that a guess has to promise"""
SAMPLES, FRESH, IN_A_ROW = 7, 512, 32
"""measures that a cost is the median of; passes after which it is forgotten; passes until one goes without guesses"""
SHORTEST = 0.001
"""seconds of a pass below which none is guessed: what it takes to guess is no longer small beside it (measured where a
pass takes half a millisecond: 0.91 to 0.99 times the speed without)"""


class Costs:
    """What a pass of so many tokens costs beside a pass of one. An engine's own: all its answers add to it."""

    def __init__(self) -> None:
        self.passes = 0
        self.measured: dict[int, tuple[int, deque[float]]] = {}  # by tokens: when last, and the latest measures

    def add(self, tokens: int, cost: float) -> None:
        """One pass of `tokens` took `cost` times what one of a single token takes."""
        self.passes += 1
        if tokens > 1:
            kept = self.measured[tokens][1] if self.known(tokens) else deque[float](maxlen=SAMPLES)
            kept.append(cost)
            self.measured[tokens] = self.passes, kept

    def known(self, tokens: int) -> bool:
        """Whether it was measured of late."""
        return tokens == 1 or self.passes - self.measured.get(tokens, (-FRESH, None))[0] < FRESH

    def of(self, tokens: int) -> tuple[float, float]:
        """What a pass costs, hoped and feared: one that was not tried may cost no more than the next smaller one that
        was, or as much as if each token more were run by itself."""
        tried = next(count for count in range(tokens, 0, -1) if self.known(count))
        cost = 1.0 if tried == 1 else median(self.measured[tried][1])
        return cost, cost + tokens - tried


class Odds:
    """How often guesses come true, by how many tokens the two places have in common; of late more than long ago."""

    def __init__(self) -> None:
        kinds = LONGEST.bit_length() + 1
        self.tries, self.hits = [1.0] * kinds, [0.5] * kinds

    def add(self, common: int, came: bool) -> None:
        kind = min(common, LONGEST).bit_length()
        self.tries[kind] = self.tries[kind] * 0.97 + 1
        self.hits[kind] = self.hits[kind] * 0.97 + came

    def of(self, common: int) -> float:
        kind = min(common, LONGEST).bit_length()
        return self.hits[kind] / self.tries[kind]


class Lookup:
    """The place in `tokens` that what comes last stood at before. They only grow; those from `said` on are an answer's.

    `trigrams` may be those of an earlier turn: what is new is taken in.
    """

    def __init__(self, tokens: Sequence[int], said: int, trigrams: Trigrams) -> None:
        self.tokens, self.odds, self.trigrams = tokens, Odds(), trigrams
        trigrams.follow(tokens[:said])
        self.at = self.common = 0  # the place of what may follow, 0 where there is none; how long the places agree
        self.find()

    def catch_up(self) -> None:
        """Take in the tokens that came."""
        tokens = self.tokens
        for place in range(len(self.trigrams.tokens), len(tokens)):
            if self.at:
                came = tokens[self.at] == tokens[place]
                self.odds.add(self.common, came)
                self.at, self.common = (self.at + 1, self.common + 1) if came else (0, 0)
            self.trigrams.add(tokens[place])
            if not self.at:
                self.find()

    def find(self) -> None:
        """Look for the last time that the last tokens seen stood before, and how much before them is the same."""
        tokens, end = self.trigrams.tokens, len(self.trigrams.tokens)
        if at := self.trigrams.last():
            back = 1
            while back <= min(at, LONGEST) and tokens[at - back] == tokens[end - back]:
                back += 1
            self.at, self.common = at, back - 1

    def guesses(self, most: int) -> list[int]:
        """What followed there; past the end the guesses repeat themselves, as what they were found in does."""
        stretch = self.tokens[self.at : self.at + most] if self.at else []
        return [stretch[place % len(stretch)] for place in range(most)] if stretch else []

    def chances(self, most: int) -> list[float]:
        """That each of the guesses comes true, if all before it do."""
        return [self.odds.of(self.common + place) for place in range(most)]


class Guesser:
    """Decides for one answer which guesses are run, and learns from what came of them.

    Against passes of one token each, guesses lose no more than `FIRST` passes and `SHARE` of them, whatever they cost.
    """

    def __init__(self, tokens: Sequence[int], said: int, costs: Costs, trigrams: Trigrams) -> None:
        self.tokens, self.said, self.costs, self.trigrams = tokens, said, costs, trigrams
        self.lookup: Lookup | None = None  # made when there may be something to guess: it reads all that was said
        self.plain: deque[float] = deque(maxlen=SAMPLES)  # seconds of the latest passes without guesses
        self.credit = FIRST
        self.in_a_row = 0
        self.resting = False
        """Whether passes are too short for guesses, in all of this answer."""

    def next(self, most: int) -> list[int]:
        """Guesses to run with the token that is due, no more than `most`; often none."""
        if self.resting or len(self.plain) < 2:
            return []
        lookup = self.lookup = self.lookup or Lookup(self.tokens, self.said, self.trigrams)
        lookup.catch_up()
        if self.in_a_row == IN_A_ROW:
            return []
        guesses = lookup.guesses(most)
        return guesses[: self.worth(lookup.chances(len(guesses)))]

    def worth(self, chances: Sequence[float]) -> int:
        """How many guesses give the most tokens a second, if that can be paid should all fail."""
        best, width, expected, likely = GAIN, 0, 1.0, 1.0
        for count, chance in enumerate(chances, 1):
            likely *= chance
            expected += likely
            hoped, feared = self.costs.of(count + 1)
            if feared - 1 <= self.credit and expected / hoped > best:
                best, width = expected / hoped, count
        return width

    def took(self, guesses: int, came: int, seconds: float) -> None:
        """A pass with so many guesses gave `came` tokens."""
        if self.resting:
            return
        if guesses:
            self.costs.add(guesses + 1, seconds / median(self.plain))
            self.credit += came - self.costs.of(guesses + 1)[0]  # the usual cost: a hitch is nobody's fault
            self.in_a_row += 1
        else:
            self.plain.append(seconds)
            self.costs.add(1, 1.0)
            self.credit += SHARE
            self.in_a_row = 0
            self.resting = len(self.plain) == 2 and max(self.plain) < SHORTEST
        self.credit = min(self.credit, MOST)
