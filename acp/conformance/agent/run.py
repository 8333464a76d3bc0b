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

from ...transports.child import spawn_agent
from ..asking import CheckFailed
from ..verdicts import Faults, Outcome, gather, watched
from .checks import AgentCheck, checks
from .conversation import Conversation

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


async def _one(argv: Sequence[str], settings: Settings, check: AgentCheck, faults: Faults) -> Outcome:
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


async def _judge(check: AgentCheck, talk: Conversation) -> tuple[str, str]:
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
