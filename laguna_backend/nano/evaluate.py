"""`laguna eval nano`: what laguna-nano can do, measured through the real agent over ACP.

Each task gets a fresh directory and a session of its own with `acp agent`; names, texts and phrasings are those kept
from training. A task counts when the tools called, the files left behind and the answer are all right. The last line
is JSON: tasks, passed, success_rate.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from acp.updates import MessageChunk, TextBlock, ToolCall
from acp_client import Client, Host, allow_all, connect

from .names import Names
from .tasks import FAMILIES, Task, draw, play
from .world import World, clean

TURN_SECONDS = 120.0


@dataclass
class Outcome:
    """What the agent did with a task."""

    calls: list[tuple[str, object]] = field(default_factory=list[tuple[str, object]])
    answer: str = ""
    files: dict[str, str] = field(default_factory=dict[str, str])
    stop_reason: str = ""


def runnable(names: Names, world: World) -> str:
    """A command with a known end, for a task of the family `run`: a script in the workspace, or a plain tool."""
    rng = names.rng
    code = 0 if rng.random() < 0.5 else rng.choice((1, 2, 3, 4, 5, 7, 42))
    name = f"{names.word()}.{rng.choice(('sh', 'py'))}"
    words = names.phrase()
    if name.endswith(".py"):
        world.files[name] = f"print({words!r})\nraise SystemExit({code})\n"
        command = f"python3 {name}"
    else:
        world.files[name] = f"echo '{words}'\nexit {code}\n"
        command = f"{rng.choice(('sh', 'bash'))} {name}"
    plain = rng.random()
    if plain < 0.15:
        command, code = f"cat {name}", 0
    elif plain < 0.25:
        command, code = f"ls {names.word()}x", 2
    elif plain < 0.35:
        command, code = f"echo {names.word()}", 0
    world.commands[command] = (code, "")
    return command


def held_out_task(names: Names, family: str, directory: Path) -> Task:
    """A task that can be played for real: its files are on the disk, its command does what it says."""
    task = draw(names, [family])
    while task.world.rejects or (family == "run" and "python3 -m pytest" in str(task.calls)):
        task = draw(names, [family])
    if family == "run":
        old = str(task.calls[0][1]["cmd"])
        new = runnable(names, task.world)
        task = Task(family, task.prompt.replace(old, new), task.world, (("shell", {"cmd": new}),))
    for name in task.world.folders:
        (directory / name).mkdir(parents=True, exist_ok=True)
    for name, text in task.world.files.items():
        path = directory / clean(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return task


def possible(task: Task) -> bool:
    """Whether the task's files can exist side by side: none is the directory of another."""
    files = set(task.world.files)
    return not any(parent.as_posix() in files for name in files for parent in Path(name).parents)


async def attempt(client: Client, task: Task, directory: Path) -> Outcome:
    """Give the task to the agent."""
    outcome = Outcome()
    session = await client.new_session(directory)
    with anyio.fail_after(TURN_SECONDS):
        async with session.prompt(task.prompt) as turn:
            async for update in turn:
                match update:
                    case ToolCall(name=str(name), raw_input=arguments):
                        outcome.calls.append((name, arguments))
                    case MessageChunk("agent", TextBlock(text)):
                        outcome.answer += text
                    case _:
                        pass
    outcome.stop_reason = turn.stop_reason or ""
    await session.close()
    outcome.files = files_in(directory)
    return outcome


def files_in(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes().decode("utf-8", "backslashreplace")
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def verdict(task: Task, outcome: Outcome) -> str | None:
    """What is wrong with the outcome; None if nothing is."""
    steps = play(task)
    calls = [(step.call[0], normal(step.call[1])) for step in steps if step.call]
    if [(name, normal(made)) for name, made in outcome.calls] != calls:
        return f"called {outcome.calls}, not {calls}"
    if outcome.files != {clean(name): text for name, text in task.world.files.items()}:
        return "the files are not what they should be"
    if outcome.answer != steps[-1].text:
        return f"answered {outcome.answer!r}, not {steps[-1].text!r}"
    if outcome.stop_reason != "end_turn":
        return f"the turn ended with {outcome.stop_reason!r}"
    return None


def normal(arguments: object) -> dict[str, object]:
    """Arguments with their path as the tools understand it."""
    made: dict[str, object] = {str(k): v for k, v in arguments.items()} if isinstance(arguments, Mapping) else {}
    path = made.get("path")
    return made | {"path": clean(path)} if isinstance(path, str) else made


async def evaluate(tasks: int, seed: int, model: str | None) -> tuple[Counter[str], Counter[str], list[str]]:
    """Tasks and passes by family, and the failures in words."""
    names = Names(random.Random(seed), held_out=True)
    total: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    failures: list[str] = []
    command = [
        sys.executable,
        "-m",
        "acp_server",
        "--allow",
        "all",
        "--sessions",
        "none",
        *(["--model", model] if model else []),
    ]
    async with connect(command, host=Host(ask=allow_all)) as client:
        for number in range(tasks):
            family = list(FAMILIES)[number % len(FAMILIES)]
            with tempfile.TemporaryDirectory(prefix="laguna-eval-") as folder:
                directory = Path(folder)
                task = new_task(names, family, directory)
                wrong = verdict(task, await attempt(client, task, directory))
            total[family] += 1
            passed[family] += wrong is None
            if wrong is not None:
                failures.append(f"{family}: {task.prompt!r}: {wrong}")
    return total, passed, failures


def new_task(names: Names, family: str, directory: Path) -> Task:
    while True:
        state = names.rng.getstate()
        if possible(draw(names, [family])):
            names.rng.setstate(state)
            return held_out_task(names, family, directory)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="laguna eval nano", description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1_000_000, help="training never draws from this one")
    parser.add_argument("--model", metavar="DIR", help="another checkpoint directory than the one that ships")
    parser.add_argument("--json", action="store_true", help="only the last line")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = arguments()
    options = parser.parse_args([a for a in (sys.argv[1:] if argv is None else argv) if a != "nano"])
    if options.tasks < 1:
        parser.error(f"--tasks is {options.tasks}; it is 1 or more")
    if options.model and not Path(options.model).expanduser().is_dir():
        parser.error(f"there is no checkpoint directory {options.model}")
    clock = time.monotonic()
    total, passed, failures = anyio.run(evaluate, options.tasks, options.seed, options.model)
    if not options.json:
        print(f"{'family':10} {'tasks':>6} {'passed':>7} {'rate':>7}")
        for family, count in total.items():
            print(f"{family:10} {count:6} {passed[family]:7} {passed[family] / count:7.1%}")
        print(f"\n{time.monotonic() - clock:.0f} s; {len(failures)} failures")
        for failure in failures:
            print(f"- {failure}")
    everything, right = total.total(), passed.total()
    print(json.dumps({"tasks": everything, "passed": right, "success_rate": round(right / everything, 4)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
