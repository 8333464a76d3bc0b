"""Terminals with real commands in them."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp_client.host.command import ExitStatus, Tail
from acp_client.host.terminals import LARGEST_LIMIT, LocalTerminals, UnknownTerminal

pytestmark = pytest.mark.anyio

FOR_EVER = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + FOR_EVER


class Screen:
    """What terminals showed, and somebody who waits for words on it."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self._more = anyio.Event()

    def __call__(self, id: str, text: str) -> None:
        self.shown[id] = self.shown.get(id, "") + text
        self._more.set()
        self._more = anyio.Event()

    async def until(self, id: str, words: str) -> str:
        while words not in self.shown.get(id, ""):
            await self._more.wait()
        return self.shown[id]


@asynccontextmanager
async def opened(root: Path, most: int = 4) -> AsyncGenerator[tuple[LocalTerminals, Screen]]:
    screen = Screen()
    with anyio.fail_after(60):
        async with LocalTerminals(root, on_output=screen, most=most) as terminals:
            yield terminals, screen


async def python(terminals: LocalTerminals, code: str, session: str = "s1", *, limit: int | None = None) -> str:
    return await terminals.create(session, sys.executable, ["-c", code], output_byte_limit=limit)


async def pids(screen: Screen, id: str) -> list[int]:
    """The numbers of its processes, which a command has printed in a line that ends with a dot."""
    shown = await screen.until(id, ".")
    return [int(word) for word in shown.partition(".")[0].split()]


async def begun(terminals: LocalTerminals) -> None:
    """Until a command is being started."""
    while "[0 terminals" in repr(terminals):
        await anyio.lowlevel.checkpoint()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_command_runs_and_its_output_and_its_end_can_be_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        code = "import os, sys; print(os.getcwd()); print('err', file=sys.stderr, flush=True); sys.exit(3)"
        id = await python(terminals, code)
        assert await terminals.wait(id) == ExitStatus(3)
        text, truncated, status = await terminals.output(id)
        assert (text, truncated, status) == (f"{tmp_path}\nerr\n", False, ExitStatus(3))
        assert await terminals.wait(id) == ExitStatus(3)  # as often as one likes
        assert screen.shown[id] == text


async def test_output_can_be_read_while_the_command_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, FOR_EVER)
        await screen.until(id, "ready\n")
        assert await terminals.output(id) == ("ready\n", False, None)


async def test_the_environment_is_ours_without_secrets_and_what_the_agent_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret")
    monkeypatch.setenv("COLOUR", "blue")
    monkeypatch.setenv("SHAPE", "round")
    code = "import os; print(*(os.environ.get(n) for n in ('MY_API_KEY', 'COLOUR', 'SHAPE', 'PAGER')))"
    async with opened(tmp_path) as (terminals, _):
        id = await terminals.create("s1", sys.executable, ["-c", code], env={"SHAPE": "square"})
        await terminals.wait(id)
        assert (await terminals.output(id))[0] == "None blue square cat\n"


async def test_a_command_starts_in_an_absolute_directory_that_exists(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    async with opened(tmp_path) as (terminals, _):
        id = await terminals.create("s1", "pwd", cwd=str(tmp_path / "sub"))
        await terminals.wait(id)
        assert (await terminals.output(id))[0] == f"{tmp_path}/sub\n"
        for cwd in ("sub", str(tmp_path / "file"), str(tmp_path / "none"), "", "/\0"):
            with pytest.raises(OSError, match="cannot start 'pwd' in"):
                await terminals.create("s1", "pwd", cwd=cwd)


async def test_what_cannot_be_started_is_a_clear_error_and_leaves_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    async with opened(tmp_path, most=1) as (terminals, _):
        with pytest.raises(FileNotFoundError, match="no-such-command"):
            await terminals.create("s1", "no-such-command")
        with pytest.raises(PermissionError):
            await terminals.create("s1", str(tmp_path / "text"))
        with pytest.raises(OSError, match="cannot start 'a"):
            await terminals.create("s1", "a\0b")
        with pytest.raises(OSError, match="illegal environment variable name"):
            await terminals.create("s1", "pwd", env={"a=b": ""})
        assert repr(terminals).endswith("[0 terminals, 0 running]>")


async def test_a_line_that_is_no_program_is_a_shells(tmp_path: Path) -> None:
    (tmp_path / "my program").write_text("#!/bin/sh\necho it ran")
    (tmp_path / "my program").chmod(0o755)
    async with opened(tmp_path) as (terminals, _):
        for command, said in (("echo a && echo b", "a\nb\n"), (str(tmp_path / "my program"), "it ran\n")):
            id = await terminals.create("s1", command)
            assert await terminals.wait(id) == ExitStatus(0)
            assert (await terminals.output(id))[0] == said
        id = await terminals.create("s1", "echo", ["$HOME && no shell"])
        await terminals.wait(id)
        assert (await terminals.output(id))[0] == "$HOME && no shell\n"


async def test_there_is_nobody_at_the_keyboard(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, _):
        assert await terminals.wait(await terminals.create("s1", "cat")) == ExitStatus(0)


async def test_a_command_that_never_stops_writing_keeps_only_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, "print('é' * 40_000 + 'end')", limit=99)
        await terminals.wait(id)
        assert (await terminals.output(id))[:2] == ("é" * 47 + "end\n", True)
        id = await terminals.create("s1", "yes", output_byte_limit=10)
        await screen.until(id, "y\n" * 6)
        assert (await terminals.output(id))[:2] == ("y\n" * 5, True)
        await terminals.kill(id)


async def test_no_agent_can_have_more_kept_than_the_bound(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, _):
        id = await python(terminals, f"print('x' * {LARGEST_LIMIT}, end='+')", limit=2**63)
        await terminals.wait(id)
        text, truncated, _ = await terminals.output(id)
        assert (len(text), text[-1], truncated) == (LARGEST_LIMIT, "+", True)
        id = await python(terminals, "print('x')", limit=0)
        await terminals.wait(id)
        assert (await terminals.output(id))[:2] == ("", True)


async def test_kill_ends_the_command_and_keeps_the_terminal_until_its_release(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, FOR_EVER)
        await screen.until(id, "ready\n")
        await terminals.kill(id)
        assert await terminals.output(id) == ("ready\n", False, ExitStatus(signal="SIGTERM"))
        assert await terminals.wait(id) == ExitStatus(signal="SIGTERM")
        await terminals.kill(id)
        await terminals.release(id)
        for method in (terminals.output, terminals.wait, terminals.kill, terminals.release):
            with pytest.raises(UnknownTerminal, match=id):
                await method(id)


async def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, STUBBORN)
        await screen.until(id, "ready\n")
        await terminals.kill(id)
        assert await terminals.wait(id) == ExitStatus(signal="SIGKILL")


FAMILY = """\
import os, subprocess, sys
stay = [sys.executable, "-c", "import signal; signal.pause()"]
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
children = [
    subprocess.Popen(stay),
    subprocess.Popen(stay, **quiet),
    subprocess.Popen(stay, start_new_session=True),
    subprocess.Popen(stay, start_new_session=True, **quiet),
]
print(os.getpid(), *(child.pid for child in children), end=".\\n", flush=True)
"""


@pytest.mark.parametrize("way", ["kill", "release", "close_session", "aclose"])
@pytest.mark.parametrize("last", ["os._exit(0)", "import signal; signal.pause()"])
async def test_every_end_is_the_end_of_all_that_the_command_started(way: str, last: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, FAMILY + last)
        leader, *children = await pids(screen, id)
        if "exit" in last:  # what it left in the background lives on
            assert await terminals.wait(id) == ExitStatus(0)
            assert all(is_alive(child) for child in children)
        ends = {
            "kill": lambda: terminals.kill(id),
            "release": lambda: terminals.release(id),
            "close_session": lambda: terminals.close_session("s1"),
            "aclose": terminals.aclose,
        }
        await ends[way]()
        assert not any(is_alive(pid) for pid in [leader, *children])


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
async def test_a_stranger_without_any_environment_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, FOR_EVER)
        await screen.until(id, "ready\n")
        with subprocess.Popen(["/bin/sleep", "600"], env={}) as stranger:  # noqa: ASYNC220
            await terminals.kill(id)
            assert await terminals.wait(id) == ExitStatus(signal="SIGTERM")
            assert stranger.poll() is None
            stranger.kill()


async def test_leaving_by_cancellation_or_an_error_leaves_no_orphan(tmp_path: Path) -> None:
    left: list[int] = []
    with anyio.CancelScope() as scope:
        async with opened(tmp_path) as (terminals, screen):
            left += await pids(screen, await python(terminals, FAMILY + "import signal; signal.pause()"))
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught

    async def fail() -> None:
        async with opened(tmp_path) as (terminals, screen):
            left.extend(await pids(screen, await python(terminals, FAMILY)))
            raise KeyError("bare")

    with pytest.raises(KeyError, match="bare"):
        await fail()
    assert len(left) == 10
    assert not any(is_alive(pid) for pid in left)


async def test_a_wait_that_is_cancelled_leaves_the_others_and_the_command(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, screen):
        id = await python(terminals, FOR_EVER)
        await screen.until(id, "ready\n")
        statuses: list[ExitStatus] = []

        async def wait() -> None:
            statuses.append(await terminals.wait(id))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                cancelled.cancel_scope.cancel()
            assert (await terminals.output(id))[2] is None
            await terminals.release(id)  # whoever waits hears of the end all the same
        assert statuses == [ExitStatus(signal="SIGTERM")]


async def test_a_create_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, _):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await python(terminals, FOR_EVER)
        assert scope.cancelled_caught
        assert repr(terminals).endswith("[0 terminals, 0 running]>")


async def test_closing_ends_what_is_being_started_too_and_only_that(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, _):
        ids: list[str] = []

        async def create() -> None:
            ids.append(await python(terminals, FOR_EVER))

        async with anyio.create_task_group() as group:
            group.start_soon(create)
            await begun(terminals)
            await terminals.aclose()
        assert repr(terminals).endswith("[0 terminals, 0 running]>")
        for id in ids:
            with pytest.raises(UnknownTerminal):
                await terminals.wait(id)


async def test_a_create_that_is_cancelled_does_not_keep_the_end_waiting(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, _):
        async with anyio.create_task_group() as group:
            group.start_soon(python, terminals, FOR_EVER)
            await begun(terminals)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await terminals.aclose()


async def test_terminals_are_bounded_and_a_release_makes_room(tmp_path: Path) -> None:
    async with opened(tmp_path, most=2) as (terminals, _):
        first = await terminals.create("s1", "true")
        await terminals.wait(first)
        other = await terminals.create("s2", "true")
        with pytest.raises(OSError, match="2 terminals are open; release one"):
            await terminals.create("s1", "true")
        await terminals.close_session("s1")
        third = await terminals.create("s1", "true")
        assert len({first, other, third}) == 3
        await terminals.wait(other)


async def test_before_and_after_the_block_nothing_can_be_started(tmp_path: Path) -> None:
    terminals = LocalTerminals(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="any more, or yet"):
            await terminals.create("s1", "true")
        async with LocalTerminals(tmp_path) as terminals:
            pass


async def test_a_view_that_fails_is_not_asked_again_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []

    def fail(id: str, text: str) -> None:
        shown.append(text)
        raise RuntimeError("no screen")

    async with LocalTerminals(tmp_path, on_output=fail) as terminals:
        for _ in range(2):
            id = await terminals.create("s1", "echo", ["hi"])
            assert await terminals.wait(id) == ExitStatus(0)
            assert (await terminals.output(id))[0] == "hi\n"
    assert shown == ["hi\n"]
    assert "no screen" in caplog.text


async def test_a_command_that_a_signal_ended_says_which(tmp_path: Path) -> None:
    async with opened(tmp_path) as (terminals, _):
        id = await python(terminals, "import os; os.kill(os.getpid(), 11)")
        assert await terminals.wait(id) == ExitStatus(signal=signal.SIGSEGV.name)
        line = f"exec {shlex.quote(sys.executable)} -c 'import os; os.kill(os.getpid(), 40)'"
        assert (await terminals.wait(await terminals.create("s1", line))).signal == "signal 40"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 60), st.lists(st.integers(0, 200)))
def test_the_tail_is_the_longest_end_of_the_text_within_the_limit(text: str, limit: int, cuts: list[int]) -> None:
    data = text.encode()
    tail, edges = Tail(limit), sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    heard = "".join(tail.add(data[a:b]) for a, b in pairwise(edges)) + tail.add(b"", final=True)
    assert heard == text
    assert text.endswith(tail.text)
    assert len(tail.text.encode()) <= limit
    longer = text[len(text) - len(tail.text) - 1 :]
    assert tail.text == text or len(longer.encode()) > limit
    assert tail.truncated == (tail.text != text)


@given(st.lists(st.binary(max_size=30)), st.integers(0, 40))
def test_what_is_no_utf_8_is_kept_as_replacements_within_the_limit(parts: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for part in parts:
        tail.add(part)
    tail.add(b"", final=True)
    assert len(tail.text.encode()) <= limit
    assert b"".join(parts).decode(errors="replace").endswith(tail.text)
