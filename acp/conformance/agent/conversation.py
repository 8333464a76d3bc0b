"""The checker's side of one conversation with an agent: raw JSON, deadlines, and a record of every text."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from typing import Any, cast

import anyio

from ...transports import Oversize
from ...transports.child import ChildTransport
from ..asking import Asking, CheckFailed
from ..patterns import Variables
from ..walking import key, obj, there
from .watch import Watch

Json = Any
Message = dict[str, Json]
CLIENT = {"name": "acp-check", "version": "1"}
DONE = {"end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"}


class Conversation(Asking):
    """Texts to and from one agent. Whatever is waited for comes within `patience` seconds or the check fails."""

    def __init__(self, transport: ChildTransport, version: int, cwd: str, patience: float, cancel_prompt: str) -> None:
        super().__init__()
        self.transport, self.version, self.cwd = transport, version, cwd
        self.patience, self.cancel_prompt = patience, cancel_prompt
        self.watch = Watch(version)
        self.transcript: list[tuple[str, str]] = []
        self.variables: Variables = {"cwd": cwd, "elsewhere": tempfile.gettempdir(), "version": version}
        self.capabilities: dict[str, Json] = {}

    async def text(self, text: bytes) -> None:
        """Send a text as it is."""
        self.transcript.append(("client", text.decode(errors="replace")))
        try:
            await self.transport.send(text)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise CheckFailed(f"the agent has gone; {self.transport.epitaph()}") from None

    async def send(self, message: Message) -> None:
        """Send a message."""
        message = {"jsonrpc": "2.0", **message}
        self.watch.sent(message)
        await self.text(json.dumps(message, ensure_ascii=False).encode())

    async def answer(self, id: Json) -> Message:
        """The answer under an id, its type kept; what comes before it is passed over."""
        return await self.until(lambda m: "method" not in m and key(m.get("id")) == key(id), f"answer to {id!r}")

    async def until(self, wanted: Callable[[Message], bool], what: str) -> Message:
        """The next message that is wanted."""
        with anyio.move_on_after(self.patience):
            while not wanted(message := await self.hear()):
                pass
            return message
        self.fail(f"no {what} within {self.patience:g} s")
        return None

    async def hear(self) -> Message:
        """The next message; requests to a client that announced nothing are declined on the way."""
        while True:
            try:
                text = await self.transport.receive()
            except anyio.EndOfStream:
                raise CheckFailed(f"the agent has gone; {self.transport.epitaph()}") from None
            if isinstance(text, Oversize):
                raise CheckFailed(str(text))
            self.transcript.append(("agent", text.decode(errors="replace")))
            message = self.watch.heard(text)
            if message is None:
                continue
            if "method" in message and "id" in message:
                await self._decline(message)
            return message

    async def _decline(self, message: Message) -> None:
        if message["method"] == "session/request_permission":
            await self.send({"id": message["id"], "result": {"outcome": {"outcome": "cancelled"}}})
        else:
            await self.send({"id": message["id"], "error": {"code": -32601, "message": "not announced"}})

    # What most checks begin with ---------------------------------------------------------------------------

    async def initialize(self, **changes: Json) -> Message:
        """The result of initialize, from a client that announces nothing."""
        names = ("clientInfo", "clientCapabilities") if self.version == 1 else ("info", "capabilities")
        params = {"protocolVersion": self.version, names[0]: CLIENT, names[1]: {}, **changes}
        result = await self.call("initialize", params)
        name = "agentCapabilities" if self.version == 1 else "capabilities"
        if not isinstance(result, dict):
            self.fail(f"initialize was answered with {result!r}")
        result = cast("Message", result)
        self.capabilities = result.get(name) or {}
        return result

    async def session(self) -> str:
        """The id of a new session."""
        result: Json = await self.call("session/new", {"cwd": self.cwd, "mcpServers": []})
        id: Json = cast("Message", result).get("sessionId") if isinstance(result, dict) else None
        if not isinstance(id, str) or not id:
            self.fail(f"session/new gave the session id {id!r}")
        self.variables["session"] = id
        return id

    async def prompt(self, session: str, words: str) -> int:
        """Ask for a turn; the request's id."""
        content = [{"type": "text", "text": words}]
        return await self.ask("session/prompt", {"sessionId": session, "prompt": content})

    async def end_of_turn(self, id: int) -> str:
        """Why the turn of a prompt stopped."""
        if self.version == 1:
            answer = await self.answer(id)
            reason = result_of(answer).get("stopReason")
        else:
            message = await self.until(
                lambda m: m.get("method") == "session/update" and m["params"]["update"].get("state") == "idle", "idle"
            )
            answer = message["params"]["update"]
            reason = answer.get("stopReason")
        if reason not in DONE and not str(reason).startswith("_"):
            self.fail(f"a turn ended with {answer}")
        return str(reason)

    def announced(self, gate: str) -> bool:
        """Is a capability there? A dotted path; null, false and absent are no."""
        return there(self.capabilities, gate)


def result_of(answer: Message) -> Message:
    """The result of an answer; empty if there is none or it is no object."""
    return obj(answer.get("result"))
