"""An answer that is on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import anyio

from .errors import ConnectionClosed, RequestError
from .peer import RequestId
from .tasks import Arrival, arrival

R = TypeVar("R")
_NONE_YET = object()


class Pending(Generic[R]):
    """The answer to one of our questions. Whoever asked either waits for it or leaves it be."""

    def __init__(self, id: RequestId, abandon: Callable[[RequestId], None]) -> None:
        self.id = id
        self._abandon = abandon
        self._arrival: Arrival | None = None
        self._outcome: Any = _NONE_YET

    def settle(self, outcome: Any) -> None:
        """The answer is here: a result, or the error to raise. Whoever waits for it may go on before this returns."""
        self._outcome = outcome
        if self._arrival is not None:
            self._arrival.set()

    def fail(self, error: ConnectionClosed) -> None:
        """No answer will come. Whoever waits goes on later."""
        self._outcome = error
        if self._arrival is not None:
            self._arrival.set_soon()

    async def answer(self) -> R:
        """Wait for it. Raises RequestError, ConnectionClosed. Cancelled, it tells the peer so."""
        try:
            if self._outcome is _NONE_YET:
                self._arrival = self._arrival or arrival()
                await self._arrival.wait()
        except anyio.get_cancelled_exc_class():
            self._abandon(self.id)
            raise
        if isinstance(self._outcome, RequestError | ConnectionClosed):
            raise self._outcome
        return self._outcome
