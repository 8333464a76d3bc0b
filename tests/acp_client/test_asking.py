"""The permission prompt, in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Terminal:
    """`acp exec` in a terminal of its own, and its user."""

    def __init__(self, pid: int, fd: int) -> None:
        self._pid, self._fd = pid, fd
        self.shown = ""
        self._from = 0

    def until(self, words: str) -> str:
        """Read until `words` are shown again; what was shown on the way."""
        ends = time.monotonic() + 60
        while (at := self.shown.find(words, self._from)) < 0:
            assert self._read(ends - time.monotonic()), f"never showed {words!r}: {self.shown[self._from :]!r}"
        before = self.shown[self._from : at]
        self._from = at + len(words)
        return before

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], max(0, seconds))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # what Linux says when the other end is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def ends(self) -> int:
        """Its exit status."""
        while self._read(20):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@contextmanager
def terminal(*arguments: str, cwd: Path, **env: str) -> Generator[Terminal]:
    # A fresh interpreter at once: nothing of this process's threads is touched between fork and exec.
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        command = [sys.executable, "-m", "acp", "exec", "--backend", "scripted", *arguments]
        os.execve(sys.executable, command, {**os.environ, "TERM": "xterm", "NO_COLOR": "", **env})
    try:
        yield Terminal(pid, fd)
    finally:
        os.close(fd)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def plain(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text).replace("\r\n", "\n")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("x = 1\n")
    return tmp_path


def test_the_whole_diff_is_shown_before_the_question_and_yes_makes_the_edit(repository: Path) -> None:
    with terminal("read a.py\nedit a.py 1 2\nsay done", cwd=repository) as user:
        shown = user.until("> ")
        assert "\x1b[31m  -x = 1\x1b[0m" in shown
        assert "\x1b[32m  +x = 2\x1b[0m" in shown
        assert shown.count("+x = 2") == 1
        assert f"May the agent do this in {repository}?" in shown
        assert "  y  " in shown
        assert (repository / "a.py").read_text() == "x = 1\n"
        user.type("what\n")  # no answer: it asks again
        user.until("> ")
        user.type("y\n")
        assert user.ends() == 0
        assert "done" in user.shown
    assert (repository / "a.py").read_text() == "x = 2\n"


def test_no_makes_nothing_and_the_turn_goes_on(repository: Path) -> None:
    with terminal("run touch made; echo a long command of which all is shown", cwd=repository, NO_COLOR="1") as user:
        shown = user.until("> ")
        assert "touch made; echo a long command of which all is shown" in shown
        user.type("n\n")
        assert user.ends() == 0
        assert "\x1b" not in user.shown
        assert "the user rejected this call" in user.shown
    assert not (repository / "made").exists()


@pytest.mark.parametrize("keys", ["q\n", "\x04", "\x03"])
def test_q_the_end_of_input_and_an_interrupt_stop_the_turn(keys: str, repository: Path) -> None:
    with terminal("run touch made", cwd=repository) as user:
        user.until("> ")
        user.type(keys)
        assert user.ends() == 130
        assert "cancelled" in user.shown
    assert not (repository / "made").exists()


def test_what_was_typed_before_the_question_is_no_answer_to_it(repository: Path) -> None:
    with terminal("run touch made", cwd=repository) as user:
        user.type("y\n")
        user.until("> ")
        user.type("n\n")
        assert user.ends() == 0
    assert not (repository / "made").exists()


def test_escapes_in_a_command_are_shown_and_not_obeyed(repository: Path) -> None:
    with terminal('call shell {"cmd": "echo \\u001b[2J\\u202eharmless"}', cwd=repository) as user:
        shown = plain(user.until("> "))
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\\x1b[2J\\u202eharmless" in shown
        user.type("n\n")
        assert user.ends() == 0
