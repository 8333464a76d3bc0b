"""What an engine may take of the machine, without torch."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine takes. Raises ValueError for what makes no sense.

    `running` requests take turns and `waiting` ones wait for it. `cache` is the bytes of memory of all caches and
    `snapshots` of what long histories can be changed by, None: as much as there is; `pasts` is how many sequences are
    kept at all. `chunk` is how many tokens of a prompt one pass runs, a power of two, and `every` how many lie between
    two snapshots of a long one: no change to it costs more than these again. `guess` lets answers be guessed ahead
    from what was said before (`guess`).
    """

    running: int = 8
    waiting: int = 64
    cache: int | None = None
    snapshots: int | None = 1024 * MIB
    pasts: int = 64
    chunk: int = 512
    every: int = 4096
    guess: bool = True

    def __post_init__(self) -> None:
        if self.chunk < 16 or self.chunk.bit_count() != 1 or self.every % self.chunk:
            raise ValueError(f"chunk is {self.chunk}; it is a power of two, at least 16, that divides {self.every}")
        for name in ("running", "waiting", "pasts", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}")
        for name in ("cache", "snapshots"):
            if (given := getattr(self, name)) is not None and given < 0:
                raise ValueError(f"{name} is {given}")
