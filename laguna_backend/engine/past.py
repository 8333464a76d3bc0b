"""What was computed before and may be of use again: the pasts of sequences, and which of them a prompt begins with.

A past can always be gone on with at its end. To go back into one its sliding layers need a snapshot, so some are kept:
where a system prompt ends, where a prompt and an answer ended, and every few thousand tokens. Of pasts that nobody
uses, and of snapshots, the ones longest unused are given up when they take more memory than they may.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ..model.cache import KVCache, Snapshot
from .limits import Limits
from .ngrams import Trigrams, common

ROOM = 1024
"""tokens of an answer that room is made for at once; more is made as it grows"""
KEPT_TRIGRAMS = 8
"""idle pasts whose trigrams are kept: they are a small part of a past, and are not counted with it"""


@dataclass(slots=True)
class Place:
    """Where a past can go back to, when that was last of use, and logits [V] of what follows where they were wanted."""

    snapshot: Snapshot
    used: int
    logits: Tensor | None = None


class Past:
    """The tokens that one sequence has seen, their cache, and the places that it can go back to.

    While it is busy, `planned` is what its cache may come to take, in bytes. `trigrams` are of what was last guessed
    from, not always of all its tokens.
    """

    def __init__(self, cache: KVCache, session: str | None) -> None:
        self.cache, self.session = cache, session
        self.tokens: list[int] = []
        self.places: dict[int, Place] = {}
        self.trigrams = Trigrams()
        self.busy = True
        self.planned = self.used = 0

    def __repr__(self) -> str:
        state = "busy" if self.busy else "idle"
        return f"<Past of {len(self.tokens)} tokens, {len(self.places)} places to go back to [{state}]>"

    def bytes_used(self) -> int:
        return max(self.cache.bytes_used(), self.planned if self.busy else 0)

    def reach(self, common: int) -> int:
        """The most of the first `common` tokens that can be kept, also by another past beside this one: a mark, which
        this one's cache alone can go back to, does not count."""
        if common == len(self.tokens) or (self.cache.length < self.cache.shortest and self.cache.can_rewind(common)):
            return common
        return max((place for place in self.places if place <= common), default=0)

    def go_back(self, length: int) -> None:
        """Forget what came after the first `length` tokens, as many as `reach` said."""
        if self.cache.can_rewind(length):
            self.cache.rewind(length)
        else:
            self.cache.restore(self.places[length].snapshot)
        del self.tokens[length:]
        self.places = {at: place for at, place in self.places.items() if at <= length}

    def snapshot(self, length: int) -> Snapshot:
        """Of the cache as it was at `length` tokens, as many as `reach` said."""
        return self.places[length].snapshot if length in self.places else self.cache.snapshot(length)


class Pasts:
    """All pasts there are, within the limits on their memory and number."""

    def __init__(self, new_cache: Callable[[], KVCache], size_of: Callable[[int], int], limits: Limits) -> None:
        self.new_cache, self.size_of, self.limits = new_cache, size_of, limits
        self.all: list[Past] = []
        self.clock = itertools.count(1)

    def take(self, tokens: list[int], session: str | None, planned: int) -> Past:
        """A past that `tokens` begin with, or an empty one, busy from now on; it may come to have `planned` tokens.

        At least one token is left to compute, unless the logits of what follows were kept. An idle past is gone on with
        where it ends, and cut back where it is of the same session or there is no room beside it; of any other what is
        common is copied.
        """
        size = self.size_of(planned)
        source, length = self.longest(tokens, session)
        if source is None:
            self.make_room(size)
            past = self.add(Past(self.new_cache(), session))
        elif not source.busy and (
            length == len(source.tokens)
            or (session is not None and session == source.session)
            or not self.make_room(size, keep=source)
        ):
            past = source
            past.go_back(length)
            self.make_room(max(0, size - past.cache.bytes_used()), keep=past)
        else:
            self.make_room(size, keep=source)
            past = self.add(Past(source.cache.fork(source.snapshot(length), min(len(tokens) + ROOM, planned)), session))
            source.used = next(self.clock)
            past.tokens, past.trigrams = source.tokens[:length], source.trigrams.copy()
            past.places = {at: replace(place) for at, place in source.places.items() if at <= length}
        past.busy, past.planned, past.session, past.used = True, size, session, next(self.clock)
        past.cache.planned = planned
        try:
            past.cache.reserve(min(len(tokens) + ROOM, planned))
            if length:
                self.remember(past)
        except BaseException:  # nobody would ever say that it is not busy any more
            past.busy = False
            if past is not source:
                self.drop(past)
            raise
        return past

    def add(self, past: Past) -> Past:
        self.all.append(past)
        return past

    def longest(self, tokens: list[int], session: str | None) -> tuple[Past | None, int]:
        """The past of which most can be kept, and how much of it."""
        best, found = (0, False, False, 0), None
        for past in self.all:
            length = common(past.tokens, tokens)
            place = past.places.get(length)
            if length < len(tokens) or place is None or place.logits is None:
                length = past.reach(min(length, len(tokens) - 1))
            rank = length, past.session == session, not past.busy, past.used
            if length and rank > best:
                best, found = rank, past
        return found, best[0]

    def release(self, past: Past) -> None:
        """Nobody uses it for now."""
        past.busy, past.used = False, next(self.clock)
        idle = sorted((past for past in self.all if not past.busy and past.trigrams.tokens), key=lambda past: past.used)
        for one in idle[:-KEPT_TRIGRAMS]:
            one.trigrams = Trigrams()
        self.make_room(0)

    def drop(self, past: Past) -> None:
        """Give it up."""
        self.all.remove(past)

    # Memory ----------------------------------------------------------------------------------------------

    def bytes_used(self) -> int:
        return sum(past.bytes_used() for past in self.all)

    def has_room(self, size: int, freed: int = 0) -> bool:
        limit = self.limits.cache
        return limit is None or self.bytes_used() - freed + size <= limit

    def make_room(self, size: int, keep: Past | None = None) -> bool:
        """Give up idle pasts, the one longest unused first, until `size` more bytes fit; whether they do. Where they
        cannot, none is given up."""
        idle = sorted((past for past in self.all if not past.busy and past is not keep), key=lambda past: past.used)
        if not self.has_room(size, sum(past.bytes_used() for past in idle)):
            return False
        while idle and (len(self.all) > self.limits.pasts or not self.has_room(size)):
            self.drop(idle.pop(0))
        return True

    def drop_idle(self) -> bool:
        """Give up all that nobody uses; whether there was any."""
        idle = [past for past in self.all if not past.busy]
        self.all = [past for past in self.all if past.busy]
        return bool(idle)

    # Snapshots -------------------------------------------------------------------------------------------

    def remember(self, past: Past, logits: Tensor | None = None) -> None:
        """Keep a snapshot of a past as it is now, and no more of all than may be."""
        length, now = len(past.tokens), next(self.clock)
        place = past.places.get(length)
        if place is None:
            place = past.places[length] = Place(past.cache.snapshot(), now)
        place.used = now
        place.logits = place.logits if logits is None else logits
        if self.limits.snapshots is None:
            return
        held = [(place.used, at, one) for one in self.all for at, place in one.places.items()]
        total = sum(one.places[at].snapshot.bytes_used() for _, at, one in held)
        for used, at, one in sorted(held, key=lambda entry: entry[0]):
            if total <= self.limits.snapshots or used == now:
                return
            total -= one.places.pop(at).snapshot.bytes_used()
