"""An agent made of raw JSON, to say exactly what a test wants an agent to say."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from acp.tasks import task_group
from acp.transports import Transport
from acp.transports.memory import memory_pair
from acp_client import Client, Host, Session, connect


class WireAgent:
    """The other end of a transport: one in memory, or a connection that was accepted."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.heard: list[dict[str, Any]] = []

    async def say(self, **message: Any) -> None:
        await self._transport.send(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def hear(self) -> dict[str, Any]:
        text = await self._transport.receive()
        assert isinstance(text, bytes)
        self.heard.append(json.loads(text))
        return self.heard[-1]

    async def hear_call(self, method: str) -> dict[str, Any]:
        """The next message of a method; what comes before it is kept in `heard`."""
        while True:
            message = await self.hear()
            if message.get("method") == method:
                return message

    async def hear_answer(self, id: Any) -> dict[str, Any]:
        while True:
            message = await self.hear()
            if "method" not in message and message["id"] == id:
                return message

    async def initialize(self, version: int = 1, **result: Any) -> None:
        message = await self.hear_call("initialize")
        await self.say(id=message["id"], result={"protocolVersion": version, **result})

    async def open_session(self, id: str = "s1") -> None:
        message = await self.hear_call("session/new")
        await self.say(id=message["id"], result={"sessionId": id})

    async def update(self, update: dict[str, Any], session: str = "s1") -> None:
        await self.say(method="session/update", params={"sessionId": session, "update": update})

    async def words(self, text: str, session: str = "s1", **more: Any) -> None:
        chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
        await self.update(chunk | more, session)

    async def end_turn(self, prompt: dict[str, Any], reason: str = "end_turn", **more: Any) -> None:
        await self.say(id=prompt["id"], result={"stopReason": reason, **more})

    async def ask(self, id: Any, call: dict[str, Any] | None = None) -> None:
        options = [
            {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
            {"optionId": "no", "name": "Reject", "kind": "reject_once"},
        ]
        call = {"toolCallId": "c1", **(call or {})}
        params = {"sessionId": "s1", "toolCall": call, "options": options}
        await self.say(id=id, method="session/request_permission", params=params)

    async def close(self) -> None:
        await self._transport.aclose()


@asynccontextmanager
async def connected(
    host: Host | None = None, **initialized: Any
) -> AsyncGenerator[tuple[Client, WireAgent, TaskGroup]]:
    """A client that has initialized, its agent, and a task group for what the agent does meanwhile."""
    ours, theirs = memory_pair()
    agent = WireAgent(theirs)
    with anyio.fail_after(60):
        async with task_group(cancel_at_end=True) as group:

            async def initialize() -> None:
                await agent.initialize(**initialized)

            group.start_soon(initialize)
            try:
                async with connect(ours, host=host) as client:
                    yield client, agent, group
            finally:
                await agent.close()


@asynccontextmanager
async def in_session(
    host: Host | None = None, **initialized: Any
) -> AsyncGenerator[tuple[Session, WireAgent, TaskGroup]]:
    """The same with a session, s1 in /w."""
    async with connected(host, **initialized) as (client, agent, group):
        group.start_soon(agent.open_session)
        yield await client.new_session("/w"), agent, group
