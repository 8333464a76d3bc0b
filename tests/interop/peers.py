"""The official SDKs' scripts as commands, and what our client does with one of their agents."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from acp.errors import RequestError
from acp.updates import (
    Changes,
    Compaction,
    CompactionChunk,
    ConfigOption,
    ConfigOptions,
    ContextUsage,
    Message,
    MessageChunk,
    ModeChanged,
    Notice,
    Other,
    Plan,
    SessionInfo,
    Terminal,
    TerminalChunk,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContentChunk,
    Work,
)
from acp_client import Client, Host, LocalFiles, LocalTerminals, Session, allow_all, connect
from acp_client.launch import Target

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


async def take_turns(target: Target, version: int, folder: Path) -> None:
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


COMPACTION = {Compaction, CompactionChunk}
EITHER = {MessageChunk, ToolCall, ToolCallUpdate, Plan, ConfigOptions, SessionInfo, ContextUsage}
EVERYTHING = {
    1: EITHER | {ModeChanged, Notice} | COMPACTION,
    2: EITHER | {Message, ToolContentChunk, Terminal, TerminalChunk, Notice, Other} | COMPACTION,
}
"""The kinds of updates of the turn in which an agent says `everything`; states and commands are the session's."""


async def go_through_everything(agent: Sequence[str], version: int, folder: Path) -> None:
    """Have our client use what is left: every update, files and terminals, options, and what becomes of a session."""
    (folder / "note.txt").write_text("from the editor")
    async with LocalTerminals(folder) as terminals:
        host = Host(ask=allow_all, files=LocalFiles(folder), terminals=terminals)
        async with connect(agent, host=host, version=version) as client:
            session = await client.new_session(folder)
            async with session.prompt("everything") as turn:
                kinds = {type(update) async for update in turn}
            # The Python SDK has no word for notices and compaction.
            assert kinds == EVERYTHING[version] - (set() if client.info.name else {Notice} | COMPACTION)
            shown = session.snapshot
            assert (shown.title, shown.usage) == ("A title", ContextUsage(5, 100))
            assert shown.calls["c9"].status == "completed"
            assert [command.name for command in shown.commands] == ["go"]
            await session.set_option("loud", True)
            await session.set_mode("all")
            values = {o.id: o.value for o in session.options if isinstance(o, ConfigOption)}
            assert values == {"mode": "all", "loud": True}
            await (_version_1 if version == 1 else _version_2)(client, session, folder)
            await session.close()
            again = await client.load_session(session.id, folder, replay=False)
            async with again.prompt("again") as turn:
                assert await turn.text() == "again "
            if client.info.name:
                await client.delete_session(again.id)


async def _version_1(client: Client, session: Session, folder: Path) -> None:
    async with session.prompt(f"write:{folder / 'made.txt'} run") as turn:
        assert await turn.text() == "ran 3"
    assert (folder / "made.txt").read_text() == "from the agent"
    assert [card.id for card in await client.list_sessions()] == ["s0"]  # on the second page


async def _version_2(client: Client, session: Session, folder: Path) -> None:
    assert session.snapshot.terminals["t9"].output == b"a\nb\n"
    [changes] = [content for content in session.snapshot.calls["c9"].content if isinstance(content, Changes)]
    assert [(file.operation, file.path, file.old_path) for file in changes.files] == [
        ("modify", "/w/a", None),
        ("move", "/w/c", "/w/b"),
        ("add", "/w/d", None),
    ]
    async with session.prompt("work done") as turn:
        async for update in turn:
            if isinstance(update, ToolCall):
                await session.cancel_call(update.id)
    assert turn.stop_reason == "end_turn"
    assert session.snapshot.calls["c2"].status == "cancelled"
    async with session.prompt("serve") as turn:
        await turn.text()
    assert session.snapshot.background == (Work("terminal", "t2"),)
    changed = anyio.Event()
    session.on_change = lambda _: changed.set() if not session.snapshot.background else None
    await session.cancel_terminal("t2")
    await changed.wait()
    assert session.snapshot.terminals["t2"].exit is not None
    with pytest.raises(RequestError):
        await client.surface.cancel_terminal(session.id, "t2")
