"""MCP servers that the client itself provides, reached by the agent over their own connection (`mcp/message`)."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from acp.errors import RequestError
from acp.transports.memory import memory_pair
from acp.updates import BlockContent, Notice, TextBlock, ToolCallUpdate
from acp_client import Client, Host, Session, allow_all, connect
from acp_client.provided import Provided
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


class Editor:
    """An editor's tools, and what became of their calls."""

    def __init__(self) -> None:
        self.server = MCPServer("editor", log_level="ERROR")
        self.began, self.cancelled = anyio.Event(), anyio.Event()
        self.server.tool()(self.selection)
        self.server.tool()(self.refuse)
        self.server.tool()(self.wait)

    def selection(self, line: int) -> str:
        """What is selected."""
        return f"line {line}"

    def refuse(self) -> str:
        """Refuse."""
        raise ToolError("not now")

    async def wait(self, ctx: Context) -> None:
        """Wait for the user."""
        await ctx.report_progress(1, 3, "asking around")
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def connected(version: int, host: Host, *, unstable: Any = ("mcp_over_acp",)) -> AsyncGenerator[Client]:
    ours, theirs = memory_pair()
    agent = Agent(ScriptedBackend(), unstable=unstable)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, agent, theirs)
        async with connect(ours, host=host, version=version) as client:
            yield client


async def call(session: Session, name: str, arguments: Any = None) -> tuple[str, str]:
    """How a call ended, and what it showed."""
    async with session.prompt(f"call {name} {json.dumps(arguments or {})}") as turn:
        updates = [update async for update in turn]
    last = [update for update in updates if isinstance(update, ToolCallUpdate)][-1]
    assert isinstance(last.content, tuple)
    [shown] = last.content
    assert isinstance(shown, BlockContent)
    assert isinstance(shown.block, TextBlock)
    return str(last.status), shown.block.text


async def test_the_agent_calls_tools_that_live_in_the_client(tmp_path: Path, version: int) -> None:
    host = Host(ask=allow_all, mcp_servers={"editor": Editor().server})
    async with connected(version, host) as client:
        await client.new_session(tmp_path)
        session = await client.new_session(tmp_path)  # a second session has the same servers
        for _ in range(2):
            assert await call(session, "editor__selection", {"line": 7}) == ("completed", "line 7")
        assert await call(session, "editor__refuse") == ("failed", "Error executing tool refuse: not now")
        status, words = await call(session, "editor__selection", {"line": "x"})
        assert (status, "validation error" in words) == ("failed", True)


async def test_cancelling_a_turn_reaches_the_server_and_what_it_tells_reaches_the_user(
    tmp_path: Path, version: int
) -> None:
    editor = Editor()
    async with connected(version, Host(ask=allow_all, mcp_servers={"editor": editor.server})) as client:
        session = await client.new_session(tmp_path)
        with anyio.fail_after(60):
            async with session.prompt("call editor__wait {}") as turn:
                async for update in turn:
                    if "asking around" in str(update):
                        await editor.began.wait()
                        await turn.cancel()
            assert turn.stop_reason == "cancelled"
            await editor.cancelled.wait()
        assert await call(session, "editor__selection", {"line": 1}) == ("completed", "line 1")


async def test_a_call_alone_can_be_cancelled_in_version_2(tmp_path: Path) -> None:
    editor = Editor()
    async with connected(2, Host(ask=allow_all, mcp_servers={"editor": editor.server})) as client:
        session = await client.new_session(tmp_path)
        with anyio.fail_after(60):
            async with session.prompt("call editor__wait {}\nsay on") as turn:
                async for update in turn:
                    if "asking around" in str(update) and isinstance(update, ToolCallUpdate):
                        await session.cancel_call(update.id)
            await editor.cancelled.wait()
        assert turn.stop_reason == "end_turn"
        assert [call.status for call in session.snapshot.calls.values()] == ["cancelled"]


async def test_an_agent_that_does_not_take_them_is_not_offered_any(tmp_path: Path, version: int) -> None:
    host = Host(ask=allow_all, mcp_servers={"editor": Editor().server})
    async with connected(version, host, unstable=()) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("call editor__selection {}") as turn:
            updates = [update async for update in turn]
    assert not any(isinstance(update, Notice) for update in updates)
    assert "unknown tool" in str(updates)


async def test_a_server_that_fails_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        """Ends with an error as soon as it is asked."""

        def __init__(self, server: MCPServer) -> None:
            self.runs = 0
            self._server: Any = server._lowlevel_server  # type: ignore[attr-defined]

        def create_initialization_options(self) -> Any:
            return self._server.create_initialization_options()

        async def run(self, read: Any, write: Any, options: Any) -> None:
            self.runs += 1
            if self.runs <= 2:  # a probe that fails is followed by a handshake of old
                await read.receive()
                raise RuntimeError("no ink")
            await self._server.run(read, write, options)

    failing = Failing(Editor().server)
    async with connected(1, Host(ask=allow_all, mcp_servers={"editor": failing})) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("say fine") as turn:
            [notice] = [update async for update in turn if isinstance(update, Notice)]
        assert notice.description == "editor: The MCP server has ended."
        assert "no ink" in caplog.text
        await session.close()
        session = await client.new_session(tmp_path)
        assert await call(session, "editor__selection", {"line": 2}) == ("completed", "line 2")


async def test_a_provider_answers_what_cannot_be_with_an_error() -> None:
    async def tell(params: Any) -> None:
        raise AssertionError(params)

    async with anyio.create_task_group() as group:
        provided = Provided({"editor": Editor().server}, group)
        [offer] = provided.offers
        ask = {"serverId": offer["serverId"], "requestId": "r1", "method": "tools/list"}
        with pytest.raises(RequestError, match="no such MCP server"):
            await provided.ask({**ask, "serverId": "other"}, tell)
        hello = {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}
        }  # fmt: skip
        answer = await provided.ask({**ask, "method": "initialize", "params": hello}, tell)
        assert answer["result"]["serverInfo"]["name"] == "editor"
        answer = await provided.ask(ask, tell)  # a consumer of old, which cannot say that it is initialized
        assert [tool["name"] for tool in answer["result"]["tools"]] == ["selection", "refuse", "wait"]
        answer = await provided.ask({**ask, "method": "no/such"}, tell)
        assert answer["error"]["code"] == -32601
        group.cancel_scope.cancel()


PROXY = """
import anyio
from acp.proxy import Proxy, run_proxy
from acp_client.provided import Provided
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("weather", log_level="ERROR")

@server.tool()
def forecast(city: str) -> str:
    "Tomorrow's weather."
    return f"rain in {city}"

@server.tool()
async def sit(ctx: Context) -> str:
    "Wait for better weather."
    await ctx.report_progress(1, 2, "it rains")
    await anyio.sleep_forever()

async def main():
    proxy = Proxy("weather")
    async with anyio.create_task_group() as group:
        provided = Provided({"weather": server}, group)

        @proxy.from_client("session/new")
        async def new(passing):
            servers = [*passing.params.get("mcpServers", ()), *provided.offers]
            return await passing.forward({**passing.params, "mcpServers": servers})

        @proxy.from_agent("mcp/message")
        async def asked(passing):
            if passing.params["serverId"] not in provided:
                return await passing.forward()
            async def tell(params):
                await passing.agent.notify("mcp/message", params)
            passing.release()
            return await provided.ask(passing.params, tell)

        await run_proxy(proxy)
        group.cancel_scope.cancel()

anyio.run(main)
"""


async def test_servers_of_the_client_and_of_a_proxy_are_reached_through_a_chain(
    tmp_path: Path, version: int, anyio_backend: str
) -> None:
    if anyio_backend == "trio":
        pytest.skip("three processes; the chain has tests of its own on trio")
    script = tmp_path / "proxy.py"
    script.write_text(PROXY)
    python = sys.executable
    agent = [python, "-m", "acp_server", "--backend", "scripted", "--sessions", "none", "--unstable", "mcp_over_acp"]
    chain = [python, "-m", "acp.proxy", "--proxy", f"{python} {script}", "--", *agent]
    editor = Editor()
    host = Host(ask=allow_all, mcp_servers={"editor": editor.server})
    with anyio.fail_after(60):
        async with connect(chain, host=host, version=version) as client:
            session = await client.new_session(tmp_path)
            assert await call(session, "editor__selection", {"line": 7}) == ("completed", "line 7")
            assert await call(session, "weather__forecast", {"city": "Oslo"}) == ("completed", "rain in Oslo")
            for name, words in (("weather__sit", "it rains"), ("editor__wait", "asking around")):
                async with session.prompt(f"call {name} {{}}") as turn:
                    async for update in turn:
                        if words in str(update):
                            await turn.cancel()
                assert turn.stop_reason == "cancelled"
            await editor.cancelled.wait()
