"""How a command is asked to stop."""

from __future__ import annotations

import signal

import anyio


async def stop_asked() -> None:
    """Wait for SIGTERM or SIGINT."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


async def stop_on_signal(scope: anyio.CancelScope) -> None:
    """Cancel a scope at SIGTERM or SIGINT."""
    await stop_asked()
    scope.cancel()
