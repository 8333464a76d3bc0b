"""What is checked, and what came of it: the values that every run gives and every report shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .walking import Json, Object, obj

Transcript = tuple[tuple[str, str], ...]
TIERS = ("mandatory", "capability", "advisory", "informational")
VERDICTS = ("pass", "fail", "skip")
BINDING = ("mandatory", "capability")
"""The tiers whose failures make a verdict."""
NOTHING_SEEN = "nothing to judge: no conversation showed it"


@dataclass(frozen=True, slots=True)
class Check:
    """Something that one side does or does not.

    `versions` are those that it is judged in, `open` how far a conversation is opened for it (`nothing`, `initialized`,
    `session`; of a client also `turn`), and `needs` the capability without which it is skipped, by version. `run` plays
    it in a conversation; None is for what is watched in all of them.
    """

    id: str
    title: str
    requirements: tuple[str, ...]
    tier: str
    versions: tuple[int, ...] = (1, 2)
    open: str = "session"
    needs: dict[str, str] | None = None
    run: Callable[[Any], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check: pass, fail or skip (what it is about was not announced, or did not happen)."""

    check: Check
    verdict: str
    words: str = ""
    seconds: float = 0.0
    transcript: Transcript = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run: who was judged, in which version, and every outcome.

    `hello` is what the side under test said of itself: the answer to initialize of an agent, its params of a client.
    """

    side: str
    subject: str
    version: int
    outcomes: tuple[Outcome, ...]
    seconds: float = 0.0
    hello: Object = field(default_factory=dict[str, Json])
    when: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def conformant(self) -> bool:
        """Something was judged, and nothing failed of what is mandatory or was announced."""
        return any(o.verdict == "pass" for o in self.outcomes) and not self.failed(*BINDING)

    @property
    def name(self) -> str:
        """The name and version that the side under test gives itself, or its command or address."""
        found = [obj(self.hello[key]) for key in ("agentInfo", "clientInfo", "info") if self.hello.get(key)]
        info = found[0] if found else obj(None)
        return " ".join(str(info[key]) for key in ("name", "version") if info.get(key)) or self.subject

    def failed(self, *tiers: str) -> list[Outcome]:
        """The failures, of these tiers if any are named."""
        return [o for o in self.outcomes if o.verdict == "fail" and (not tiers or o.check.tier in tiers)]

    def count(self, verdict: str, tier: str | None = None) -> int:
        return sum(o.verdict == verdict and tier in (None, o.check.tier) for o in self.outcomes)


@dataclass(slots=True)
class Sightings:
    """What all conversations of a run have shown of that which is watched in each."""

    faults: dict[str, tuple[str, Transcript]] = field(default_factory=dict[str, tuple[str, Transcript]])
    judged: set[str] = field(default_factory=set[str])
    hello: Object = field(default_factory=dict[str, Json])
    """What the side under test said of itself."""

    def add(self, faults: Sequence[tuple[str, str]], judged: set[str], transcript: Transcript, where: str = "") -> None:
        """Keep the first fault of each kind."""
        self.judged |= judged
        for id, words in faults:
            self.faults.setdefault(id, (words + where, transcript))

    def outcome(self, check: Check) -> Outcome:
        """What came of a check that is watched."""
        if check.id in self.faults:
            words, transcript = self.faults[check.id]
            return Outcome(check, "fail", words, 0.0, transcript)
        seen = check.id in self.judged
        return Outcome(check, "pass" if seen else "skip", "" if seen else NOTHING_SEEN)
