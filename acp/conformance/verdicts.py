"""What is checked, and what came of it: the values that every run gives and every report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Transcript = tuple[tuple[str, str], ...]
Faults = dict[str, tuple[str, Transcript]]
"""Watched check → what was first seen of it, and in which conversation."""
TIERS = ("mandatory", "capability", "advisory", "informational")


@dataclass(frozen=True, slots=True)
class Check:
    """Something that one side does or does not.

    `versions` are those that it is judged in, `open` how far a conversation is opened for it (`nothing`, `initialized`,
    `session`; of a client also `turn`), and `needs` the capability without which it is skipped, by version.
    """

    id: str
    title: str
    requirements: tuple[str, ...]
    tier: str
    versions: tuple[int, ...] = (1, 2)
    open: str = "session"
    needs: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check: pass, fail or skip (what it is about was not announced, or did not happen)."""

    check: Check
    verdict: str
    words: str = ""
    seconds: float = 0.0
    transcript: Transcript = ()


def conformant(outcomes: Sequence[Outcome]) -> bool:
    """No failure of what is mandatory or was announced."""
    return not [o for o in outcomes if o.verdict == "fail" and o.check.tier in ("mandatory", "capability")]


def watched(chosen: Sequence[Check], faults: Faults) -> list[Outcome]:
    """What was seen of that which is watched in all conversations."""
    found = ((check, *faults.get(check.id, ("", ()))) for check in chosen)
    return [Outcome(check, "fail" if words else "pass", words, 0.0, transcript) for check, words, transcript in found]


def gather(faults: Faults, seen: Sequence[tuple[str, str]], transcript: Transcript, where: str = "") -> None:
    """Keep the first fault of each kind."""
    for id, fault in seen:
        faults.setdefault(id, (fault + where, transcript))
