"""The conductor's part in one conversation with a proxy: on one connection both its client and its successor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...transports import Oversize
from ..agent.reach import Line
from ..side import Message, Side
from ..verdicts import Check
from ..walking import Json, Object, obj
from ..watching import Seen, Watch

SUCCESSOR = "proxy/successor"


def _watched(id: str, title: str, duties: str) -> Check:
    return Check(id, title, tuple(f"ACP-{number}" for number in duties.split()), "mandatory")


WATCHED = (
    _watched("wire.wrapping", "What goes on to the agent is wrapped, with its method and params", "160"),
    _watched("wire.hop", "Cancelling is for one hop, and not wrapped", "160"),
)
"""Checks of all conversations; none has a run of its own."""
SHOWN_BY: Mapping[str, Sequence[str]] = {"wire.wrapping": ("turn.tour", "pass.on"), "wire.hop": ("pass.cancel",)}


class ProxyWatch(Watch):
    """Looks at all that passes between a conductor and a proxy."""

    them = "proxy"

    def for_whom(self) -> str:
        return "client"

    def we_say(self, method: str, message: Object) -> None:
        """What we say changes nothing of what is watched."""

    def we_answer(self, asked: Object, message: Object) -> None:
        """Nor do our answers."""

    def they_say(self, method: str, message: Object) -> Iterator[Seen]:
        if method == SUCCESSOR:
            inner = obj(message.get("params"))
            params: Json = inner.get("params")
            fits = isinstance(inner.get("method"), str) and (params is None or isinstance(params, dict | list))
            yield "wire.wrapping", "" if fits else f"{inner}"
            yield "wire.hop", f"{inner}" if inner.get("method") == "$/cancel_request" else ""

    def they_answer(self, asked: Object, message: Object) -> Iterator[Seen]:
        return iter(())


class Middle(Side[ProxyWatch]):
    """Texts to and from one proxy."""

    us, them = "conductor", "proxy"

    def __init__(self, line: Line, version: int, patience: float) -> None:
        super().__init__(version, patience, ProxyWatch(version))
        self.line = line

    async def put(self, text: bytes) -> None:
        await self.line.send(text)

    async def take(self) -> bytes | Oversize:
        return await self.line.receive()

    def epitaph(self) -> str:
        return self.line.epitaph()

    async def answer_default(self, message: Message) -> None:
        await self.refuse(message, -32601, "Method not found")

    # As its client -----------------------------------------------------------------------------------------

    def greeting(self) -> Object:
        """The params of proxy/initialize, which are those of initialize."""
        info = {"name": "acp-check", "version": "1"}
        names = ("clientInfo", "clientCapabilities") if self.version == 1 else ("info", "capabilities")
        return {"protocolVersion": self.version, names[0]: info, names[1]: {}, "_meta": {"check": [1]}}

    def hello(self, **changes: Json) -> Object:
        """The agent's result of initialize."""
        info = {"name": "acp-check", "version": "1"}
        names = ("agentInfo", "agentCapabilities") if self.version == 1 else ("info", "capabilities")
        able: Object = {} if self.version == 1 else {"session": {}}
        return {"protocolVersion": self.version, names[0]: info, names[1]: able, **changes}

    async def initialize(self) -> Object:
        """The result of proxy/initialize, for which the proxy has asked its successor."""
        id = await self.ask("proxy/initialize", self.greeting())
        await self.answer_with(await self.arrival("initialize"), self.hello())
        answer = await self.answer(id)
        if "error" in answer:
            self.fail(f"proxy/initialize was answered with {answer['error']}")
        return obj(answer["result"])

    # As its agent ------------------------------------------------------------------------------------------

    async def arrival(self, method: str) -> Message:
        """The next request or notification for the agent under a method, still wrapped."""
        return await self.until(lambda m: inner_of(m).get("method") == method, f"{method} at the agent")

    async def report(self, method: str, params: Json) -> None:
        """Tell the client something, as the agent."""
        await self.send({"method": SUCCESSOR, "params": {"method": method, "params": params}})


def inner_of(message: Message) -> Object:
    """What a message carries for the agent; empty if it carries nothing."""
    return obj(message.get("params")) if message.get("method") == SUCCESSOR else {}
