"""shell: what the model is told, what the user is shown, and that cancelling ends everything in time."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from toolbench import Bench

from acp.updates import (
    CANCELLABLE,
    BlockContent,
    ExitStatus,
    Terminal,
    TerminalChunk,
    TerminalRef,
    TextBlock,
    ToolContent,
    Update,
)
from acp_server.terminals.terminals import UNHURRIED
from acp_server.tools.prefix import allowed_prefix

pytestmark = pytest.mark.anyio


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def shown(content: tuple[ToolContent, ...]) -> str:
    (block,) = content
    assert isinstance(block, BlockContent)
    assert isinstance(block.block, TextBlock)
    return block.block.text


def commands_with(mark: bytes, pid: str = "[0-9]*") -> list[Path]:
    """Running processes, by a piece of their command line."""
    found: list[Path] = []
    for path in Path("/proc").glob(f"{pid}/cmdline"):
        with suppress(OSError):
            if mark in (line := path.read_bytes()) and line:
                found.append(path)
    return found


async def test_the_result_is_the_exit_code_and_the_output(bench: Bench) -> None:
    assert await bench.call("shell", cmd="echo hi; echo err >&2; exit 3") == "exit_code: 3\nhi\nerr"
    assert await bench.call("shell", cmd="true") == "exit_code: 0"
    assert await bench.call("shell", cmd="kill -9 $$") == "exit_code: -9"
    assert (await bench.call("shell", cmd="no-such-program")).startswith("exit_code: 127\n")
    outcome = await bench.outcome("shell", cmd="exit 1")
    assert not outcome.failed
    assert outcome.raw_output["exit_code"] == 1


async def test_every_command_starts_anew_in_the_workspace(bench: Bench) -> None:
    assert await bench.call("shell", cmd="cd /; export A=1; pwd") == "exit_code: 0\n/"
    assert await bench.call("shell", cmd="pwd; echo $A$-; cat") == f"exit_code: 0\n{bench.root}\nhBc"


async def test_a_command_out_of_time_has_failed(bench: Bench) -> None:
    outcome = await bench.outcome("shell", cmd="echo begun; sleep 600", timeout_s=1)
    assert outcome.text == "timed out after 1 s\nbegun"
    assert outcome.failed


async def test_an_interactive_program_does_not_hang(bench: Bench) -> None:
    text = await bench.call("shell", cmd="git init -q . && git commit --allow-empty; read x; echo done", timeout_s=20)
    assert text.endswith("done")


async def test_long_output_keeps_both_ends(tmp_path: Path) -> None:
    text = await Bench(tmp_path, limit=1000).call("shell", cmd="seq 1 100000")
    assert text.startswith("exit_code: 0\n1\n2\n")
    assert text.endswith("\n99999\n100000")
    assert "characters left out …]" in text
    assert len(text) <= 1000


async def test_binary_output_is_made_safe(bench: Bench) -> None:
    text = await bench.call("shell", cmd=r"printf '\033[2Ja\0b\377\r\n\033]0;x\007'; head -c 2000 /dev/urandom")
    assert text.startswith("exit_code: 0\na\ufffdb\ufffd\n")
    text.encode()
    assert "\x1b" not in text
    assert "\0" not in text


def printed(updates: Iterable[Update]) -> list[bytes]:
    """What the chunks of terminals say."""
    return [base64.b64decode(update.data) for update in updates if isinstance(update, TerminalChunk)]


async def test_output_is_shown_while_it_grows(bench: Bench) -> None:
    outcome = await bench.outcome("shell", cmd="echo first; sleep 0.4; printf '\\033[1mlast\\033[0m'; exit 3")
    assert printed(bench.told) == [b"first\n", b"\x1b[1mlast\x1b[0m"]
    begun, runs, *_, over = bench.told
    assert isinstance(begun, Terminal)
    root = str(bench.root.resolve())
    assert begun == Terminal("t1", "echo first; sleep 0.4; printf '\\033[1mlast\\033[0m'; exit 3", root)
    assert runs == Terminal("t1", capabilities=CANCELLABLE)
    assert over == Terminal("t1", exit=ExitStatus(3), capabilities=None)
    assert outcome.content == (TerminalRef("t1"),)
    kept = bench.kept[-1]  # for the history: all of it in one
    assert isinstance(kept, Terminal)
    assert base64.b64decode(str(kept.output)) == b"first\n\x1b[1mlast\x1b[0m"
    assert (kept.command, kept.cwd, kept.exit) == (begun.command, root, ExitStatus(3))


async def test_a_command_is_stopped_by_its_terminal_and_says_so(bench: Bench) -> None:
    assert not bench.terminals.stop("t1")

    async def stop() -> None:
        with anyio.fail_after(60):
            while b"on\n" not in printed(bench.told):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert [base64.b64decode(str(terminal.output)) for terminal in bench.terminals.now()] == [b"on\n"]
        assert bench.terminals.stop("t1")

    texts: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        texts.append(await bench.call("shell", cmd="echo on; sleep 600"))
    assert bench.told[-1] == Terminal("t1", exit=ExitStatus(None, "SIGTERM"), capabilities=None)
    assert texts == ["exit_code: -15\non\n[stopped by the user]"]
    assert not bench.terminals.stop("t1")
    assert bench.terminals.now() == []


async def test_of_a_flood_the_user_sees_the_end_as_it_comes_and_then_what_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit=1000)
    await bench.outcome("shell", cmd="seq 1 1000000; sleep 0.3; echo over")
    chunks = printed(bench.told)
    assert sum(map(len, chunks)) < 2 * UNHURRIED
    assert b"bytes left out" in b"".join(chunks)
    over = bench.told[-1]
    assert isinstance(over, Terminal)
    kept = base64.b64decode(str(over.output))
    assert kept.startswith(b"1\n2\n3\n")
    assert b"bytes left out" in kept
    assert kept.endswith(b"1000000\nover\n")
    assert len(kept) < 100_000


async def test_what_never_ran_has_ended_when_its_call_has(bench: Bench) -> None:
    action = await bench.prepare("shell", cmd="true")
    assert action.terminal is not None
    await action.terminal.announce("t1")
    await action.terminal.leave()
    await action.terminal.leave()
    assert bench.told[1:] == [Terminal("t1", exit=ExitStatus(), capabilities=None)]


async def test_the_user_sees_the_whole_command(bench: Bench) -> None:
    command = f"echo {'x' * 1000} \u202e; rm -rf \x1b[8m/ # \u200b"
    action = await bench.prepare("shell", cmd=command)
    assert len(action.title) <= 256
    assert action.title.startswith("`echo x")
    text = shown(action.content)
    assert "x" * 1000 + " \\u202e; rm -rf \\x1b[8m/ # \\u200b" in text
    assert action.permission is not None
    assert (action.permission.scope, action.permission.always_name) == ("execute", None)
    simple = await bench.prepare("shell", cmd="pytest -q")
    assert simple.title == "`pytest -q`"
    assert simple.permission is not None
    assert simple.permission.key == "pytest"
    assert "`pytest`" in (simple.permission.always_name or "")


async def test_what_is_no_command_is_refused(bench: Bench) -> None:
    assert await bench.call("shell", cmd="  ") == "error: cmd is empty"
    assert await bench.call("shell", cmd="a\0b") == "error: cmd contains a NUL character"
    assert "too long" in await bench.call("shell", cmd="x" * 1_000_000)
    assert "not valid" in await bench.call("shell", cmd="echo \ud800")
    assert "at least 1" in await bench.call("shell", cmd="true", timeout_s=0)


@pytest.mark.parametrize(
    "command",
    [
        "echo $$ > pid; exec sleep 600",
        "trap '' TERM INT HUP; echo $$ > pid; while :; do sleep 0.1; done",
        "setsid bash -c 'echo $$ > pid; exec sleep 600' & wait",
        "bash -c 'echo $$ > pid; exec cat /dev/zero'",
    ],
)
async def test_cancelling_returns_soon_and_kills_everything(bench: Bench, command: str) -> None:
    pid = bench.root / "pid"
    began = 0.0
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await bench.outcome("shell", cmd=command)

        group.start_soon(run)
        with anyio.fail_after(60):
            while not (pid.exists() and pid.read_text().strip()):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        began = time.monotonic()
        group.cancel_scope.cancel()
    assert time.monotonic() - began < 60  # what it runs would take minutes
    with anyio.fail_after(60):
        while commands_with(b"", pid.read_text().strip()):  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_burst_of_processes_is_ended(bench: Bench) -> None:
    mark = f"600.{os.getpid()}"
    command = f"for i in $(seq 50); do (setsid sleep {mark} &) ; done; sleep {mark}"
    outcome = await bench.outcome("shell", cmd=command, timeout_s=1)
    assert outcome.failed
    assert not commands_with(mark.encode())


@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        ("pytest", "pytest"),
        ("pytest -q tests/test_a.py::test_b", "pytest"),
        ("python -m pytest -x", "python -m pytest"),
        ("python3.11 -m unittest", "python3.11 -m unittest"),
        ("npm test", "npm test"),
        ("cargo test --all", "cargo test"),
        ("git status --short", "git status"),
        ("grep 'a b' src", "grep"),
        ("ls", "ls"),
    ],
)
def test_a_plain_command_has_a_prefix(command: str, prefix: str) -> None:
    assert allowed_prefix(command) == prefix


@pytest.mark.parametrize(
    "command",
    [
        "pytest; rm x", "pytest && rm x", "pytest | tee x", "pytest > x", "pytest $(rm x)", "pytest `rm x`", "pytest &",
        "pytest\nrm x", "PATH=. pytest", "pytest $HOME", "pytest *", "pytest {a,b}", "pytest ~", "pytest \"$(rm x)\"",
        "python -c 'x'", "python script.py", "sudo pytest", "env pytest", "bash -c pytest", "rm x", "git push",
        "git -c core.pager=x status", "git diff --output=x", "npm exec x", "npm", "./pytest", "/bin/pytest",
        "eval pytest", "find . -delete", "", "   ",
        "'pytest'", "pytest 'a'b", "pytest \\; rm", "export A=1", "! pytest", "pytest #x",
        "(pytest)", "pytest <x", "xargs pytest", "time pytest", "pytest\ttest\r", "p\u00fdtest", "pytest 'a\nb'",
    ],
)  # fmt: skip
def test_any_other_command_has_none(command: str) -> None:
    assert allowed_prefix(command) is None
