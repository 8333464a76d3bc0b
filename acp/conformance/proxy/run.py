"""Runs checks against a proxy: a fresh process each, under a watchdog. No check hangs."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import anyio

from ..agent.reach import Reach, Unreachable, reach_of
from ..running import Judged, Tell, judged, run_checks, silent
from ..side import CheckFailed
from ..verdicts import Check, Outcome, Report, Sightings
from .checks import proxy_checks
from .middle import SHOWN_BY, Middle


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How a proxy is driven. `timeout` bounds each wait in seconds; three times as long bounds a check."""

    version: int = 1
    timeout: float = 10.0
    startup_timeout: float | None = None
    test_timeout: float | None = None
    jobs: int = 1

    @property
    def startup(self) -> float:
        return self.timeout if self.startup_timeout is None else self.startup_timeout

    @property
    def watchdog(self) -> float:
        return 3 * max(self.timeout, self.startup) if self.test_timeout is None else self.test_timeout


async def check_proxy(
    target: str | Sequence[str] | Reach,
    settings: ProxySettings | None = None,
    *,
    only: Collection[str] = (),
    tell: Tell = silent,
) -> Report:
    """Judge a proxy, the checker being its conductor: a command line or its words, or another way to reach one."""
    settings, reach, began = settings or ProxySettings(), reach_of(target), time.monotonic()
    seen = Sightings()
    run = functools.partial(run_check, reach, settings, seen=seen)
    every = proxy_checks(settings.version)
    outcomes = await run_checks(every, run, seen, only=only, shown_by=SHOWN_BY, jobs=settings.jobs, tell=tell)
    return Report("proxy", str(reach), settings.version, outcomes, time.monotonic() - began)


async def run_check(reach: Reach, settings: ProxySettings, check: Check, seen: Sightings) -> Outcome:
    """Reach the proxy and run a check in the conversation; what is seen goes into `seen`."""
    began = time.monotonic()
    talk: Middle | None = None
    found: Judged = "fail", f"the watchdog ended it after {settings.watchdog:g} s"
    try:
        with anyio.move_on_after(settings.watchdog):
            async with reach() as line:
                talk = middle = Middle(line, settings.version, settings.timeout)
                middle.startup = settings.startup

                async def hold() -> None:
                    if check.open != "nothing":
                        await middle.initialize()
                    if check.run is not None:
                        await check.run(middle)

                found = await judged(hold)
    except (CheckFailed, Unreachable, OSError) as error:
        found = "fail", str(error)
    transcript = tuple(talk.transcript) if talk else ()
    if talk:
        seen.add(talk.watch.faults, talk.watch.judged, transcript, f" (in {check.id})")
    return Outcome(check, *found, time.monotonic() - began, transcript)
