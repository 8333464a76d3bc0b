"""`acp check explore [OPTION]... -- COMMAND`: conversations that nobody wrote, and the shortest one that fails.

Hypothesis draws valid requests from the schema, in any order after a session was set up; prompts, directories and
servers are tame ones, and nothing that changes accounts is asked. Every request has to be answered, once and under its
id, with what fits the schema, and the agent has to live. A failure is shrunk and written as a case for `acp check
replay`.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from ...command_line import missing, split_command
from ..cases import Case, read_case
from ..facts import read
from ..replay import play
from ..report import shown
from ..verdicts import Transcript
from .strategies import Values

Json = Any
Steps = list[dict[str, Json]]
PROMPT = "Say hello."
FIRST_ID = 100
LEFT_OUT = {"initialize", "authenticate", "logout", "auth/login", "auth/logout", "providers/set", "providers/disable"}
"""Requests that begin a conversation, or change what is not of this conversation."""
TURNS = {"session/prompt", "session/load", "session/resume"}
"""Requests that bring updates; of these one at a time, for whose updates they are could not be told."""
TAME: dict[str, Json] = {"cwd": "$cwd", "mcpServers": [], "additionalDirectories": None, "systemPrompt": None}
"""What takes the place of what was drawn; None: nothing does."""


def conversations(version: int, prompt: str = PROMPT) -> st.SearchStrategy[Steps]:
    """Steps of a case, after a session was set up."""
    document = read(f"v{version}", "schema.json")
    values = Values(document)
    requests = {
        row["x-method"]: values.valid(name)
        for name, row in document["$defs"].items()
        if name.endswith("Request") and row.get("x-side") == "agent" and row["x-method"] not in LEFT_OUT
    }
    notifications = st.sampled_from(["session/cancel", "$/cancel_request", "_check/told"])
    methods = st.sampled_from(["session/prompt", *sorted(requests), "_check/ask"])

    @st.composite
    def step(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Json]:
        if draw(st.integers(0, 4)) == 0:
            return _notification(draw(notifications), FIRST_ID + draw(st.integers(0, 9)))
        method = draw(methods)
        params: dict[str, Json] = draw(requests[method]) if method in requests else {}
        return {
            "method": method,
            "params": _tame(method, params, prompt, draw(st.integers(0, 4)) > 0),
            "id": draw(st.sampled_from(["", "id-"])),
            "wait": draw(st.booleans()),
        }

    return st.lists(step(), max_size=12).map(_steps)


def _notification(method: str, number: int) -> dict[str, Json]:
    params: dict[str, Json] = {"session/cancel": {"sessionId": "$session"}, "$/cancel_request": {"requestId": number}}
    return {"method": method, "params": params.get(method, {})}


def _tame(method: str, params: dict[str, Json], prompt: str, of_session: bool) -> dict[str, Json]:
    """The params, with nothing in them that costs much or starts anything."""
    tame = {name: TAME.get(name, value) for name, value in params.items()}
    tame = {name: value for name, value in tame.items() if name not in TAME or value is not None}
    if "sessionId" in tame and of_session:
        tame["sessionId"] = "$session"
    if method == "session/prompt":
        tame["prompt"] = [{"type": "text", "text": prompt}]
    return tame


def _steps(drawn: list[dict[str, Json]]) -> Steps:
    """What was drawn as steps: ids in order, one turn at a time, and all answered at the end."""
    steps: Steps = []
    turn = False
    for number, row in enumerate(drawn, FIRST_ID):
        message = {"method": row["method"], "params": row["params"]}
        if turn and row["method"] in TURNS:
            steps.append({"answered": True})
        turn = row["method"] in TURNS or turn
        if "id" in row:
            message["id"] = f"{row['id']}{number}" if row["id"] else number
        steps.append({"send": message})
        if row.get("wait"):
            steps.append({"answered": True})
            turn = False
    if not steps or "answered" not in steps[-1]:
        steps.append({"answered": True})
    return steps


@dataclass(slots=True)
class Found:
    """The shortest conversation that failed, and how many were held."""

    held: int = 0
    case: Case | None = None
    steps: Steps = field(default_factory=list[dict[str, Json]])
    words: str = ""
    transcript: Transcript = ()

    def row(self, version: int) -> dict[str, Json]:
        """The case as its file has it."""
        return {
            "id": "explored",
            "description": self.words.splitlines()[0] if self.words else "",
            "requirements": ["ACP-007", "ACP-013"],
            "protocol": [version],
            "side": "agent",
            "tier": "mandatory",
            "open": "session",
            "steps": self.steps,
        }


def explore(
    argv: Sequence[str],
    *,
    version: int = 1,
    examples: int = 100,
    seconds: float = 120.0,
    timeout: float = 10.0,
    seed: int = 0,
    prompt: str = PROMPT,
) -> Found:
    """Hold so many conversations with an agent, each with a fresh process, within about so many seconds."""
    found = Found()
    until = time.monotonic() + seconds

    def fails(steps: Steps) -> bool:
        if time.monotonic() > until:
            return False
        found.held += 1
        trial = Found(steps=steps)
        case = read_case(trial.row(version))
        words, transcript = anyio.run(functools.partial(play, case, argv, version, timeout))
        if words and (not found.words or _size(steps) <= _size(found.steps)):
            found.case, found.steps, found.words, found.transcript = case, steps, words, transcript
        return bool(words)

    how = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    with suppress(HypothesisException):  # nothing fails, or not each time, or the time is up: what failed is kept
        find(conversations(version, prompt), fails, settings=how, random=random.Random(seed))
    return found


def _size(steps: Steps) -> tuple[int, int]:
    return len(steps), len(json.dumps(steps))


def main(argv: Sequence[str] | None = None) -> int:
    """0 if nothing failed, 1 if something did, 2 if the command line makes no sense."""
    words, command = split_command(argv)
    parser = argparse.ArgumentParser(prog="acp check explore", description=__doc__)
    parser.add_argument("--protocol", type=int, choices=[1, 2], default=1)
    parser.add_argument("--examples", type=int, default=100, help="conversations, each with a fresh agent")
    parser.add_argument("--seconds", type=float, default=120.0, help="for all of it, shrinking included")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each wait")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt", default=PROMPT, help="what prompts say; should end soon")
    parser.add_argument("--save", metavar="CASE.json", type=Path, default=Path("explored.json"))
    options = parser.parse_args(words)
    if not command:
        print("acp check explore: give the agent's command after --", file=sys.stderr)
        return 2
    if problem := missing(command):
        print(f"acp check explore: {problem}", file=sys.stderr)
        return 2
    names = ("examples", "seconds", "timeout", "seed", "prompt")
    given = {name: getattr(options, name) for name in names}
    found = explore(command, version=options.protocol, **given)
    if not found.words:
        print(f"{found.held} conversations, none failed")
        return 0
    options.save.write_text(json.dumps([found.row(options.protocol)], ensure_ascii=False, indent=1), encoding="utf-8")
    print(shown(found.transcript))
    print(f"after {found.held} conversations: {found.words}\nacp check replay {options.save} -- COMMAND plays it again")
    return 1
