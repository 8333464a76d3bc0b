"""A child process as the peer: its last words, its end, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from stdio_peer import ECHO, HANG, Text

from acp.connection import Connection
from acp.errors import ConnectionClosed
from acp.transports.child import LAST_LINES, ChildTransport, spawn_agent

pytestmark = pytest.mark.anyio

PATIENCE = 60.0
"""Seconds that a child gets to end by itself."""
PEER = str(Path(__file__).with_name("stdio_peer.py"))


@asynccontextmanager
async def python(code: str) -> AsyncGenerator[tuple[Connection, ChildTransport]]:
    """A child that runs some Python, and ends by itself."""
    with anyio.fail_after(60):
        async with spawn_agent([sys.executable, "-c", code], patience=PATIENCE) as child:
            async with Connection(child, name="client") as connection:
                yield connection, child


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with anyio.fail_after(60):
        await anyio.wait_readable(handle)
    os.close(handle)


async def test_a_child_answers_and_ends_by_itself_when_its_stdin_closes(anyio_backend: str) -> None:
    with anyio.fail_after(60):
        async with spawn_agent([sys.executable, PEER, anyio_backend], patience=PATIENCE) as child:
            async with Connection(child) as connection:
                assert (await connection.call(ECHO, Text(text="hello"))).text == "hello"
    assert child.process.returncode == 0
    assert list(child.last_lines) == ["the peer closed the connection"]


async def test_a_child_that_fails_is_quoted_to_whoever_waits_for_it() -> None:
    code = "import sys; sys.stdin.readline(); print('no such model: x', file=sys.stderr, end=''); sys.exit(3)"
    async with python(code) as (connection, _):
        with pytest.raises(ConnectionClosed, match=r"(?s)status 3; .*on stderr:\n  no such model: x$"):
            await connection.call(ECHO, Text())


async def test_a_child_that_was_dead_before_we_wrote_is_quoted_too() -> None:
    async with python("import sys; sys.exit('bad option')") as (connection, child):
        await child.process.wait()
        with pytest.raises(ConnectionClosed, match="bad option"):
            await connection.call(ECHO, Text(text="x" * 500_000))


async def test_a_child_that_a_signal_ended_is_said_to_be() -> None:
    async with python("import os; os.kill(os.getpid(), 9)") as (connection, _):
        with pytest.raises(ConnectionClosed, match="signal 9 ended it"):
            await connection.call(ECHO, Text())


async def test_a_child_may_say_more_on_stderr_than_a_pipe_holds() -> None:
    code = "import sys\nfor n in range(20000): print('line', n, 'x' * 50, file=sys.stderr)\nsys.stdin.readline()"
    async with python(code) as (connection, child):
        with pytest.raises(ConnectionClosed, match="line 19999"):
            await connection.call(ECHO, Text())
        assert len(child.last_lines) == LAST_LINES


async def test_a_child_that_ignores_the_end_and_sigterm_is_killed_with_its_children() -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        'print(\'{"jsonrpc":"2.0","id":1,"result":{"text":"%d"}}\' % child.pid, flush=True)\n'
        "time.sleep(1000)\n"
    )
    with anyio.fail_after(60):
        async with spawn_agent([sys.executable, "-c", code], patience=0.2) as child:
            text = await child.receive()
            assert isinstance(text, bytes)
    assert child.process.returncode == -signal.SIGKILL
    await gone(int(text.split(b'"')[-2]))


async def test_what_a_child_left_behind_in_its_group_is_killed() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True)"
    async with spawn_agent([sys.executable, "-c", code], patience=0.2) as child:
        pid = await child.receive()
        assert isinstance(pid, bytes)
        await child.process.wait()
    await gone(int(pid))


async def test_leaving_by_cancellation_ends_the_child_all_the_same(anyio_backend: str) -> None:
    children: list[ChildTransport] = []

    async def use() -> None:
        async with (
            spawn_agent([sys.executable, PEER, anyio_backend], patience=PATIENCE) as child,
            Connection(child) as connection,
        ):
            children.append(child)
            await connection.call(ECHO, Text())
            started.set()
            await connection.call(HANG, Text())

    started = anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(use)
            await started.wait()
            group.cancel_scope.cancel()
    assert children[0].process.returncode == 0


async def test_a_command_that_cannot_start_is_a_clear_error(tmp_path: Path) -> None:
    async def start(command: str, cwd: Path | None = None) -> None:
        async with spawn_agent([command], cwd=cwd):
            pass

    with pytest.raises(FileNotFoundError, match="no-such-command"):
        await start("no-such-command")
    with pytest.raises(PermissionError):
        await start(str(tmp_path))
    with pytest.raises(NotADirectoryError, match="no such directory"):
        await start(sys.executable, tmp_path / "missing")
