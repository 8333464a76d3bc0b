"""Agents as child processes: the good one, and those that behave badly in one way each."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from acp.errors import ConnectionClosed, NegotiationError, RequestError
from acp_client import CannotStart, Host, Session, allow_all, connect, own_agent

pytestmark = pytest.mark.anyio

HOSTILE = str(Path(__file__).with_name("hostile_agent.py"))


def hostile(way: str) -> list[str]:
    return [sys.executable, HOSTILE, way]


async def _take(session: Session, act: Callable[[], None]) -> None:
    """Take a turn and act on every update."""
    async with session.prompt("hi") as turn:
        async for _ in turn:
            act()


async def test_the_library_edits_a_file_through_our_own_agent(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    async with connect(own_agent("--backend", "scripted"), host=Host(allow_all)) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("read a.py\nedit a.py 'x = 1' 'x = 2'\nsay ready") as turn:
            assert await turn.text() == "ready"
    assert turn.stop_reason == "end_turn"
    assert turn.usage is not None
    assert turn.usage.input > 0
    assert (tmp_path / "a.py").read_text() == "x = 2\n"


async def test_our_own_agent_imports_nothing_from_the_directory_it_works_in(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a trap')\n")
    async with connect(own_agent("--backend", "scripted"), cwd=tmp_path) as client:
        assert client.info.version == 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no-such-command-anywhere --acp", "agent command not found: no-such-command-anywhere"),
        ("'unbalanced", "cannot be read"),
        ("", "empty"),
        ([], "empty"),
        (["/"], "cannot be started"),
        ("false", "exited with status 1"),
    ],
)
async def test_an_agent_that_cannot_be_started_is_said(target: str | list[str], words: str) -> None:
    with pytest.raises(CannotStart, match=words):
        async with connect(target):
            raise AssertionError("it connected")


async def test_a_missing_directory_is_not_mistaken_for_a_missing_command(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="no such directory"):
        async with connect("true", cwd=tmp_path / "none"):
            raise AssertionError("it connected")


async def test_an_agent_that_never_answers_is_given_up_with_its_last_words() -> None:
    began = time.monotonic()
    with pytest.raises(CannotStart, match=r"did not answer initialize in 1 s(?s:.*)I am thinking about it"):
        async with connect(hostile("silent"), start_timeout=1):
            raise AssertionError("it connected")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(("way", "words"), [("future", "version 99"), ("no-version", r"No common version.*7")])
async def test_an_agent_of_another_version_is_refused(way: str, words: str) -> None:
    with pytest.raises(NegotiationError, match=words):
        async with connect(hostile(way)):
            raise AssertionError("it connected")


async def test_a_crash_in_the_middle_of_a_turn_is_told_with_the_agents_last_words(tmp_path: Path) -> None:
    async with connect(hostile("crash")) as client:
        session = await client.new_session(tmp_path)
        seen: list[None] = []
        with pytest.raises(ConnectionClosed) as caught:
            await _take(session, lambda: seen.append(None))
        assert len(seen) == 1
        assert "status 7" in caught.value.reason
        assert "Segmentation fault, says the agent" in caught.value.reason


async def test_junk_on_stdout_ends_nothing(tmp_path: Path) -> None:
    async with connect(hostile("junk")) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("hi") as turn:
            assert await turn.text() == ""
        assert turn.stop_reason == "end_turn"


async def test_a_flood_is_read_whole_and_in_order(tmp_path: Path) -> None:
    async with connect(hostile("flood")) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("hi") as turn:
            assert await turn.text() == "".join(f"{n} " for n in range(5000))


async def test_what_an_agent_says_after_the_turn_is_kept(tmp_path: Path) -> None:
    async with connect(hostile("late")) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("hi") as turn:
            first = await turn.text()
        async with session.prompt("again") as turn:  # its answer comes behind what was late
            second = await turn.text()
        assert turn.stop_reason == "end_turn"
        kept = sum("one more thing" in str(update) for update in session.updates)
        assert (first + second).count("one more thing") + kept >= 1


async def test_an_agent_that_wants_a_login_says_so(tmp_path: Path) -> None:
    async with connect(hostile("login")) as client:
        session = await client.new_session(tmp_path)
        with pytest.raises(RequestError, match="Authentication required"):
            async with session.prompt("hi") as turn:
                await turn.text()


async def test_an_agent_that_is_killed_in_the_middle_of_a_turn_ends_it_and_leaves_no_process(tmp_path: Path) -> None:
    command = ["sh", "-c", f"echo $$ > {tmp_path}/pid; exec {sys.executable} {HOSTILE} stubborn"]
    async with connect(command) as client:
        session = await client.new_session(tmp_path)
        with pytest.raises(ConnectionClosed, match="signal 9"):
            await _take(session, client.kill)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
