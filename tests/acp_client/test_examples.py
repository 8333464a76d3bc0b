"""The examples run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def test_ask_an_agent_prints_the_answer(tmp_path: Path) -> None:
    agent = f"{sys.executable} -m acp agent --backend scripted"
    assert run("ask_an_agent.py", agent, str(tmp_path), "write a.txt hello\nsay Written.") == "Written.\n"
    assert (tmp_path / "a.txt").read_text() == "hello"


def test_watch_a_turn_stops_at_the_third_call(tmp_path: Path) -> None:
    script = "list\nlist\nlist\nlist\nslow"
    shown = run("watch_a_turn.py", str(tmp_path), script, "--backend", "scripted").splitlines()
    assert len(shown) == 4
    assert all(line.startswith("read ") for line in shown[:3])
    assert shown[3] == "cancelled"
