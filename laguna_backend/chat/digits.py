"""Numbers of JSON, byte by byte: whole ones between two bounds, and any that a computer has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from .json_schema import Number

DIGITS = b"0123456789"
LONGEST = 64
"""digits of a whole number; characters of any other before its exponent"""
LARGEST = 308
"""the power of ten that a number stays below: from there on some are larger than a computer has"""


@dataclass(frozen=True, slots=True)
class Whole:
    """Digits of which some may be left: by how many are, between which two numbers they have to be.

    Equal, whatever was written before, where the same may come.
    """

    left: tuple[tuple[int, int, int], ...]

    @property
    def complete(self) -> bool:
        return bool(self.left) and self.left[0][0] == 0

    def next(self) -> Iterator[tuple[bytes, Whole]]:
        yield from digits(self.left)


@lru_cache(maxsize=4096)
def digits(left: tuple[tuple[int, int, int], ...]) -> tuple[tuple[bytes, Whole], ...]:
    """The digits that may come next, and what is left after them."""
    found: dict[Whole, bytes] = {}
    for digit in range(10):
        after: list[tuple[int, int, int]] = []
        for count, least, most in left:
            if count:
                size = 10 ** (count - 1)
                low, high = max(least - digit * size, 0), min(most - digit * size, size - 1)
                after += [(count - 1, low, high)] if low <= high else []
        if after:
            now = Whole(tuple(after))
            found[now] = found.get(now, b"") + DIGITS[digit : digit + 1]
    return tuple((some, now) for now, some in found.items())


def counting(least: float, most: float) -> Whole:
    """Whole numbers between two that are not below zero, as they are usually written: without zeros before them."""
    ranges = ((size, max(least, 10 ** (size - 1) if size > 1 else 0), min(most, 10**size - 1)) for size in SIZES)
    return Whole(tuple((size, int(low), int(high)) for size, low, high in ranges if low <= high))


SIZES = range(1, LONGEST + 1)
ANY_POWER = Whole(tuple((size, 0, 10**size - 1) for size in range(1, 5)))


def power_up_to(most: int) -> Whole:
    return Whole(tuple((size, 0, min(most, 10**size - 1)) for size in range(1, 5)))


NEXT: Mapping[str, Mapping[str, bytes]] = {
    "begin": {"minus": b"-", "zero": b"0", "whole": b"123456789"},
    "minus": {"zero": b"0", "whole": b"123456789"},
    "zero": {"point": b".", "power": b"eE"},
    "whole": {"whole": DIGITS, "point": b".", "power": b"eE"},
    "point": {"fraction": DIGITS},
    "fraction": {"fraction": DIGITS, "power": b"eE"},
}
"""Of JSON: from each part of a number the bytes that lead on to others."""


@dataclass(frozen=True, slots=True)
class Decimal:
    """Within a number that need not be whole: `part` says where, `size` how much of it was written, `whole` how many
    digits before the point."""

    part: str = "begin"
    size: int = 0
    whole: int = 0

    @property
    def complete(self) -> bool:
        return self.part in ("zero", "whole", "fraction")

    def next(self) -> Iterator[tuple[bytes, Decimal | Whole]]:
        if self.part == "power":
            up = power_up_to(LARGEST - max(self.whole, 1))
            yield b"+", up
            yield b"-", ANY_POWER
            yield from up.next()
        elif self.size < LONGEST:
            for part, some in NEXT[self.part].items():
                now = replace(self, part=part, size=self.size + 1)
                yield some, replace(now, whole=self.whole + 1) if part == "whole" else now


def first(number: Number) -> Iterator[tuple[bytes, Decimal | Whole]]:
    """The first bytes of a number, and what is begun with them."""
    if number.whole:
        yield from counting(max(number.least, 0), number.most).next()
        if (below := counting(max(-number.most, 1), -number.least)).left:
            yield b"-", below
    else:
        yield from ((some, now) for some, now in Decimal().next() if some != b"-" or number.least < 0)
