"""One application, both versions: the same code against the same agent, over the memory transport."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from acp.errors import LocalProtocolError, RequestError
from acp.transports.memory import memory_pair
from acp.updates import (
    UNSET,
    BlockContent,
    ContextUsage,
    ExitStatus,
    MessageChunk,
    SessionInfo,
    Terminal,
    TerminalChunk,
    TerminalRef,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    Update,
)
from acp.v1.terminals import terminals_of
from acp_client import Client, Host, PermissionRequest, allow_all, connect
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    return tmp_path


@asynccontextmanager
async def connected(
    version: int, agent: Agent | None = None, host: Host | None = None, **parts: Any
) -> AsyncGenerator[Client, None]:
    ours, theirs = memory_pair()
    agent = agent or Agent(ScriptedBackend(), **parts)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, agent, theirs)
        async with connect(ours, host=host or Host(ask=allow_all), version=version) as client:
            assert client.info.version == client.dialect.version == version
            yield client


async def take_turn(client: Client, workspace: Path, prompt: str) -> tuple[list[Update], str | None]:
    session = await client.new_session(workspace)
    async with session.prompt(prompt) as turn:
        updates = [update async for update in turn]
    await session.close()
    return updates, turn.stop_reason


def gist(update: Update) -> object:
    """What an application does with an update, whatever the version."""
    match update:
        case ToolCall(id, title, kind, status):
            return "call", id, title, kind, status
        case ToolCallUpdate(id, status=status):
            return "call", id, None if status is UNSET else status
        case Terminal(id, str(command), cwd):
            return "terminal", id, command, cwd
        case Terminal(id, exit=ExitStatus(code)):
            return "terminal", id, code
        case Terminal():
            return "terminal", None  # what may be done to it, which version 1 cannot say
        case MessageChunk(role, TextBlock(text), id):
            return role, id, text
        case SessionInfo(title):
            return "title", title
        case ContextUsage(used, size):
            return used, size
        case TerminalChunk(id, data):
            return "terminal", id, data
        case _:
            return update


PROMPT = "think hm\nread a.py\nedit a.py 'x = 1' 'x = 3'\nrun echo hi; exit 3\nsay done"


async def test_the_same_turn_gives_the_same_updates_on_either_version(tmp_path: Path) -> None:
    told: list[tuple[list[object], str | None]] = []
    for version in (1, 2):
        workspace = tmp_path / "work"
        workspace.mkdir(exist_ok=True)
        (workspace / "a.py").write_text("x = 1\n")
        async with connected(version, host=Host(ask=allow_all, agent_terminals=True)) as client:
            updates, reason = await take_turn(client, workspace, PROMPT)
        # Version 2 says the prompt back, and version 1 does not.
        rest = [gist(u) for u in updates if not (isinstance(u, MessageChunk) and u.role == "user")]
        told.append(([item for item in rest if item[-1] is not None], reason))  # type: ignore[index]
    assert told[0] == told[1]


async def test_the_terminals_of_the_agent_are_in_the_snapshot(workspace: Path, version: int) -> None:
    async with connected(version, host=Host(ask=allow_all, agent_terminals=True)) as client:
        session = await client.new_session(workspace)
        async with session.prompt("run echo hi; exit 3") as turn:
            async for _ in turn:
                pass
        [terminal] = session.snapshot.terminals.values()
        assert (terminal.command, terminal.cwd) == ("echo hi; exit 3", str(workspace))
        assert (terminal.output, terminal.exit) == (b"hi\n", ExitStatus(3))
        assert session.snapshot.calls[terminal.id].content == (TerminalRef(terminal.id),)
        assert [kind for kind, _ in session.snapshot.order][1:3] == ["terminal", "call"]
        with pytest.raises(LocalProtocolError):  # it has ended, or nobody can
            await session.cancel_terminal(terminal.id)


async def test_without_asking_for_them_version_1_has_text_in_their_place(workspace: Path) -> None:
    async with connected(1) as client:
        session = await client.new_session(workspace)
        async with session.prompt("run echo hi") as turn:
            async for _ in turn:
                pass
        assert session.snapshot.terminals == {}
        [call] = session.snapshot.calls.values()
        assert call.content == (BlockContent(TextBlock("```console\nhi\n```")),)


async def test_a_command_is_stopped_by_its_terminal_in_version_2(workspace: Path) -> None:
    async with connected(2) as client:
        session = await client.new_session(workspace)
        with anyio.fail_after(60):
            async with session.prompt("run echo on; sleep 600\nsay after") as turn:
                async for update in turn:
                    if isinstance(update, TerminalChunk):
                        with pytest.raises(LocalProtocolError, match="does not offer"):
                            await session.cancel_terminal("other")
                        await session.cancel_terminal(update.id)
        assert turn.stop_reason == "end_turn"
        [terminal] = session.snapshot.terminals.values()
        assert terminal.exit == ExitStatus(None, "SIGTERM")


def test_meta_that_speaks_of_terminals_otherwise_is_passed_over() -> None:
    for meta in (
        {"terminal_info": "t1"}, {"terminal_output": {"terminal_id": "t1", "data": 3}}, {"terminal_exit": {}}, {"x": 1},
    ):  # fmt: skip
        assert not terminals_of(ToolCallUpdate("c", meta=meta))
    odd = {"terminal_exit": {"terminal_id": "t1", "exit_code": "zero", "signal": 9}}
    assert terminals_of(ToolCallUpdate("c", meta=odd)) == [Terminal("t1", exit=ExitStatus())]


async def test_a_question_shows_the_call_and_its_change(workspace: Path, version: int) -> None:
    asked: list[PermissionRequest] = []

    async def ask(request: PermissionRequest) -> str | None:
        asked.append(request)
        return await allow_all(request)

    async with connected(version, host=Host(ask=ask)) as client:
        await take_turn(client, workspace, "read a.py\nedit a.py 'x = 1' 'x = 3'")
    [request] = asked
    assert request.title == "Edit a.py"
    assert request.call.kind == "edit"
    assert request.paths == (str(workspace / "a.py"),)
    assert (workspace / "a.py").read_text() == "x = 3\ny = 2\n"


async def test_cancelling_dismisses_the_open_question_and_the_turn_says_so(workspace: Path, version: int) -> None:
    asked = anyio.Event()

    async def ask(request: PermissionRequest) -> str | None:
        asked.set()
        await anyio.sleep_forever()

    async with connected(version, host=Host(ask=ask)) as client:
        session = await client.new_session(workspace)
        async with session.prompt("run sleep 60") as turn, anyio.create_task_group() as group:

            async def stop() -> None:
                await asked.wait()
                await turn.cancel()

            group.start_soon(stop)
            async for _ in turn:
                pass
        assert turn.stop_reason == "cancelled"


async def test_a_failing_model_raises_its_error(workspace: Path, version: int) -> None:
    async with connected(version) as client:
        session = await client.new_session(workspace)
        with pytest.raises(RequestError, match="told to fail"):
            async with session.prompt("fail") as turn:
                await turn.text()
        async with session.prompt("say better") as turn:
            assert await turn.text() == "better"


async def test_a_loaded_session_has_its_history_and_goes_on(workspace: Path, version: int) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(version, agent) as client:
        session = await client.new_session(workspace)
        for text in ("read a.py", "say more"):
            async with session.prompt(text) as turn:
                await turn.text()
        [card] = await client.list_sessions(workspace)
        assert (card.id, card.cwd, card.title) == (session.id, str(workspace), "read a.py")
    async with connected(version, agent) as client:
        loaded = await client.load_session(card.id, workspace)
        said = [gist(update) for update in loaded.history]
        assert ("user", "t1.u", "read a.py") in said
        assert ("user", "t2.u", "say more") in said
        [call] = [update for update in loaded.history if isinstance(update, ToolCall)]
        assert call.status == "completed"
        assert loaded.title == "read a.py"
        async with loaded.prompt("say on") as turn:
            assert await turn.text() == "on"


async def test_a_resumed_session_has_no_history(workspace: Path, version: int) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(version, agent) as client:
        session = await client.new_session(workspace)
        async with session.prompt("say hi") as turn:
            await turn.text()
    async with connected(version, agent) as client:
        resumed = await client.load_session(session.id, workspace, replay=False)
        assert resumed.history == []
        with pytest.raises(LocalProtocolError, match="open already"):
            await client.load_session(session.id, workspace)


async def test_a_session_that_cannot_be_loaded_is_not_open(workspace: Path, version: int) -> None:
    async with connected(version) as client:
        with pytest.raises(RequestError) as refused:
            await client.load_session("nobody", workspace)
        assert refused.value.code == -32002
        assert client.sessions == {}


async def test_a_deleted_session_leaves_the_list(workspace: Path, version: int) -> None:
    async with connected(version) as client:
        kept, gone = [await client.new_session(workspace) for _ in range(2)]
        await client.delete_session(gone.id)
        assert [card.id for card in await client.list_sessions()] == [kept.id]
        assert list(client.sessions) == [kept.id]


async def test_options_are_set_on_either_version(workspace: Path, version: int) -> None:
    async with connected(version) as client:
        session = await client.new_session(workspace)
        assert [(o.id, o.value) for o in session.options if hasattr(o, "id")] == [  # type: ignore[union-attr]
            ("mode", "ask"), ("model", "default"), ("thought_level", "on"),
        ]  # fmt: skip
        await session.set_option("thought_level", "off")
        await session.set_mode("all")
        assert session.mode == "all"
        assert [o.value for o in session.options if hasattr(o, "value")] == ["all", "default", "off"]  # type: ignore[union-attr]
        with pytest.raises(RequestError, match="cannot be 'root'"):
            await session.set_option("mode", "root")


async def test_one_call_is_cancelled_in_version_2_and_version_1_says_that_it_cannot(workspace: Path) -> None:
    async with connected(1) as client:
        session = await client.new_session(workspace)
        with pytest.raises(LocalProtocolError, match="version 1"):
            await session.cancel_call("t1.1")
    async with connected(2, policy="all") as client:
        session = await client.new_session(workspace)
        async with session.prompt("run echo before; sleep 60\nsay after") as turn:
            async for update in turn:
                if isinstance(update, TerminalChunk):
                    await session.cancel_call(update.id)
        [call] = session.snapshot.calls.values()
        assert call.status == "cancelled"
        with pytest.raises(LocalProtocolError, match="does not offer"):
            await session.cancel_call(call.id)
        assert turn.stop_reason == "end_turn"


async def test_a_fork_needs_an_agent_that_opened_it(workspace: Path, version: int) -> None:
    async with connected(version) as client:
        session = await client.new_session(workspace)
        with pytest.raises(LocalProtocolError, match="fork"):
            await client.fork_session(session.id, workspace)
    async with connected(version, host=Host(unstable=["fork"]), unstable=["fork"]) as client:
        session = await client.new_session(workspace)
        fork = await client.fork_session(session.id, workspace)
        assert fork.id != session.id


async def test_mcp_servers_that_the_agent_cannot_reach_are_not_sent(workspace: Path, version: int) -> None:
    async with connected(version) as client:
        for server in (
            {"type": "acp", "name": "a", "serverId": "s"},
            *([{"type": "sse", "name": "a", "url": "https://a.example", "headers": []}] if version == 2 else []),
        ):
            with pytest.raises(LocalProtocolError, match=f"of type {server['type']}"):
                await client.new_session(workspace, mcp_servers=[server])


async def test_a_session_works_in_further_directories_and_their_list_is_the_last_one_given(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, version: int
) -> None:
    more, other = tmp_path_factory.mktemp("more"), tmp_path_factory.mktemp("other")
    (more / "b.py").write_text("far = 1\n")
    async with connected(version) as client:
        session = await client.new_session(workspace, directories=[more])
        async with session.prompt(f"read {more / 'b.py'}\nread {other / 'c.py'}") as turn:
            updates = [update async for update in turn]
        assert [u.status for u in updates if isinstance(u, ToolCallUpdate) and u.status in ("completed", "failed")] == [
            "completed",
            "failed",
        ]
        assert [card.directories for card in await client.list_sessions(workspace)] == [(str(more),)]
        await session.close()
        session = await client.load_session(session.id, workspace, directories=[other])
        async with session.prompt("say kept") as turn:
            await turn.text()
        assert [card.directories for card in await client.list_sessions(workspace)] == [(str(other),)]
        with pytest.raises(RequestError, match="additionalDirectories"):
            await client.new_session(workspace, directories=[workspace / "none"])


async def test_an_agent_of_version_1_is_spoken_to_in_version_1_whatever_was_offered(workspace: Path) -> None:
    ours, theirs = memory_pair()

    async with anyio.create_task_group() as group:

        async def answer() -> None:
            text = await theirs.receive()
            assert isinstance(text, bytes)
            message = json.loads(text)
            params = message["params"]
            assert params["protocolVersion"] == 2
            assert params["clientCapabilities"]["fs"] == {"readTextFile": False, "writeTextFile": False}
            result = {"protocolVersion": 1, "agentCapabilities": {}}
            await theirs.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode())

        group.start_soon(answer)
        async with connect(ours, version=2) as client:
            assert client.info.version == 1
            with pytest.raises(LocalProtocolError, match="session/list is not open"):
                await client.list_sessions()
        await theirs.aclose()


async def test_the_snapshot_is_the_same_on_either_version(workspace: Path) -> None:
    seen: list[object] = []
    for version in (1, 2):
        changes: list[str] = []
        async with connected(version) as client:
            session = await client.new_session(workspace)
            session.on_change = lambda change, changes=changes: changes.append(change.kind)
            async with session.prompt("think hm\nread a.py\nsay done") as turn:
                await turn.text()
            now = session.snapshot
        said = [(message.role, message.text) for message in now.messages.values()]
        calls = [(call.title, call.status) for call in now.calls.values()]
        seen.append((said, calls, now.state, now.stop_reason, now.turns, now.title))
        assert {"message", "call", "state"} <= set(changes)
    assert seen[0] == seen[1]
    assert ("user", "think hm\nread a.py\nsay done") in seen[0][0]  # type: ignore[index]
