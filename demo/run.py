"""The main job, on the embedded model: find something, rename it in a file, run the tests.

Copies `demo/sample` to a scratch folder and gives the agent three prompts through `acp exec`, the command
that a user types. The sample's tests fail at first, because they ask for a function under another name. After
each prompt the demo itself looks at the folder: every file must be, byte for byte, what the prompt asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).parent / "sample"
LIMIT = 120  # seconds for one prompt; it takes a few

Files = dict[str, bytes]


@dataclass(frozen=True)
class Step:
    prompt: str
    tools: tuple[str, ...]
    answer: str
    expected: Callable[[Files], Files]


def unchanged(files: Files) -> Files:
    return files


def renamed(files: Files) -> Files:
    name = "shop/prices.py"
    return files | {name: files[name].replace(b"fmt_price", b"format_price")}


STEPS = (
    Step("Where is fmt_price used?", ("grep",), "Here are the matches.", unchanged),
    Step("Rename fmt_price to format_price in shop/prices.py", ("read", "edit"), "Done: 3 replacements.", renamed),
    Step("Run `python3 -m unittest` and tell me if it passes", ("shell",), "The command succeeded.", unchanged),
)


def files_in(root: Path) -> Files:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def tests_pass(root: Path) -> bool:
    run = subprocess.run([sys.executable, "-m", "unittest"], cwd=root, capture_output=True, timeout=LIMIT)
    return run.returncode == 0


def play(step: Step, scratch: Path) -> list[str]:
    """Give one prompt to the agent, shown on the terminal; say what went wrong."""
    log = scratch.parent / "events.jsonl"
    before = files_in(scratch)
    command = [sys.executable, "-m", "acp", "exec", "--cwd", str(scratch), "--allow", "all"]
    print(f'\n$ acp exec --cwd {scratch} --allow all "{step.prompt}"', flush=True)
    state = {**os.environ, "XDG_STATE_HOME": str(scratch.parent / "state")}  # the demo leaves no session behind
    done = subprocess.run([*command, "--log-json", str(log), step.prompt], timeout=LIMIT, env=state)
    problems: list[str] = []
    if done.returncode != 0:
        problems.append(f"exit code {done.returncode}")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    called = tuple(event["update"]["name"] for event in events if event["type"] == "tool_call")
    chunks = [event["update"]["content"] for event in events if event["type"] == "agent_message_chunk"]
    answer = "".join(chunk.get("text", "") for chunk in chunks)
    if called != step.tools:
        problems.append(f"called {called}, not {step.tools}")
    if answer != step.answer:
        problems.append(f"answered {answer!r}, not {step.answer!r}")
    if files_in(scratch) != step.expected(before):
        problems.append("the files are not what the prompt asked for")
    return problems


def main() -> int:
    started = time.monotonic()
    failed = False
    with tempfile.TemporaryDirectory(prefix="acp-demo-") as folder:
        scratch = Path(folder) / "shop"
        shutil.copytree(SAMPLE, scratch, ignore=shutil.ignore_patterns("__pycache__"))
        if tests_pass(scratch):
            print("the sample's tests should fail before the demo, and they pass")
            return 1
        for step in STEPS:
            clock = time.monotonic()
            problems = play(step, scratch)
            verdict = "; ".join(problems) or "files checked"
            failed = failed or bool(problems)
            seconds = time.monotonic() - clock
            print(f"-> {'FAILED: ' if problems else 'ok: '}{verdict} ({seconds:.1f} s)", flush=True)
        if not tests_pass(scratch):
            failed = True
            print("-> FAILED: the sample's tests still fail")
    print(f"\n{'demo failed' if failed else 'demo done'} in {time.monotonic() - started:.1f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
