"""Whether and how to connect again when the network is lost, and what the application hears of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to try: seconds in all, of the first pause at most, and of any pause at most."""

    patience: float = 60.0
    first: float = 0.25
    most: float = 10.0


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """How it stands with the network. `lost` is final; `reason` says why it is not `connected`."""

    state: Literal["connected", "reconnecting", "lost"]
    reason: str = ""


OnState = Callable[[ConnectionState], None]


def pauses(policy: Reconnect, draw: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Seconds before each attempt: full jitter under a limit that doubles, so that many clients do not come at once."""
    limit = policy.first
    while True:
        yield draw(0.0, limit)
        limit = min(policy.most, limit * 2)
