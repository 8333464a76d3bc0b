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

_HAS_PROC = os.path.exists("/proc/self/stat")


class Family:
    """The process group that a command leads, and whatever left the group with the command's environment.

    `mark` is the name of a variable in that environment and in no other. Where there is no /proc, the group is all
    that is found.
    """

    def __init__(self, leader: int, mark: str) -> None:
        self._group = leader
        self._mark = b"\0" + mark.encode() + b"="
        self._over = False

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
        pause = 0.0
        while True:
            group, strays = self._living()
            if not group and not strays:
                self._over = True
                return
            # A program may take a second SIGTERM for impatience; SIGKILL is for those too that were started meanwhile.
            if pause == 0 or number == signal.SIGKILL:
                self._signal(number, group, strays)
            pause = min(2 * pause, 0.1) or 0.005
            await anyio.sleep(pause)

    def _signal(self, number: signal.Signals, group: bool, strays: list[int]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self._group, number)
        for pid in strays:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _living(self) -> tuple[bool, list[int]]:
        """Whether somebody is left in the group, and who outside; who waits to be reaped does not count."""
        if not _HAS_PROC:
            try:
                os.killpg(self._group, 0)
            except (ProcessLookupError, PermissionError):  # the latter is what macOS says of a group of zombies
                return False, []
            return True, []
        group, strays = False, list[int]()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", "rb") as file:
                    state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
                if state in (b"Z", b"X"):
                    continue
                if int(its_group) == self._group:
                    group = True
                    continue
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if self._mark in b"\0" + file.read():
                        strays.append(int(pid))
            except OSError:  # it has ended, or it is somebody else's
                continue
        return group, strays
