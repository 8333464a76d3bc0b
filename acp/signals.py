"""How a command is asked to stop."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import anyio


def stop_signals() -> AbstractContextManager[AsyncIterator[signal.Signals]]:
    """SIGTERM and SIGINT as they come, as long as the block lasts; then they kill again."""
    return anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT)


async def stop_on_signal(scope: anyio.CancelScope) -> None:
    """Cancel a scope at SIGTERM or SIGINT."""
    with stop_signals() as signals:
        await anext(signals)
    scope.cancel()
