"""What a text may be, character by character: its length, or its pattern; and sets of characters as bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Protocol

Range = tuple[int, int]
"""From one to another, both within: code points, or bytes."""
ALL: tuple[Range, ...] = ((0, 0xD7FF), (0xE000, 0x10FFFF))
"""All characters: the code points but for halves of pairs."""


class Characters(Protocol):
    """What may come of a text. Hashable; equal where the same may come."""

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        ...

    def next(self) -> Iterable[tuple[tuple[Range, ...], Characters]]:
        """Characters that may come next, and what may come after them: from each there is a way to an end."""
        ...


@dataclass(frozen=True, slots=True)
class Length:
    """Any characters, no fewer than `least` and no more than `most`."""

    least: int = 0
    most: float = inf

    @property
    def complete(self) -> bool:
        return self.least == 0

    def next(self) -> Iterable[tuple[tuple[Range, ...], Length]]:
        if self.most > 0:
            yield ALL, Length(max(self.least - 1, 0), self.most - 1)


ANY = Length()


@lru_cache(maxsize=1024)
def but(ranges: tuple[Range, ...], others: bytes) -> tuple[Range, ...]:
    """The ranges without these characters."""
    found = list(ranges)
    for one in others:
        kept: list[Range] = []
        for low, high in found:
            kept += [(low, high)] if not low <= one <= high else [(low, one - 1), (one + 1, high)]
        found = [(low, high) for low, high in kept if low <= high]
    return tuple(found)


@lru_cache(maxsize=1024)
def in_bytes(ranges: tuple[Range, ...]) -> tuple[tuple[Range, ...], ...]:
    """The characters' bytes: each sequence is of ranges of bytes, one after another, and no two share a character."""
    found: list[tuple[Range, ...]] = []
    for low, high in ranges:
        for least, most in ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, 0x10FFFF)):
            first, last = max(low, least), min(high, most)
            if first <= last:
                found += between(chr(first).encode(), chr(last).encode())
    return tuple(found)


def between(low: bytes, high: bytes) -> Iterator[tuple[Range, ...]]:
    """All between two characters of the same number of bytes."""
    rest = len(low) - 1
    if not rest:
        yield ((low[0], high[0]),)
        return
    first, last = low[0], high[0]
    if first == last:
        yield from (((first, first), *more) for more in between(low[1:], high[1:]))
        return
    if low[1:] != b"\x80" * rest:
        yield from (((first, first), *more) for more in between(low[1:], b"\xbf" * rest))
        first += 1
    ends: list[tuple[Range, ...]] = []
    if high[1:] != b"\xbf" * rest:
        ends = [((last, last), *more) for more in between(b"\x80" * rest, high[1:])]
        last -= 1
    if first <= last:
        yield ((first, last), *[(0x80, 0xBF)] * rest)
    yield from ends
