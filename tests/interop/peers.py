"""The official SDKs' scripts as commands, and what our client does with one of their agents."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from acp.updates import MessageChunk, TextBlock, ToolCall, ToolCallUpdate
from acp_client import Host, LocalFiles, allow_all, connect

INTEROP = Path(__file__).resolve().parents[2] / "interop"
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
    for name in (script, "reach"):  # Node resolves packages from where the script lies
        shutil.copyfile(INTEROP / f"{name}.mjs", Path(folder) / f"{name}.mjs")
    return [shutil.which("node") or "node", str(Path(folder) / f"{script}.mjs")]


async def take_turns(target: str | Sequence[str], version: int, folder: Path) -> None:
    """Have our client go through a session with one of the agents in `interop`."""
    (folder / "note.txt").write_text("from the editor")
    host = Host(ask=allow_all, files=LocalFiles(folder))
    async with connect(target, host=host, version=version) as client:
        assert client.info.version == version
        session = await client.new_session(folder)
        async with session.prompt("hello ask") as turn:
            updates = [update async for update in turn]
        assert turn.stop_reason == "end_turn"
        words = [u.content.text for u in updates if isinstance(u, MessageChunk) and isinstance(u.content, TextBlock)]
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
            async with session.prompt(f"read:{folder / 'note.txt'}") as turn:
                assert await turn.text() == "from the editor"
        else:
            assert [card.id for card in await client.list_sessions()] == ["s0"]
        loaded = await client.load_session("old", folder)
        said = [(u.role, u.content.text) for u in loaded.history]  # type: ignore[union-attr]
        assert said == [("user", "before"), ("agent", "indeed")]
