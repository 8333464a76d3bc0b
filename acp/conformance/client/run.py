"""Runs checks against a client: a fresh process each, under a watchdog. No check hangs."""

from __future__ import annotations

import functools
import shlex
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence

import anyio

from ..running import Judged, Tell, judged, run_checks, silent
from ..side import CheckFailed, Skipped
from ..verdicts import Outcome, Report, Sightings, Transcript
from .agents import RICH
from .checks import ClientCheck, client_checks
from .part import Part
from .settings import ClientSettings
from .stage import Command, NotStarted, Reach, with_agent
from .watch import SHOWN_BY


async def check_client(
    target: str | Sequence[str] | Reach,
    settings: ClientSettings | None = None,
    *,
    only: Collection[str] = (),
    tell: Tell = silent,
) -> Report:
    """Judge a client: a command line or its words, with `{agent}` in them, or any other way to start one.

    `only` names checks, none means all; `tell` hears of each outcome as soon as it is known. Raises ValueError for a
    command that has no place for the agent's.
    """
    settings, reach, began = settings or ClientSettings(), reach_of(target), time.monotonic()
    seen = Sightings()
    run = functools.partial(run_check, reach, settings, seen=seen)
    every = client_checks(settings.version)
    outcomes = await run_checks(every, run, seen, only=only, shown_by=SHOWN_BY, jobs=settings.jobs, tell=tell)
    return Report("client", str(reach), settings.version, outcomes, time.monotonic() - began, seen.hello)


def reach_of(target: str | Sequence[str] | Reach) -> Reach:
    """The way to start a client; a way is one already. Raises ValueError."""
    if not isinstance(target, str | Sequence):
        return target
    argv = shlex.split(target) if isinstance(target, str) else list(target)
    with_agent(argv, [], "")  # for its complaint
    return Command(argv)


async def run_check(reach: Reach, settings: ClientSettings, check: ClientCheck, seen: Sightings) -> Outcome:
    """Start a client and run a check in its conversation; what is seen goes into `seen`."""
    began = time.monotonic()
    cwd = settings.cwd or tempfile.mkdtemp(prefix="acp-check-")
    part: Part | None = None
    transcript: Transcript = ()
    verdict, words = "fail", f"the watchdog ended it after {settings.watchdog:g} s"
    try:
        with anyio.move_on_after(settings.watchdog):
            async with reach(cwd, settings.startup) as (player, wire):
                part = Part(wire, settings.version, settings.timeout, player)
                part.startup = settings.startup
                part.turn_wanted, part.interrupts = settings.turn, settings.interrupt
                verdict, words = await judge(part, check)
                transcript = tuple(part.transcript)  # what comes after the verdict is only watched
                await part.finish(settings.linger)
    except (CheckFailed, NotStarted, OSError) as error:
        verdict, words = "fail", str(error)
    finally:
        if settings.cwd is None:
            shutil.rmtree(cwd, ignore_errors=True)
    if part:
        seen.add(part.watch.faults, part.watch.judged, tuple(part.transcript), f" (in {check.id})")
        seen.hello |= part.watch.hello
        transcript = transcript or tuple(part.transcript)
    return Outcome(check, verdict, words, time.monotonic() - began, transcript)


async def judge(part: Part, check: ClientCheck, *, opened: bool = False) -> Judged:
    """Run a check, in a conversation that is opened as far as the check wants it, or has been."""

    async def hold() -> None:
        if not opened:
            await _open(part, check)
        if words := missing(part, check):
            raise Skipped(words)
        if check.run is not None:
            await check.run(part)

    return await judged(hold)


async def _open(part: Part, check: ClientCheck) -> None:
    if check.rich:
        part.announce = RICH[part.version]
    if check.open != "nothing":
        await part.initialize()
        if words := missing(part, check):
            raise Skipped(words)
    if check.open in ("session", "turn"):
        await part.session()
    if check.open == "turn":
        await part.turn()


def missing(part: Part, check: ClientCheck) -> str:
    """Why a check is not for this client; nothing if it is."""
    gate, other = ((names or {}).get(str(part.version)) for names in (check.needs, check.unless))
    if gate and not part.announced(gate):
        return f"the client does not announce {gate}"
    return f"the client announces {other}" if other and part.announced(other) else ""
