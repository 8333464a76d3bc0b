"""A small program that runs one command and leaves nothing of it behind.

It adopts whatever the command's processes abandon (a "subreaper", on Linux), so even a child that made its
own session or cleared its environment is found and killed. It stops the command when its own stdin closes:
that is how the agent cancels, and what happens when the agent itself dies. Started by its file name, with
nothing but the standard library:

    supervisor.py STATUS_FD COMMAND ARGUMENT…

On STATUS_FD it writes one line at a time: `group N`, the command's process group, at once; `exit N` (negative
for a signal) when the command has ended; `failed TEXT` when it could not be started; `left N` when N of its
processes had to be ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

SETTLE = 0.3
"""Seconds that children left behind get to end by themselves: the end of a pipe, say."""

TERMINATE = 0.5
"""Seconds between SIGTERM and SIGKILL."""

KILL = 3.0
"""Seconds of trying SIGKILL: a fork bomb takes more than one round."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Runs `command`, reports to `status`, obeys stdin."""

    def __init__(self, status: int, command: list[str]) -> None:
        self._status = status
        self._command = command
        self._child = 0
        self._code: int | None = None
        self._stopped = False
        self._alone = False

    def run(self) -> None:
        os.set_inheritable(self._status, False)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._signalled)
        self._child = os.fork()
        if self._child == 0:
            self._become_command()
        self._say(f"group {self._child}")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        self._wait(wake, lambda: self._code is not None or self._stopped, None)
        if not self._stopped:
            self._wait(wake, lambda: self._alone or self._stopped, SETTLE)
        if not self._alone:
            self._end(wake)

    def _signalled(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self._stopped = True

    def _become_command(self) -> None:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for name in ("SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGTERM", "SIGHUP", "SIGINT"):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            limit()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvp(self._command[0], self._command)
        except BaseException as error:
            self._say(f"failed {error}")
            os._exit(127)

    def _wait(self, wake: int, ready: object, seconds: float | None) -> None:
        """Reap children until `ready`, for at most so many seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        watched = [wake] if self._stopped else [wake, 0]
        while True:
            self._reap()
            if callable(ready) and ready():
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            readable = select.select(watched, [], [], left)[0]
            if wake in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            if 0 in readable:
                self._stopped = True
                watched = [wake]

    def _reap(self) -> None:
        while not self._alone:
            try:
                pid, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._alone = True
                return
            if pid == 0:
                return
            if pid == self._child:
                self._code = os.waitstatus_to_exitcode(code)
                self._say(f"exit {self._code}")

    def _end(self, wake: int) -> None:
        """SIGTERM, a moment, SIGKILL until nobody is left."""
        left = descendants(os.getpid())
        if self._code is not None and left:
            self._say(f"left {len(left)}")
        self._signal(left, signal.SIGTERM)
        self._stopped = True
        self._wait(wake, lambda: self._alone, TERMINATE)
        deadline = time.monotonic() + KILL
        while not self._alone and time.monotonic() < deadline:
            family = descendants(os.getpid())
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none can multiply
                self._signal(family, number)
            self._wait(wake, lambda: self._alone, 0.02)

    def _signal(self, pids: list[int], number: int) -> None:
        for kill in (lambda: os.killpg(self._child, number), *(lambda p=p: os.kill(p, number) for p in pids)):
            with contextlib.suppress(OSError):
                kill()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._status, (line.replace("\n", " ") + "\n").encode("utf-8", "replace"))


def descendants(ancestor: int) -> list[int]:
    """Every living process below `ancestor`; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(name))
        else:
            children.setdefault(int(fields[1]), [])
    found: list[int] = []
    todo = [ancestor]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def limit() -> None:
    """Bounds that no honest command meets: no core dumps, no endless file, no fork without end."""
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 64 << 30)
    try:
        with open("/proc/loadavg") as file:
            running = int(file.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return
    lower(resource.RLIMIT_NPROC, running + 8192)


def lower(kind: int, most: int) -> None:
    soft, hard = resource.getrlimit(kind)
    infinity = resource.RLIM_INFINITY
    if hard != infinity:
        most = min(most, hard)
    if soft == infinity or soft > most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, hard))


def prctl(option: int, value: int) -> None:
    """Does nothing where there is no such thing; the process group is killed in any case."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    Supervisor(int(sys.argv[1]), sys.argv[2:]).run()
