"""Whole turns with the official SDKs on either side, and not one message that the official schema faults.

The peers live outside our environment: `ACP_PEER_PYTHON` names the Python of a virtual environment with
`agent-client-protocol`, `ACP_PEER_NODE` a folder with `node_modules/@agentclientprotocol/sdk`. `.ci/run`
makes both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire_check import violations

from acp.updates import MessageChunk, TextBlock, ToolCall, ToolCallUpdate
from acp_client import Host, LocalFiles, allow_all, connect

ROOT = Path(__file__).resolve().parents[2]
INTEROP = ROOT / "interop"
Peer = Callable[[str], list[str]]


def python_peer(script: str) -> list[str]:
    python = os.environ.get("ACP_PEER_PYTHON")
    if not python:
        pytest.skip("ACP_PEER_PYTHON is not set: run .ci/run to test against the official Python SDK")
    return [python, str(INTEROP / f"{script}.py")]


def typescript_peer(script: str) -> list[str]:
    folder = os.environ.get("ACP_PEER_NODE")
    if not folder:
        pytest.skip("ACP_PEER_NODE is not set: run .ci/run to test against the official TypeScript SDK")
    copy = Path(folder) / f"{script}.mjs"  # Node resolves packages from where the script lies
    shutil.copyfile(INTEROP / f"{script}.mjs", copy)
    return [shutil.which("node") or "node", str(copy)]


def recorded(log: Path, command: list[str]) -> list[str]:
    """The command, with all that passes on the wire kept in a log."""
    return [sys.executable, str(INTEROP / "tee.py"), str(log), *command]


# Their client, our agent ------------------------------------------------------------------------------------


def drive(client: list[str], tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """What an official client saw of our agent, and the log of the wire."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    log = tmp_path / "wire.jsonl"
    agent = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", str(tmp_path / "sessions")]
    command = [*client, str(workspace), *recorded(log, agent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "invalid" not in done.stderr.lower()
    assert (workspace / "note.txt").read_text() == "hello"
    return json.loads(done.stdout.splitlines()[-1]), log


@pytest.mark.parametrize("peer", [python_peer, typescript_peer], ids=["python-0.12.1", "typescript-2.4.0"])
def test_an_official_client_edits_with_permission_and_cancels(peer: Any, tmp_path: Path) -> None:
    seen, log = drive(peer("python_client" if peer is python_peer else "typescript_client"), tmp_path)
    assert seen["version"] == 1
    assert seen["edit"] == "end_turn"
    assert seen["cancel"] == "cancelled"
    [permission] = seen["permissions"]
    assert "note.txt" in permission["title"]
    assert permission["content"] == ["diff"]
    assert {"allow_once", "allow_always", "reject_once"} <= set(permission["options"])
    assert {"tool_call", "tool_call_update", "agent_message_chunk"} <= set(seen["updates"])
    assert violations(log, 1) == []


def test_the_official_client_of_version_2_goes_through_a_whole_session(tmp_path: Path) -> None:
    seen, log = drive(typescript_peer("typescript_client_v2"), tmp_path)
    assert (seen["version"], seen["edit"], seen["cancel"]) == (2, "end_turn", "cancelled")
    assert seen["echoed"] is True
    assert seen["mode"] == "all"
    assert seen["listed"] == 1
    assert {"user_message", "agent_message", "tool_call_update", "state_update"} <= set(seen["replayed"])
    assert not {"tool_call_content_chunk", "agent_message_chunk"} & set(seen["replayed"])
    [permission] = seen["permissions"]
    assert permission["content"] == ["diff"]
    assert violations(log, 2) == []


# Our client, their agent ------------------------------------------------------------------------------------

AGENTS = [
    pytest.param(python_peer, "python_agent", 1, id="python-0.12.1"),
    pytest.param(typescript_peer, "typescript_agent", 1, id="typescript-2.4.0"),
    pytest.param(typescript_peer, "typescript_agent_v2", 2, id="typescript-2.4.0-draft-of-version-2"),
]


@pytest.mark.parametrize(("peer", "script", "version"), AGENTS)
def test_our_client_takes_turns_with_an_official_agent(peer: Peer, script: str, version: int, tmp_path: Path) -> None:
    log = tmp_path / "wire.jsonl"
    (tmp_path / "note.txt").write_text("from the editor")
    command = recorded(log, peer(script))

    async def converse() -> None:
        host = Host(ask=allow_all, files=LocalFiles(tmp_path))
        async with connect(command, host=host, version=version) as client:
            assert client.info.version == version
            session = await client.new_session(tmp_path)
            async with session.prompt("hello ask") as turn:
                updates = [update async for update in turn]
            assert turn.stop_reason == "end_turn"
            words = [
                u.content.text for u in updates if isinstance(u, MessageChunk) and isinstance(u.content, TextBlock)
            ]
            assert "".join(words[-2:]) == "hello selected:yes "
            [call] = [update for update in updates if isinstance(update, ToolCall)]
            assert (call.id, call.title) == ("c1", "Touch")
            assert [u.status for u in updates if isinstance(u, ToolCallUpdate)] == ["completed"]
            async with session.prompt("wait") as turn:
                async for update in turn:
                    match update:
                        case MessageChunk("agent", TextBlock("waiting")):
                            await turn.cancel()
                        case _:
                            pass
            assert turn.stop_reason == "cancelled"
            if version == 1:
                async with session.prompt(f"read:{tmp_path / 'note.txt'}") as turn:
                    assert await turn.text() == "from the editor"
            else:
                assert [card.id for card in await client.list_sessions()] == ["s0"]
            loaded = await client.load_session("old", tmp_path)
            said = [(u.role, u.content.text) for u in loaded.history]  # type: ignore[union-attr]
            assert said == [("user", "before"), ("agent", "indeed")]

    anyio.run(converse)
    assert violations(log, version) == []


@pytest.mark.parametrize(("peer", "script"), [(typescript_peer, "typescript_agent"), (python_peer, "python_agent")])
def test_an_agent_of_version_1_that_is_offered_the_draft_answers_in_version_1(
    peer: Peer, script: str, tmp_path: Path
) -> None:
    async def converse() -> None:
        async with connect(peer(script), version=2) as client:
            assert client.info.version == 1
            session = await client.new_session(tmp_path)
            async with session.prompt("fine") as turn:
                assert await turn.text() == "fine "

    anyio.run(converse)
