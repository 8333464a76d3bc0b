"""An answer that is on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import anyio

from .errors import ConnectionClosed, RequestError
from .peer import RequestId
from .tasks import AnyEvent, light_event

R = TypeVar("R")
_NONE_YET = object()


class Pending(Generic[R]):
    """The answer to one of our questions. Whoever asked either waits for it or leaves it be."""

    def __init__(self, id: RequestId, abandon: Callable[[RequestId], None]) -> None:
        self.id = id
        self._abandon = abandon
        self._event: AnyEvent | None = None
        self._outcome: Any = _NONE_YET

    def settle(self, outcome: Any) -> None:
        """The answer is here: a result, or the error to raise."""
        self._outcome = outcome
        if self._event is not None:
            self._event.set()

    async def answer(self) -> R:
        """Wait for it. Raises RequestError, ConnectionClosed. Cancelled, it tells the peer so."""
        try:
            if self._outcome is _NONE_YET:
                self._event = self._event or light_event()
                await self._event.wait()
        except anyio.get_cancelled_exc_class():
            self._abandon(self.id)
            raise
        if isinstance(self._outcome, RequestError | ConnectionClosed):
            raise self._outcome
        return self._outcome
