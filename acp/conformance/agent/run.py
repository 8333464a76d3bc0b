"""Runs checks against an agent: a fresh conversation each, under a watchdog. No check hangs."""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

import anyio

from ..running import Judged, Tell, judged, run_checks, silent
from ..side import CheckFailed, Skipped
from ..verdicts import Outcome, Report, Sightings
from .check import AgentCheck
from .checks import checks
from .conversation import Conversation
from .reach import Reach, Unreachable, reach_of
from .settings import AgentSettings
from .watch import SHOWN_BY


async def check_agent(
    target: str | Sequence[str] | Reach,
    settings: AgentSettings | None = None,
    *,
    only: Collection[str] = (),
    tell: Tell = silent,
) -> Report:
    """Judge an agent: a command line or its words, a URL, or any other way to reach one.

    `only` names checks, none means all; `tell` hears of each outcome as soon as it is known.
    """
    settings, reach, began = settings or AgentSettings(), reach_of(target), time.monotonic()
    seen = Sightings()
    run = functools.partial(run_check, reach, settings, seen=seen)
    every = checks(settings.version)
    outcomes = await run_checks(every, run, seen, only=only, shown_by=SHOWN_BY, jobs=settings.jobs, tell=tell)
    return Report("agent", str(reach), settings.version, outcomes, time.monotonic() - began, seen.hello)


async def run_check(reach: Reach, settings: AgentSettings, check: AgentCheck, seen: Sightings) -> Outcome:
    """Reach the agent and run a check in the conversation; what is seen goes into `seen`."""
    began = time.monotonic()
    verdict, words, talk = await converse(reach, settings, functools.partial(_hold, check), rich=check.rich)
    transcript = tuple(talk.transcript) if talk else ()
    if talk:
        seen.add(talk.watch.faults, talk.watch.judged, transcript, f" (in {check.id})")
        seen.hello |= talk.hello
    return Outcome(check, verdict, words, time.monotonic() - began, transcript)


async def converse(
    reach: Reach, settings: AgentSettings, hold: Callable[[Conversation], Awaitable[None]], *, rich: bool = False
) -> tuple[str, str, Conversation | None]:
    """Reach an agent and hold a conversation with it: the verdict, the words for it, and what it was, if it was one."""
    cwd = settings.session_cwd or tempfile.mkdtemp(prefix="acp-check-")
    talk: Conversation | None = None
    found: Judged = "fail", f"the watchdog ended it after {settings.watchdog:g} s"
    try:
        with anyio.move_on_after(settings.watchdog):
            async with reach() as line:
                talk = Conversation(line, settings, cwd, rich=rich)
                talk.again = reach
                found = await judged(functools.partial(hold, talk))
    except (CheckFailed, Unreachable, OSError) as error:
        found = "fail", str(error)
    finally:
        if settings.session_cwd is None:
            shutil.rmtree(cwd, ignore_errors=True)
    return found[0], found[1], talk


async def _hold(check: AgentCheck, talk: Conversation) -> None:
    if check.carriers and talk.line.carrier not in check.carriers:
        raise Skipped(f"only over {' and '.join(check.carriers)}")
    if check.open != "nothing":
        await talk.initialize()
        gate = (check.needs or {}).get(str(talk.version))
        if gate and not talk.announced(gate):
            raise Skipped(f"the agent does not announce {gate}")
    if check.open == "session":
        await talk.session()
    if check.run is not None:
        await check.run(talk)
