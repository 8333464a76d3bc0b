"""Streams of whole JSON texts: the only thing a connection knows of the outside world."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .lines import Oversize

__all__ = ["Lanes", "Oversize", "Transport"]


class Transport(Protocol):
    """Carries texts, whole and in order, both ways. One task sends and one receives."""

    async def send(self, *texts: bytes) -> None:
        """Send texts, in order; waits while the other side does not read. Raises anyio.BrokenResourceError."""
        ...

    def send_now(self, *texts: bytes) -> bool:
        """Send texts if that needs no waiting. False if not, and then nothing was sent; `send` says why."""
        ...

    async def receive(self) -> bytes | Oversize:
        """The next text, or how long one was that was too long to take. Raises anyio.EndOfStream at the end."""
        ...

    async def aclose(self) -> None:
        """End both directions. Idempotent."""
        ...

    def epitaph(self) -> str:
        """What is known of why the stream ended, for error messages: a child's last words. May be empty."""
        ...


@runtime_checkable
class Lanes(Protocol):
    """What a transport is besides that has a way of its own for each session, so that one who is slow delays no other.

    Its `send` never waits; whoever has much to say of a session waits for `room` first.
    """

    def is_crowded(self, session: str) -> bool:
        """Whether `room` would wait."""
        ...

    async def room(self, session: str) -> None:
        """Wait until little of what was said of a session is unread, or the transport has ended."""
        ...
