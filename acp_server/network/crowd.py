"""How many come in at a time, in all and from one address."""

from __future__ import annotations

from collections import Counter

from .gate import Refusal


class Crowd:
    """Counts who is there. `most` in all and `per_address` of one address may come in."""

    def __init__(self, most: int, per_address: int) -> None:
        self._most, self._per_address = most, per_address
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._addresses.total()

    @property
    def is_full(self) -> bool:
        """Whether there are more than may be."""
        return len(self) > self._most

    def enter(self, address: str) -> None:
        self._addresses[address] += 1

    def leave(self, address: str) -> None:
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def refusal(self, address: str) -> Refusal | None:
        """Why somebody who has entered may not stay."""
        if self.is_full:
            return Refusal(503, "there are too many connections")
        if self._addresses[address] > self._per_address:
            return Refusal(429, "there are too many connections from this address")
        return None
