"""The agent's terminals on the wire: as version 2 says them, as version 1 shows them, live and in a replay."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from test_sessions import connected, initialize, is_idle, of_kind, open_again, start, take_turn
from wire_client import Message, WireClient

from acp_server.agent import Agent
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio
TERMINALS = {"_meta": {"terminal_output": True}}
KINDS = ("tool_call", "tool_call_update", "terminal_update", "terminal_output_chunk")


def printed(updates: list[Message]) -> bytes:
    """What a client shows at the end."""
    shown = b""
    for update in updates:
        if update["sessionUpdate"] == "terminal_output_chunk":
            shown += base64.b64decode(update["data"])
        elif update.get("output") is not None:
            shown = base64.b64decode(update["output"]["data"])
    return shown


def statuses(updates: list[Message]) -> list[Any]:
    return [update.get("status") for update in updates if update["sessionUpdate"] == "tool_call_update"]


async def start_v1(client: WireClient, cwd: Path, capabilities: Message) -> str:
    await initialize(client, 1, capabilities)
    return (await client.call("session/new", {"cwd": str(cwd), "mcpServers": []}))["result"]["sessionId"]


async def test_a_command_runs_in_a_terminal_that_its_call_shows(tmp_path: Path) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(agent) as client:
        session = await start(client, tmp_path, 2)
        await take_turn(client, session, "run echo hi; exit 3", 2)
        live = of_kind(client, *KINDS)
    assert live[0] == {
        "sessionUpdate": "terminal_update", "terminalId": "t1.1", "command": "echo hi; exit 3", "cwd": str(tmp_path),
    }  # fmt: skip
    announced, running, done = [u for u in live if u["sessionUpdate"] == "tool_call_update"]
    assert announced["content"][-1] == running["content"][0] == {"type": "terminal", "terminalId": "t1.1"}
    assert "content" not in done or done["content"] == [{"type": "terminal", "terminalId": "t1.1"}]
    terminals = [u for u in live if u["sessionUpdate"] == "terminal_update"]
    assert terminals[1]["capabilities"] == {"cancel": {}}
    assert terminals[-1]["exitStatus"] == {"exitCode": 3}
    assert terminals[-1]["capabilities"] is None
    assert live.index(terminals[-1]) < live.index(done)
    assert printed(live) == b"hi\n"
    async with connected(agent) as client:  # and the replay tells the same
        await initialize(client, 2)
        await client.call(*open_again(session, tmp_path, 2, replay=True))
        again = of_kind(client, *KINDS)
    assert [u["sessionUpdate"] for u in again] == ["terminal_update", "tool_call_update"]
    assert again[0]["exitStatus"] == {"exitCode": 3}
    assert printed(again) == b"hi\n"
    assert again[1]["content"] == [{"type": "terminal", "terminalId": "t1.1"}]


async def test_a_terminal_is_cancelled_and_its_call_ends_by_itself(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        await client.prompt(session, "run echo on; sleep 600\nsay after")
        await client.until(lambda m: "terminal_output_chunk" in str(m))
        wrong = await client.call("terminal/cancel", {"sessionId": session, "terminalId": "t9.9"})
        assert wrong["error"]["code"] == -32602
        asked = await client.call("terminal/cancel", {"sessionId": session, "terminalId": "t1.1"})
        assert asked["result"] == {}
        ended = await client.until(is_idle)
        assert ended["params"]["update"]["stopReason"] == "end_turn"
        updates = of_kind(client, *KINDS)
        assert [u["exitStatus"] for u in updates if "exitStatus" in u] == [{"signal": "SIGTERM"}]
        assert statuses(updates) == ["pending", "in_progress", "completed"]
        assert client.text() == "after"
        late = await client.call("terminal/cancel", {"sessionId": session, "terminalId": "t1.1"})
        assert late["error"]["code"] == -32602


async def test_cancelling_the_turn_ends_the_terminal_before_the_turn(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        await client.prompt(session, "run trap '' TERM; echo on; while :; do sleep 0.05; done")
        await client.until(lambda m: "terminal_output_chunk" in str(m))
        await client.notify("session/cancel", {"sessionId": session})
        ended = await client.until(is_idle)
        assert ended["params"]["update"]["stopReason"] == "cancelled"
        updates = of_kind(client, *KINDS)
        assert len([u for u in updates if "exitStatus" in u]) == 1
        assert statuses(updates)[-1] == "cancelled"


async def test_a_command_that_the_user_rejects_leaves_no_open_terminal(tmp_path: Path) -> None:
    async with connected() as client:
        client.answer = lambda message: {"outcome": {"outcome": "selected", "optionId": "reject_once"}}
        session = await start(client, tmp_path, 2)
        await take_turn(client, session, "run touch made", 2)
        assert [u["exitStatus"] for u in of_kind(client, "terminal_update") if "exitStatus" in u] == [{}]
        assert not (tmp_path / "made").exists()


async def test_version_1_shows_the_output_as_text_that_grows(tmp_path: Path) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(agent) as client:
        session = await start_v1(client, tmp_path, {})
        await take_turn(client, session, "run echo one; sleep 0.3; echo two", 1)
        texts = [u["content"][0]["content"]["text"] for u in of_kind(client, "tool_call_update") if "content" in u]
        assert texts == ["```console\none\n```", "```console\none\ntwo\n```", "```console\none\ntwo\n```"]
        assert "terminal" not in str([u.get("content") for u in client.updates()])
    async with connected(agent) as client:
        await initialize(client, 1)
        await client.call(*open_again(session, tmp_path, 1, replay=True))
        [call] = of_kind(client, *KINDS)
        assert call["content"][0]["content"]["text"] == "```console\none\ntwo\n```"


async def test_version_1_streams_terminals_in_meta_to_a_client_that_takes_them(tmp_path: Path) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(agent) as client:
        session = await start_v1(client, tmp_path, TERMINALS)
        command = "printf '\\303'; sleep 0.3; printf '\\244\\n'; exit 3"  # half a character at a time
        await take_turn(client, session, f"run {command}", 1)
        announced, *changes = of_kind(client, *KINDS)
        assert announced["content"][-1] == {"type": "terminal", "terminalId": "t1.1"}
        about = {"terminal_id": "t1.1", "cwd": str(tmp_path), "command": command}
        assert announced["_meta"]["terminal_info"] == about
        meta = [change["_meta"] for change in changes if "_meta" in change]
        assert meta == [
            {"terminal_output": {"terminal_id": "t1.1", "data": "ä\n"}},
            {"terminal_exit": {"terminal_id": "t1.1", "exit_code": 3, "signal": None}},
        ]
        assert changes[-1]["status"] == "completed"
    async with connected(agent) as client:
        await initialize(client, 1, TERMINALS)
        await client.call(*open_again(session, tmp_path, 1, replay=True))
        announced, done = of_kind(client, *KINDS)
        assert (announced["status"], done["status"]) == ("in_progress", "completed")
        assert done["_meta"]["terminal_output"]["data"] == "ä\n"
        assert done["_meta"]["terminal_exit"]["exit_code"] == 3
