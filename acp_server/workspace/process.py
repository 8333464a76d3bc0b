"""Commands: started in a clean environment, watched, stopped with everything they started."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from acp.environment import clean_environment as clean_environment

from .output import Output

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))

SURRENDER = 5.0
"""Seconds after which a supervisor that was told to stop is killed itself."""

LINGER = 0.2
"""Seconds of waiting for the end of the output once nothing is left that could write to it."""


def shell_command(text: str) -> list[str]:
    """The argv that has bash run `text` with none of the user's settings; sh where there is no bash."""
    bash = shutil.which("bash")
    return [bash, "--noprofile", "--norc", "-c", text] if bash else [shutil.which("sh") or "sh", "-c", text]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `code` is negative for a signal, None when it never ran or its end was not seen."""

    code: int | None
    seconds: float
    timed_out: bool = False
    problem: str = ""
    left_behind: int = 0


class Command:
    """One running command. Its output grows in `output`; `ended` is there once everything is over."""

    def __init__(
        self, argv: list[str], *, cwd: str, env: Mapping[str, str], seconds: float, keep: int = 65_536
    ) -> None:
        """Start it. Raises `OSError` when not even the supervisor can be started."""
        self.output = Output(keep)
        self.ended: Ended | None = None
        self._seconds = seconds
        self._over = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._status, status = os.pipe()
        self._wake, self._waker = os.pipe()
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", _SUPERVISOR, str(status), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=cwd,
                env=dict(env),
                pass_fds=(status,),
                start_new_session=True,
            )
        except BaseException:
            for fd in (self._status, self._wake, self._waker):
                os.close(fd)
            raise
        finally:
            os.close(status)
        threading.Thread(target=self._watch, name="command", daemon=True).start()

    def stop(self) -> None:
        """Have the command and all it started ended. Returns at once; may be called at any time."""
        self._stop.set()
        with self._lock:  # so that the descriptor is not closed, and used by somebody else, just now
            if not self._over.is_set():
                os.write(self._waker, b".")

    def wait(self, seconds: float) -> bool:
        """Block until it is over, but not for longer than this; whether it is."""
        return self._over.wait(seconds)

    # In the watching thread -----------------------------------------------------------------------

    def _watch(self) -> None:
        began = time.monotonic()
        lines = bytearray()
        timed_out = False
        try:
            timed_out = self._listen(began + self._seconds, lines)
        finally:
            assert self._supervisor.stdout is not None
            self._close_control()
            self._supervisor.stdout.close()
            self._supervisor.kill()
            self._supervisor.wait()
            self.ended = _ended(bytes(lines), time.monotonic() - began, timed_out)
            with self._lock:
                for fd in (self._status, self._wake, self._waker):
                    os.close(fd)
                self._over.set()

    def _listen(self, deadline: float, lines: bytearray) -> bool:
        """Take in output and status until there is no more; whether time ran out."""
        assert self._supervisor.stdout is not None
        output = self._supervisor.stdout.fileno()
        open_fds = {output, self._status}
        timed_out = False
        stopping = False
        while open_fds:
            left = max(0.0, deadline - time.monotonic())
            if self._status not in open_fds:
                left = min(left, LINGER)
            watched: list[int] = [*open_fds, *([] if stopping else [self._wake])]
            readable = select.select(watched, [], [], left)[0]
            for fd in readable:
                self._take(fd, output, open_fds, lines)
            over = time.monotonic() >= deadline
            if not stopping and (over or self._stop.is_set()):
                timed_out = over and b"exit " not in lines and not self._stop.is_set()
                stopping = True
                deadline = time.monotonic() + SURRENDER
                self._close_control()
            elif over or (not readable and self._status not in open_fds):
                break
        return timed_out

    def _take(self, fd: int, output: int, open_fds: set[int], lines: bytearray) -> None:
        if fd == self._wake:
            return
        data = os.read(fd, 65536)
        if not data:
            open_fds.discard(fd)
        elif fd == output:
            self.output.add(data)
        else:
            lines += data[:4096]

    def _close_control(self) -> None:
        """The supervisor sees its stdin end and ends the command."""
        if self._supervisor.stdin is not None:
            with suppress(OSError):
                self._supervisor.stdin.close()


def _ended(lines: bytes, seconds: float, timed_out: bool) -> Ended:
    code: int | None = None
    problem = ""
    left = group = 0
    for line in lines.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "exit":
                code = int(rest)
            case "left":
                left = int(rest)
            case "failed":
                problem = rest
            case "group":
                group = int(rest)
            case _:
                pass
    if code is None and not problem:
        # Nobody is left to do it: end at least the command's own group.
        problem = "its supervisor was killed"
        if group > 0:
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
    return Ended(code, seconds, timed_out, problem, left)


def signal_name(code: int) -> str:
    """What killed a command that ended with a negative code."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
