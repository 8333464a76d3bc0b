"""A command with everything it started: found and ended together."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import anyio

PATIENCE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
SURRENDER = 1.0
"""Seconds of trying SIGKILL."""
BECOMING = 0.5
"""Seconds that a process may take to become a program: until then its environment cannot be read."""

_HAS_PROC = os.path.exists("/proc/self/stat")
_KERNEL_THREAD = 0x00200000  # of the flags in /proc/PID/stat (linux/sched.h, PF_KTHREAD)


class Family:
    """The process group that a command leads, and whatever left the group with the command's environment.

    `mark` is the name of a variable in that environment and in no other. Where there is no /proc, the group is all
    that is found.
    """

    def __init__(self, leader: int, mark: str) -> None:
        self._group = leader
        self._mark = b"\0" + mark.encode() + b"="
        self._over = False
        self._began = 0
        with suppress(OSError), open(f"/proc/{leader}/stat", "rb") as file:
            self._began = int(_fields(file.read())[19])

    def settle(self) -> None:
        """Look, now that the command itself has ended, whether it left anything; if not, its number is no more ours."""
        self._over = not any(self._living())

    async def end(self) -> None:
        """SIGTERM, time to end, SIGKILL. Takes a bounded time and cannot be cancelled."""
        for number, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, SURRENDER)):
            if not self._over:
                with anyio.move_on_after(seconds, shield=True):
                    await self._signal_until_gone(number)

    async def _signal_until_gone(self, number: signal.Signals) -> None:
        pause = waited = 0.0
        while True:
            group, strays, becoming = self._living()
            if not group and not strays and (not becoming or waited > BECOMING):
                self._over = True
                return
            # A program may take a second SIGTERM for impatience; SIGKILL is for those too that were started meanwhile.
            if pause == 0 or number == signal.SIGKILL:
                self._signal(number, group, strays)
            pause = min(2 * pause, 0.1) or 0.005
            waited += pause
            await anyio.sleep(pause)

    def _signal(self, number: signal.Signals, group: bool, strays: list[int]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self._group, number)
        for pid in strays:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _living(self) -> tuple[bool, list[int], bool]:
        """Whether somebody is left in the group, who outside, and whether there is a process of which that cannot be
        told yet; who waits to be reaped does not count."""
        if not _HAS_PROC:
            try:
                os.killpg(self._group, 0)
            except (ProcessLookupError, PermissionError):  # the latter is what macOS says of a group of zombies
                return False, [], False
            return True, [], False
        group, strays, becoming = False, list[int](), False
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", "rb") as file:
                    fields = _fields(file.read())
                if fields[0] in (b"Z", b"X"):
                    continue
                if int(fields[2]) == self._group:
                    group = True
                    continue
                with open(f"/proc/{pid}/environ", "rb") as file:
                    environment = file.read()
                if self._mark in b"\0" + environment:
                    strays.append(int(pid))
                elif not environment and int(fields[19]) >= self._began and not int(fields[6]) & _KERNEL_THREAD:
                    becoming = True
            except OSError:  # it has ended, or it is somebody else's
                continue
        return group, strays, becoming


def _fields(stat: bytes) -> list[bytes]:
    """Of /proc/PID/stat what comes after the name: state, parent, group, … (proc_pid_stat(5), from the third on)."""
    return stat.rpartition(b")")[2].split()
