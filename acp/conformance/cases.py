"""Scripted conversations as data: `spec/cases/*.json`, and how they are played.

A file is a list of cases: `id`, `description`, `requirements`, `protocol` (versions), `side`, `tier`, `needs` (version
→ capability, or null), `open` (`nothing`, `initialized`, `session`; of a client also `turn`) and `steps`. A step is
`{"send": MESSAGE}`, `{"text": LINE}`, `{"expect": PATTERN}` or `{"await": PATTERN}`. An expectation with a method takes
the next message with that method, any other the next answer; what is awaited may come behind others. With
`"never": PATTERN` nothing that matches may come before it. `{"answered": true}`: every request that the case has sent
is answered, in any order.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .facts import SPEC, read
from .patterns import Variables, fill, mismatch
from .side import CheckFailed
from .walking import key

Json = Any
STEPS = {"send", "text", "expect", "await", "answered"}
OPENINGS = {"agent": ("nothing", "initialized", "session"), "client": ("nothing", "initialized", "session", "turn")}


class Talk(Protocol):
    """What a case is played in: a conversation with an agent, or the agent's part in one with a client."""

    variables: Variables

    async def text(self, text: bytes) -> None: ...

    async def send(self, message: dict[str, Json]) -> None: ...

    async def until(self, wanted: Callable[[dict[str, Json]], bool], what: str) -> dict[str, Json]: ...


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

    async def play(self, talk: Talk) -> None:
        """Hold the conversation; raises CheckFailed where the other side leaves it."""
        open: set[tuple[str, Json]] = set()
        for step in self.steps:
            if "send" in step:
                message = fill(step["send"], talk.variables)
                if "method" in message and "id" in message:
                    open.add(key(message["id"]))
                await talk.send(message)
            elif "answered" in step:
                if open:
                    await talk.until(lambda m: _closes(m, open) and not open, "answer to every request")
            elif "text" in step:
                await talk.text(step["text"].encode())
            else:
                await self._expect(step, talk, open)

    async def _expect(self, step: dict[str, Json], talk: Talk, open: set[tuple[str, Json]]) -> None:
        awaits = "await" in step
        pattern, never = step["await" if awaits else "expect"], step.get("never")
        method = pattern.get("method")

        def wanted(message: dict[str, Json]) -> bool:
            _closes(message, open)
            if never is not None and mismatch(never, message, dict(talk.variables)) is None:
                raise CheckFailed(f"this was not to come: {message}")
            if awaits:
                return mismatch(pattern, message, dict(talk.variables)) is None
            return message.get("method") == method if method else "method" not in message

        message = await talk.until(wanted, json.dumps(pattern) if awaits else method or "answer")
        if problem := mismatch(pattern, message, talk.variables):
            raise CheckFailed(f"{problem}; the message is {json.dumps(message)[:300]}")


def _closes(message: dict[str, Json], open: set[tuple[str, Json]]) -> bool:
    """Take note of an answer. Is it one?"""
    if "method" not in message:
        open.discard(key(message.get("id")))
    return "method" not in message


def read_case(row: dict[str, Json]) -> Case:
    """A case from JSON. Raises ValueError for one that makes no sense."""
    try:
        lists: dict[str, Any] = {name: tuple(row[name]) for name in ("requirements", "protocol", "steps")}
        case = Case(**(row | lists))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no case: {error}") from None
    if case.open not in OPENINGS.get(case.side, ()):
        raise ValueError(f"{case.id}: unknown opening or side")
    if any(len(STEPS & step.keys()) != 1 or step.keys() - STEPS - {"never"} for step in case.steps):
        raise ValueError(f"{case.id}: a step is none of {sorted(STEPS)}")
    return case


@functools.cache
def cases(side: str = "agent") -> tuple[Case, ...]:
    """All cases of a side under test, checked for sense. Raises ValueError for one that is none."""
    found: list[Case] = []
    for path in sorted(SPEC.joinpath("cases").iterdir(), key=lambda path: path.name):
        rows: list[dict[str, Any]] = read("cases", path.name)
        for row in rows:
            case = read_case(row)
            if case.side == side:
                found.append(case)
    if len({case.id for case in found}) < len(found):
        raise ValueError("two cases share an id")
    return tuple(found)
