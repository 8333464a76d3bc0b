"""A client in raw JSON, for tests that look at the wire. It reads only when a test waits for something."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

Message = dict[str, Any]
Answer = Callable[[Message], Any]

WAIT = 60.0
"""Seconds a test waits for a message."""


def allow(message: Message) -> Any:
    """Answers a permission request with yes."""
    return {"outcome": {"outcome": "selected", "optionId": "allow_once"}}


def silent(message: Message) -> Any:
    """Answers nothing."""
    return None


class WireClient:
    """`received` has every message in the order it came, `answer` what to say to the agent's requests."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[Any]]) -> None:
        self._send = send
        self._receive = receive
        self._ids = 0
        self.received: list[Message] = []
        self.answer: Answer = allow

    async def send(self, message: Any) -> None:
        await self._send(json.dumps(message).encode())

    async def send_raw(self, line: bytes) -> None:
        await self._send(line)

    async def request(self, method: str, params: Any) -> int:
        """Send a request; its id."""
        self._ids += 1
        await self.send({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})
        return self._ids

    async def notify(self, method: str, params: Any) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def until(self, wanted: Callable[[Message], bool]) -> Message:
        """The first message that is wanted; requests of the agent are answered on the way."""
        with anyio.fail_after(WAIT):
            while True:
                message: Message = json.loads(await self._receive())
                self.received.append(message)
                if "method" in message and "id" in message and (result := self.answer(message)) is not None:
                    await self.send({"jsonrpc": "2.0", "id": message["id"], "result": result})
                if wanted(message):
                    return message

    async def until_output(self, text: str) -> Message:
        """Wait until a tool call shows the text as its output."""

        def shown(message: Message) -> bool:
            update = message.get("params", {}).get("update", {})
            return update.get("sessionUpdate") == "tool_call_update" and text in str(update.get("content"))

        return await self.until(shown)

    async def until_asked(self) -> Message:
        """Wait for the next permission request."""
        return await self.until(lambda m: m.get("method") == "session/request_permission")

    async def response(self, id: int | None) -> Message:
        return await self.until(lambda m: "method" not in m and m.get("id") == id)

    async def call(self, method: str, params: Any) -> Message:
        """The whole response, result or error."""
        return await self.response(await self.request(method, params))

    async def start(self, cwd: str, capabilities: Message | None = None) -> str:
        """Initialize and open a session; its id."""
        await self.call("initialize", {"protocolVersion": 1, "clientCapabilities": capabilities or {}})
        response = await self.call("session/new", {"cwd": cwd, "mcpServers": []})
        return response["result"]["sessionId"]

    async def prompt(self, session: str, text: str) -> Message:
        return await self.response(await self.begin_prompt(session, text))

    async def begin_prompt(self, session: str, text: str) -> int:
        blocks = [{"type": "text", "text": text}]
        return await self.request("session/prompt", {"sessionId": session, "prompt": blocks})

    def updates(self) -> list[Message]:
        """What was said of sessions, but for the commands: they come with each, at a time of their own."""
        told = [m["params"]["update"] for m in self.received if m.get("method") == "session/update"]
        return [update for update in told if update["sessionUpdate"] != "available_commands_update"]

    def text(self) -> str:
        chunks = [u for u in self.updates() if u["sessionUpdate"] == "agent_message_chunk"]
        return "".join(u["content"]["text"] for u in chunks)

    def story(self, skip: Sequence[str] = ("usage_update", "available_commands_update")) -> list[str]:
        """What happened on the wire, a word or two a message; chunks of one message count once."""
        told: list[str] = []
        for message in self.received:
            if message.get("method") == "session/update":
                update = message["params"]["update"]
                kind = update["sessionUpdate"]
                if kind in skip:
                    continue
                status = update.get("status")
                line = f"{kind} {status}" if status else kind
            elif "method" in message:
                line = message["method"]
            elif "error" in message:
                line = f"error {message['error']['code']}"
            else:
                line = f"result {message['result'].get('stopReason', '')}".strip()
            if not told or told[-1] != line or not line.endswith("chunk"):
                told.append(line)
        return told
