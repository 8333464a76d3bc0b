"""Runs checks against a client's command: a fresh process each, under a watchdog. No check hangs."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from ...tasks import task_group
from ..asking import CheckFailed
from ..verdicts import Faults, Outcome, Transcript, gather, watched
from .agents import RICH
from .checks import ClientCheck, client_checks
from .part import Part, Skipped
from .stage import NotStarted, open_stage, start_client, with_agent
from .watch import SHOWN_BY


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client is driven. `timeout` bounds each wait; three times as long bounds a check.

    `says` goes to its stdin, `turn` is the prompt that the checks are about (a client may go through several), and
    `linger` is how long a client is listened to after its turn; `jobs` clients run at once.
    Without `interrupt` a client cancels a turn by itself once it has begun; else SIGINT makes it.
    """

    version: int = 1
    timeout: float = 10.0
    linger: float = 1.0
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    says: str | None = None
    turn: int = 1
    interrupt: bool = True
    jobs: int = 1


async def check_client(
    argv: Sequence[str],
    settings: ClientSettings | None = None,
    *,
    only: Collection[str] = (),
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Judge the client that a command starts; `only` names checks, none means all.

    The command has `{agent}` in it. Raises ValueError if it has not.
    """
    settings = settings or ClientSettings()
    every = client_checks(settings.version)
    chosen = [check for check in every if not only or check.id in only]
    active = [check for check in chosen if check.part is not None]
    if not active:
        shows = {id for check in chosen for id in SHOWN_BY.get(check.id, ("turn.tour",))}
        active = [check for check in every if check.id in shows]
    faults: Faults = {}
    found: dict[str, Outcome] = {}
    limit = anyio.CapacityLimiter(settings.jobs)
    with_agent(argv, [], "")  # for its complaint

    async def run(check: ClientCheck) -> None:
        async with limit:
            found[check.id] = await run_check(argv, settings, check, faults)
        if check in chosen:
            tell(found[check.id])

    async with task_group() as group:
        for check in active:
            group.start_soon(run, check)
    if not any(who == "client" for outcome in found.values() for who, _ in outcome.transcript):
        silence: tuple[str, Transcript] = "nothing was heard of the client", ()
        faults = {check.id: silence for check in chosen}
    for outcome in watched([check for check in chosen if check.part is None], faults):
        found[outcome.check.id] = outcome
        tell(outcome)
    return [found[check.id] for check in chosen]


async def run_check(argv: Sequence[str], settings: ClientSettings, check: ClientCheck, faults: Faults) -> Outcome:
    """Start a client and run a check in its conversation; the faults that are seen go into `faults`."""
    began = time.monotonic()
    cwd = settings.cwd or tempfile.mkdtemp(prefix="acp-check-")
    part: Part | None = None
    transcript: Transcript = ()
    verdict, words = "fail", f"the watchdog ended it after {3 * settings.timeout:g} s"
    try:
        with anyio.move_on_after(3 * settings.timeout):
            async with (
                open_stage() as stage,
                start_client(argv, stage, cwd=cwd, env=settings.env, says=settings.says) as player,
                await player.enter(settings.timeout) as wire,
            ):
                part = Part(wire, settings.version, settings.timeout, player)
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
        gather(faults, part.watch.faults, tuple(part.transcript), f" (in {check.id})")
    if part and not transcript:
        transcript = tuple(part.transcript)
    return Outcome(check, verdict, words, time.monotonic() - began, transcript)


async def judge(part: Part, check: ClientCheck, *, opened: bool = False) -> tuple[str, str]:
    """Run a check, in a conversation that is opened as far as the check wants it, or has been."""
    try:
        if not opened:
            await _open(part, check)
        if words := missing(part, check):
            return "skip", words
        if check.part is not None:
            await check.part(part)
    except Skipped as reason:
        return "skip", str(reason)
    except CheckFailed as failure:
        return "fail", str(failure)
    except (KeyError, TypeError, AttributeError) as error:
        return "fail", f"an answer has another shape than it should: {error!r}"
    return "pass", ""


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
