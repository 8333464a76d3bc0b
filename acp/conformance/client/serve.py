"""An agent to point an editor at: prompts that name checks play them, and all that the editor says is judged."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence

import anyio

from ..running import Tell, silent
from ..side import Gone, Message
from ..verdicts import Outcome, Report, Sightings
from ..walking import obj, objects
from .agents import RICH
from .checks import ClientCheck, client_checks
from .part import Part
from .run import judge
from .settings import ClientSettings
from .stage import open_stage

ENDS = ("end.", "close.")
"""Checks that end the conversation, and are not for this."""
BY_HAND = "cancel."
"""Checks that want the turn to be cancelled by hand, and are played by name only."""


async def serve(
    path: str | os.PathLike[str],
    settings: ClientSettings,
    say: Callable[[str], object],
    *,
    tell: Tell = silent,
) -> Report:
    """Wait for one client at a socket, play what it asks for, and judge it when it has gone. Raises OSError."""
    checks, began = client_checks(settings.version), time.monotonic()
    played: dict[str, Outcome] = {}
    async with open_stage(str(await anyio.Path(path).absolute())) as stage:
        say(f"the agent's command: {shlex.join(stage.command)}")
        async with await stage.enter() as wire:
            part = Part(wire, settings.version, settings.timeout)
            part.announce = RICH[settings.version]
            try:
                while True:
                    message = await part.hear()
                    if message.get("method") == "session/prompt" and "id" in message:
                        await part.begin(message)
                        await _play(part, _named(message, checks), played, tell)
                        await part.end_turn()
                    else:
                        await part.serve(message)
            except Gone:
                pass
    seen = Sightings()
    seen.add(part.watch.faults, part.watch.judged, tuple(part.transcript))
    watched = [seen.outcome(check) for check in checks if check.run is None]
    for outcome in watched:
        tell(outcome)
    outcomes = (*played.values(), *watched)
    return Report("client", f"at {path}", settings.version, outcomes, time.monotonic() - began, part.watch.hello)


def _named(message: Message, checks: Sequence[ClientCheck]) -> list[ClientCheck]:
    """The checks that a prompt names."""
    texts = [str(block.get("text", "")) for block in objects(obj(message.get("params")).get("prompt"))]
    words = " ".join(texts).replace(",", " ").split()
    able = [check for check in checks if check.open == "turn" and not check.id.startswith(ENDS)]
    if "all" in words:
        return [check for check in able if not check.id.startswith(BY_HAND)]
    return [check for check in able if check.id in words]


async def _play(
    part: Part, checks: Sequence[ClientCheck], played: dict[str, Outcome], tell: Callable[[Outcome], None]
) -> None:
    if not checks:
        able = [c.id for c in client_checks(part.version) if c.open == "turn" and not c.id.startswith(ENDS)]
        await part.say(f"Name checks, or say all. There are {', '.join(able)}.")
    for check in checks:
        began, from_here = time.monotonic(), len(part.transcript)
        part.cancelled = False
        if check.id.startswith(BY_HAND):
            await part.say(f"{check.id}: cancel this turn, please. ")
        verdict, words = "fail", f"the watchdog ended it after {3 * part.patience:g} s"
        with anyio.move_on_after(3 * part.patience):
            verdict, words = await judge(part, check, opened=True)
        transcript = tuple(part.transcript[from_here:])
        played[check.id] = outcome = Outcome(check, verdict, words, time.monotonic() - began, transcript)
        tell(outcome)
        if part.gone:
            return
        if part.prompts:
            await part.say(f"{verdict} {check.id} {words}\n\n")
