"""Scripted conversations as data: `spec/cases/*.json`, and how they are played.

A file is a list of cases: `id`, `description`, `requirements`, `protocol` (versions), `side`, `tier`, `needs` (version
→ capability, or null), `open` (`nothing`, `initialized` or `session`) and `steps`. A step is `{"send": MESSAGE}`,
`{"text": LINE}` or `{"expect": PATTERN}`. An expectation with a method takes the next message with that method, any
other the next answer; with `"never": PATTERN` nothing that matches may come before it.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from .conversation import CheckFailed, Conversation
from .patterns import fill, mismatch
from .requirements import SPEC

Json = Any
STEPS = {"send", "text", "expect"}


@dataclass(frozen=True, slots=True)
class Case:
    """One scripted conversation."""

    id: str
    description: str
    requirements: tuple[str, ...]
    protocol: tuple[int, ...]
    tier: str
    steps: tuple[dict[str, Json], ...]
    open: str = "session"
    side: str = "agent"
    needs: dict[str, str] | None = None

    async def play(self, talk: Conversation) -> None:
        """Hold the conversation; raises CheckFailed where the agent leaves it."""
        for step in self.steps:
            if "send" in step:
                await talk.send(fill(step["send"], talk.variables))
            elif "text" in step:
                await talk.text(step["text"].encode())
            else:
                await self._expect(step, talk)

    async def _expect(self, step: dict[str, Json], talk: Conversation) -> None:
        pattern, never = step["expect"], step.get("never")
        method = pattern.get("method")

        def wanted(message: dict[str, Json]) -> bool:
            if never is not None and mismatch(never, message, dict(talk.variables)) is None:
                raise CheckFailed(f"this was not to come: {message}")
            return message.get("method") == method if method else "method" not in message

        message = await talk.until(wanted, method or "answer")
        if problem := mismatch(pattern, message, talk.variables):
            raise CheckFailed(f"{problem}; the message is {json.dumps(message)[:300]}")


@functools.cache
def cases() -> tuple[Case, ...]:
    """All cases, checked for sense. Raises ValueError for one that is none."""
    found: list[Case] = []
    for path in sorted((SPEC / "cases").glob("*.json")):
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            lists: dict[str, Any] = {key: tuple(row[key]) for key in ("requirements", "protocol", "steps")}
            case = Case(**(row | lists))
            if case.open not in ("nothing", "initialized", "session") or case.side != "agent":
                raise ValueError(f"{path.name}: {case.id}: unknown opening or side")
            if any(len(STEPS & step.keys()) != 1 or step.keys() - STEPS - {"never"} for step in case.steps):
                raise ValueError(f"{path.name}: {case.id}: a step is none of {sorted(STEPS)}")
            found.append(case)
    if len({case.id for case in found}) < len(found):
        raise ValueError("two cases share an id")
    return tuple(found)
