"""The official SDKs over the network, both ways: their WebSocket and HTTP clients with our server, ours with theirs.

Every message is checked against the official schema.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from announced import announced
from anyio.streams.buffered import BufferedByteReceiveStream
from peers import Peer, python_peer, take_turns, typescript_peer
from tap import tap
from wire_check import judged

from acp.transports.remote_url import connect as reach

pytestmark = pytest.mark.anyio

TAPPED_SERVE = Path(__file__).with_name("tapped_serve.py")
WAYS = pytest.mark.parametrize("way", ["http", "ws"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def at(url: str, way: str) -> str:
    """The same endpoint, by the other transport."""
    return url.replace("http:", f"{way}:")


def check(folder: Path, version: int) -> None:
    """Nothing that was said on any connection is at fault, and a turn was asked for on one."""
    wires = [judged(log, version) for log in folder.glob("wire-*.jsonl")]
    assert [violation for wire in wires for violation in wire.violations] == []
    said = set[str]().union(*(wire.said for wire in wires))
    assert {"client: session/prompt", "agent: tool_call_update", "agent: session/prompt answered"} <= said


async def drive(client: list[str], way: str, folder: Path, version: int) -> dict[str, Any]:
    """What an official client saw of our agent."""
    workspace = folder / "workspace"
    workspace.mkdir()
    serve = [sys.executable, str(TAPPED_SERVE), str(folder), "--http", "127.0.0.1:0", "--backend", "scripted"]
    async with announced(*serve, "--sessions", str(folder / "sessions")) as server:
        command = [*client, str(workspace), at(server.url, way)]
        done = await anyio.run_process(command, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert (workspace / "note.txt").read_text() == "hello"
    check(folder, version)
    return json.loads(done.stdout.splitlines()[-1])


@WAYS
@pytest.mark.parametrize("peer", [python_peer, typescript_peer], ids=["python-0.12.1", "typescript-2.4.0"])
async def test_an_official_client_goes_through_a_session_over_the_network(peer: Any, way: str, tmp_path: Path) -> None:
    seen = await drive(peer("python_client" if peer is python_peer else "typescript_client"), way, tmp_path, 1)
    assert (seen["version"], seen["edit"], seen["cancel"], seen["again"]) == (1, "end_turn", "cancelled", "end_turn")
    assert len(seen["permissions"]) == 1
    assert {"tool_call", "tool_call_update", "agent_message_chunk"} <= set(seen["updates"])
    assert {"user_message_chunk", "tool_call", "agent_message_chunk"} <= set(seen["replayed"])


@WAYS
async def test_the_official_client_of_version_2_does_too(way: str, tmp_path: Path) -> None:
    seen = await drive(typescript_peer("typescript_client_v2"), way, tmp_path, 2)
    assert (seen["version"], seen["edit"], seen["cancel"]) == (2, "end_turn", "cancelled")
    assert {"user_message", "agent_message", "tool_call_update", "state_update"} <= set(seen["replayed"])


@asynccontextmanager
async def served(command: list[str]) -> AsyncGenerator[str]:
    """One of their agents on the network: its URL."""
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=None) as process:
        assert process.stdout is not None
        try:
            with anyio.fail_after(60):
                yield (await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)).decode()
        finally:
            process.kill()


@WAYS
@pytest.mark.parametrize(
    ("peer", "script", "version"),
    [
        pytest.param(python_peer, "python_agent", 1, id="python-0.12.1"),
        pytest.param(typescript_peer, "typescript_agent", 1, id="typescript-2.4.0"),
        pytest.param(typescript_peer, "typescript_agent_v2", 2, id="typescript-2.4.0-draft-of-version-2"),
    ],
)
async def test_our_client_takes_turns_with_an_official_agent_over_the_network(
    peer: Peer, script: str, version: int, way: str, tmp_path: Path
) -> None:
    async with served([*peer(script), "--network"]) as url, reach(at(url, way)) as transport:
        tap(transport, tmp_path / "wire-1.jsonl", "client")
        await take_turns(transport, version, tmp_path)
    check(tmp_path, version)
