"""Whole turns with the official SDKs on either side, and not one message that the official schema faults.

The peers live outside our environment: `ACP_PEER_PYTHON` names the Python of a virtual environment with
`agent-client-protocol`, `ACP_PEER_NODE` a folder with `node_modules/@agentclientprotocol/sdk`. `.ci/run`
makes both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from peers import INTEROP, Peer, go_through_everything, python_peer, take_turns, typescript_peer
from wire_check import judged, violations

from acp_client import connect


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
    permission, *_ = seen["permissions"]
    assert "note.txt" in permission["title"]
    assert permission["content"] == ["diff"]
    assert {"allow_once", "allow_always", "reject_once"} <= set(permission["options"])
    assert {"tool_call", "tool_call_update", "agent_message_chunk"} <= set(seen["updates"])
    assert (seen["mode"], seen["listed"], seen["resumed"], seen["nobody"]) == ("ask", [1, 0], "end_turn", -32002)
    wire = judged(log, 1)
    assert wire.violations == []
    assert {"agent: fs/write_text_file", "client: session/set_mode", "agent: session/resume answered"} <= wire.said


def test_the_official_client_of_version_2_goes_through_a_whole_session(tmp_path: Path) -> None:
    seen, log = drive(typescript_peer("typescript_client_v2"), tmp_path)
    assert (seen["version"], seen["edit"], seen["cancel"]) == (2, "end_turn", "cancelled")
    assert seen["echoed"] is True
    assert seen["mode"] == "all"
    assert seen["listed"] == 1
    assert {"user_message", "agent_message", "tool_call_update", "state_update"} <= set(seen["replayed"])
    assert not {"tool_call_content_chunk", "agent_message_chunk"} & set(seen["replayed"])
    permission, *_ = seen["permissions"]
    assert permission["content"] == ["diff"]
    assert (seen["call"], seen["late"], seen["nobody"]) == (True, -32602, -32002)
    wire = judged(log, 2)
    assert wire.violations == []
    assert {"agent: terminal_update", "agent: terminal_output_chunk", "client: tool_call/cancel"} <= wire.said


# Our client, their agent ------------------------------------------------------------------------------------

AGENTS = [
    pytest.param(python_peer, "python_agent", 1, id="python-0.12.1"),
    pytest.param(typescript_peer, "typescript_agent", 1, id="typescript-2.4.0"),
    pytest.param(typescript_peer, "typescript_agent_v2", 2, id="typescript-2.4.0-draft-of-version-2"),
]


@pytest.mark.parametrize(("peer", "script", "version"), AGENTS)
def test_our_client_takes_turns_with_an_official_agent(peer: Peer, script: str, version: int, tmp_path: Path) -> None:
    log = tmp_path / "wire.jsonl"
    command = recorded(log, peer(script))
    anyio.run(take_turns, command, version, tmp_path)
    assert violations(log, version) == []


@pytest.mark.parametrize(("peer", "script", "version"), AGENTS)
def test_our_client_bears_everything_that_an_official_agent_may_say_and_do(
    peer: Peer, script: str, version: int, tmp_path: Path
) -> None:
    log = tmp_path / "wire.jsonl"
    command = recorded(log, peer(script))
    anyio.run(go_through_everything, command, version, tmp_path)
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
