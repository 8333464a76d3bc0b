"""What a hook has in its hands: a message on its way, and the two sides that the proxy may speak to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from ..errors import LocalProtocolError
from ..json_text import Json
from .wrapping import Message

Side = Literal["client", "agent"]
Hook = Callable[["Passing"], Awaitable[Json]]
_SAME: Any = object()


class Voice(Protocol):
    """How a proxy speaks to its sides."""

    async def ask(self, side: Side, method: str, params: Json, sent: Callable[[], None]) -> Json:
        """Ask a side and wait for the answer; `sent` is called once the question is on its way."""
        ...

    async def tell(self, side: Side, method: str, params: Json) -> None:
        """Tell a side."""
        ...


class Neighbour:
    """One side of a proxy, to be told or asked something of the proxy's own. `asked` is called at each question."""

    def __init__(self, voice: Voice, side: Side, *, may_ask: bool, asked: Callable[[], None]) -> None:
        self._voice, self._may_ask, self._asked = voice, may_ask, asked
        self._side: Side = side

    async def call(self, method: str, params: Json = None) -> Json:
        """Ask it. Raises RequestError, ConnectionClosed; LocalProtocolError in a notification's hook."""
        if not self._may_ask:
            raise LocalProtocolError(f"{method} would wait for ever: a notification's hook holds the reader")
        return await self._voice.ask(self._side, method, params, self._asked)

    async def notify(self, method: str, params: Json = None) -> None:
        """Tell it."""
        await self._voice.tell(self._side, method, params)


class Passing:
    """A message on its way, in the hands of a hook. `client` and `agent` are the proxy's two sides."""

    def __init__(self, voice: Voice, side: Side, message: Message, asked: Callable[[], None]) -> None:
        self.method: str = message["method"]
        self.params: Json = message.get("params")
        self.is_request = "id" in message
        self._moved = asked
        self.client = Neighbour(voice, "client", may_ask=self.is_request, asked=asked)
        self.agent = Neighbour(voice, "agent", may_ask=self.is_request, asked=asked)
        self._onward = self.agent if side == "client" else self.client

    def release(self) -> None:
        """Let pass what came behind it: a hook that answers by itself says so before it takes its time."""
        self._moved()

    async def forward(self, params: Json = _SAME) -> Json:
        """Send it on, with other params if given; the answer if it is a request, whose error is raised."""
        params = self.params if params is _SAME else params
        if self.is_request:
            return await self._onward.call(self.method, params)
        await self._onward.notify(self.method, params)
        return None
