"""How a command is asked to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from types import FrameType

import anyio


def stop_signals() -> AbstractContextManager[AsyncIterator[signal.Signals]]:
    """SIGTERM and SIGINT as they come, as long as the block lasts; then they kill again."""
    return anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT)


async def stop_on_signal(scope: anyio.CancelScope) -> None:
    """Cancel a scope at SIGTERM or SIGINT."""
    with stop_signals() as signals:
        await anext(signals)
    scope.cancel()


def end_on_signal(status: int) -> None:
    """From here on SIGTERM and SIGINT end the process at once, with a status that is certain by now."""

    def end(number: int, frame: FrameType | None) -> None:
        os._exit(status)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
