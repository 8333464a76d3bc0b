"""Runs checks against an agent's command: a fresh process each, under a watchdog. No check hangs."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from ..transports.child import spawn_agent
from .asking import CheckFailed
from .checks import Check, checks
from .conversation import Conversation

Transcript = tuple[tuple[str, str], ...]
Faults = dict[str, tuple[str, Transcript]]
"""Watched check → what was first seen of it, and in which conversation."""
TOUR = "turn.tour"
CANCEL_PROMPT = "Count slowly to one thousand."


@dataclass(frozen=True, slots=True)
class Settings:
    """How an agent is driven. `timeout` bounds each wait; three times as long bounds a check."""

    version: int = 1
    timeout: float = 10.0
    cancel_prompt: str = CANCEL_PROMPT
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check: pass, fail or skip (the agent did not announce what it is about)."""

    check: Check
    verdict: str
    words: str = ""
    seconds: float = 0.0
    transcript: Transcript = ()


def conformant(outcomes: Sequence[Outcome]) -> bool:
    """No failure of what is mandatory or was announced."""
    return not [o for o in outcomes if o.verdict == "fail" and o.check.tier in ("mandatory", "capability")]


async def check_agent(
    argv: Sequence[str],
    settings: Settings | None = None,
    *,
    only: Collection[str] = (),
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Judge the agent that a command starts; `only` names checks, none means all."""
    settings = settings or Settings()
    chosen = [check for check in checks(settings.version) if not only or check.id in only]
    silent = [check for check in chosen if check.run is None]
    active = [check for check in chosen if check.run is not None]
    if silent and not active:
        active = [check for check in checks(settings.version) if check.id == TOUR]
    faults: Faults = {}
    outcomes: list[Outcome] = []
    for check in active:
        outcome = await _one(argv, settings, check, faults)
        if check in chosen:
            outcomes.append(outcome)
            tell(outcome)
    for outcome in watched(silent, faults):
        outcomes.append(outcome)
        tell(outcome)
    return outcomes


def watched(chosen: Sequence[Check], faults: Faults) -> list[Outcome]:
    """What was seen of that which is watched in all conversations."""
    found = ((check, *faults.get(check.id, ("", ()))) for check in chosen)
    return [Outcome(check, "fail" if words else "pass", words, 0.0, transcript) for check, words, transcript in found]


def gather(faults: Faults, seen: Sequence[tuple[str, str]], transcript: Transcript, where: str = "") -> None:
    """Keep the first fault of each kind."""
    for id, fault in seen:
        faults.setdefault(id, (fault + where, transcript))


async def _one(argv: Sequence[str], settings: Settings, check: Check, faults: Faults) -> Outcome:
    began = time.monotonic()
    verdict, words, talk = await converse(argv, settings, functools.partial(_judge, check))
    transcript = tuple(talk.transcript) if talk else ()
    gather(faults, talk.watch.faults if talk else (), transcript, f" (in {check.id})")
    return Outcome(check, verdict, words, time.monotonic() - began, transcript)


async def converse(
    argv: Sequence[str], settings: Settings, hold: Callable[[Conversation], Awaitable[tuple[str, str]]]
) -> tuple[str, str, Conversation | None]:
    """Start an agent and hold a conversation with it: the verdict, the words for it, and what it was, if it was one."""
    cwd = settings.cwd or tempfile.mkdtemp(prefix="acp-check-")
    talk: Conversation | None = None
    verdict, words = "fail", f"the watchdog ended it after {3 * settings.timeout:g} s"
    try:
        with anyio.move_on_after(3 * settings.timeout):
            async with spawn_agent(argv, cwd=cwd, env={**os.environ, **settings.env}, patience=0.5) as transport:
                talk = Conversation(transport, settings.version, cwd, settings.timeout, settings.cancel_prompt)
                verdict, words = await hold(talk)
    except (CheckFailed, OSError) as error:
        verdict, words = "fail", str(error)
    finally:
        if settings.cwd is None:
            shutil.rmtree(cwd, ignore_errors=True)
    return verdict, words, talk


async def _judge(check: Check, talk: Conversation) -> tuple[str, str]:
    try:
        if check.open != "nothing":
            await talk.initialize()
            gate = (check.needs or {}).get(str(talk.version))
            if gate and not talk.announced(gate):
                return "skip", f"the agent does not announce {gate}"
        if check.open == "session":
            await talk.session()
        if check.run is not None:
            await check.run(talk)
    except CheckFailed as failure:
        return "fail", str(failure)
    except (KeyError, TypeError, AttributeError) as error:
        return "fail", f"an answer has another shape than it should: {error!r}"
    return "pass", ""
