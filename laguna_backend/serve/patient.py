"""HTTP/1.1 as uvicorn speaks it, with what it lacks for strangers: an end to waiting for a request's head."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

OPENING = 10.0
"""Seconds for the first request's head."""


class PatientProtocol(H11Protocol):
    """A connection on which no request begins in time is cut. Between two requests uvicorn itself counts the seconds,
    and the door counts those of a body."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(OPENING, transport.abort)

    def handle_events(self) -> None:
        super().handle_events()
        if self.scope:  # of a request, whose head has come
            self._let_be()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_be()
        super().connection_lost(exc)

    def _let_be(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
