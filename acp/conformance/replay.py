"""`acp check replay CASE.json [OPTION]... -- COMMAND`: hold one scripted conversation, and show it.

A case file is a case of `spec/cases`, or a list of them; `acp check explore` writes one. Besides what the case expects,
an agent has to keep what is watched in every conversation, and to live at its end.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from ..command_line import missing, split_command
from .agent.conversation import Conversation
from .agent.reach import reach_of
from .agent.run import converse
from .agent.settings import AgentSettings
from .agent.watch import WATCHED
from .cases import Case, read_case
from .client.checks import ClientCheck
from .client.run import reach_of as client_of
from .client.run import run_check
from .client.settings import ClientSettings
from .report import shown
from .verdicts import BINDING, Sightings, Transcript


async def play(case: Case, argv: Sequence[str], version: int, timeout: float) -> tuple[str, Transcript]:
    """What an agent does wrong in a case, or nothing; and all that was said. Takes at most thrice the timeout."""
    settings = AgentSettings(version=version, timeout=timeout)
    verdict, words, talk = await converse(reach_of(argv), settings, functools.partial(_play, case))
    if talk is not None and verdict == "pass":
        binding = {check.id for check in WATCHED if check.tier in BINDING}
        words = next((fault for id, fault in talk.watch.faults if id in binding), "")
    return words, tuple(talk.transcript) if talk else ()


async def _play(case: Case, talk: Conversation) -> None:
    if case.open != "nothing":
        await talk.initialize()
    if case.open == "session":
        await talk.session()
    await case.play(talk)
    if case.open != "nothing":
        await talk.alive()


async def play_client(case: Case, argv: Sequence[str], version: int, timeout: float) -> tuple[str, Transcript]:
    """What a client does wrong in a case, or nothing; and all that was said."""
    check = ClientCheck(case.id, case.description, case.requirements, case.tier, open=case.open, run=case.play)
    seen = Sightings()
    settings = ClientSettings(version=version, timeout=timeout)
    outcome = await run_check(client_of(argv), settings, check, seen)
    words = outcome.words if outcome.verdict == "fail" else ""
    return words or next((fault for fault, _ in seen.faults.values()), ""), outcome.transcript


def main(argv: Sequence[str] | None = None) -> int:
    """0 if all went well, 1 if not, 2 if the command line makes no sense."""
    words, command = split_command(argv)
    parser = argparse.ArgumentParser(prog="acp check replay", description=__doc__)
    parser.add_argument("case", metavar="CASE.json", type=Path)
    parser.add_argument("--protocol", type=int, choices=[1, 2], help="default: the case's first")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each wait")
    options = parser.parse_args(words)
    if not command:
        print("acp check replay: give a command after --", file=sys.stderr)
        return 2
    if problem := missing(command):
        print(f"acp check replay: {problem}", file=sys.stderr)
        return 2
    try:
        rows: Any = json.loads(options.case.read_text(encoding="utf-8"))
        cases = [read_case(row) for row in (rows if isinstance(rows, list) else [rows])]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    except (OSError, ValueError, TypeError) as error:
        print(f"acp check replay: {options.case}: {error}", file=sys.stderr)
        return 2
    failed = False
    for case in cases:
        run = play if case.side == "agent" else play_client
        version = options.protocol or case.protocol[0]
        words, transcript = anyio.run(functools.partial(run, case, command, version, options.timeout))
        print(shown(transcript))
        print(f"{'fail' if words else 'pass'} {case.id}: {words or case.description}")
        failed |= bool(words)
    return 1 if failed else 0
