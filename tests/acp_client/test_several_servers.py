"""A client whose connection leads to another server of the agent than before: who has the session, and who gets it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from flaky import Network, network_to

from acp.errors import RequestError
from acp.updates import MessageChunk, TextBlock, ToolCall, ToolCallUpdate, Update
from acp_client import ConnectionState, Host, PermissionRequest, Reconnect, allow_all, connect
from acp_client.client import Client
from acp_server.agent import Agent
from acp_server.network.gate import Gate
from acp_server.network.serve import AgentTalk
from acp_server.network.server import Server as NetworkServer
from acp_server.scripted import ScriptedBackend
from acp_server.shelter import Shelter
from acp_server.storage.opening import open_store
from acp_server.storage.store import SessionBusy, Store

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and clients that wait less for one another."""
    monkeypatch.setattr("acp_server.storage.database.HANDOVER", 0.7)
    monkeypatch.setattr("acp_server.sessions.RETRY_AFTER", 0.1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


QUICK = Reconnect(patience=20.0, first=0.05, most=0.3)


class Server:
    """One server of the agent, with a store of its own on what all of them share."""

    def __init__(self, port: int, store: Store, shelter: Shelter) -> None:
        self.port, self.store, self.shelter = port, store, shelter


class World:
    """Two servers, one network that leads to one of them, and a client."""

    def __init__(self, servers: Sequence[Server], network: Network, client: Client, states: list[str]) -> None:
        self.servers, self.network, self.client, self.states = servers, network, client, states

    async def move(self, number: int) -> None:
        """The connection breaks, and the next one leads to another server."""
        self.network.there = self.servers[number].port
        self.states.clear()
        await self.network.cut()

    async def lead_back(self) -> None:
        """Lead the client to the first server again, when it has been at the other."""
        while self.network.connections < 2:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        self.network.there = self.servers[0].port

    async def connected_again(self) -> None:
        while self.states != ["reconnecting", "connected"]:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@asynccontextmanager
async def server(path: Path) -> AsyncGenerator[Server]:
    store = await anyio.to_thread.run_sync(lambda: open_store(f"sqlite:{path}", lease=2))
    talk = AgentTalk(Agent(ScriptedBackend(), model_name="scripted", store=store))
    try:
        async with talk.sheltering(30.0) as shelter, anyio.create_task_group() as group:
            url: str = await group.start(NetworkServer(talk, Gate()).serve, "127.0.0.1", 0)
            yield Server(int(url.rsplit(":", 1)[1].removesuffix("/acp")), store, shelter)
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(store.close)


@asynccontextmanager
async def world(
    folder: Path, *, host: Host | None = None, version: int = 1, policy: Reconnect = QUICK
) -> AsyncGenerator[World]:
    states = list[str]()

    def note(state: ConnectionState) -> None:
        states.append(state.state)

    with anyio.fail_after(60):
        async with AsyncExitStack() as exits:
            servers = [await exits.enter_async_context(server(folder / "sessions.db")) for _ in range(2)]
            network = await exits.enter_async_context(network_to(servers[0].port))
            host = host or Host(ask=allow_all)
            client = connect(network.url, reconnect=policy, on_state=note, host=host, version=version)
            yield World(servers, network, await exits.enter_async_context(client), states)


def said(updates: Sequence[Update]) -> str:
    chunks = [update for update in updates if isinstance(update, MessageChunk) and update.role == "agent"]
    return "".join(chunk.content.text for chunk in chunks if isinstance(chunk.content, TextBlock))


@pytest.mark.parametrize("version", [1, 2])
async def test_a_session_that_waits_goes_to_the_server_at_which_its_client_arrives(
    tmp_path: Path, version: int
) -> None:
    async with world(tmp_path, version=version) as here:
        session = await here.client.new_session(tmp_path)
        await session.set_mode("all") if version == 1 else await session.set_option("mode", "all")
        async with session.prompt("say one") as turn:
            assert await turn.text() == "one"
        for number in (1, 0):
            await here.move(number)
            await here.connected_again()
            assert not here.servers[0].shelter or not here.servers[1].shelter
            async with session.prompt("say more\nwrite a.txt hello") as turn:
                assert await turn.text() == "moreDone."
        [card] = await here.client.list_sessions()
        assert card.title == "say one"
        assert (tmp_path / "a.txt").read_text() == "hello"
        history = await anyio.to_thread.run_sync(here.servers[1].store.read, session.id)
        assert str(history).count("say more") == 2 * 2  # for the user and for the model


@pytest.mark.parametrize("version", [1, 2])
async def test_a_turn_that_runs_stays_where_it_is_and_its_client_finds_its_way_back(
    tmp_path: Path, version: int
) -> None:
    async with world(tmp_path, version=version) as here:
        idle, session = await here.client.new_session(tmp_path), await here.client.new_session(tmp_path)
        updates = list[Update]()
        async with session.prompt("count 3000\nrun echo hello\ncount 3000\nrun sleep 2\nsay end") as turn:
            async for update in turn:
                updates.append(update)
                if (
                    isinstance(update, ToolCallUpdate)
                    and update.status == "in_progress"
                    and here.network.connections == 1
                ):
                    await here.move(1)
                    await here.lead_back()
            assert turn.stop_reason == "end_turn"
        assert said(updates).split() == [*map(str, range(1, 3001)), *map(str, range(1, 3001)), "end"]
        assert len([u for u in updates if isinstance(u, ToolCall)]) == 2
        assert [call.status for call in session.snapshot.calls.values()] == ["completed"] * 2
        with pytest.raises(SessionBusy):
            await anyio.to_thread.run_sync(here.servers[1].store.open, session.id)
        async with idle.prompt("say idle") as turn:  # which was at the other server for a while
            assert await turn.text() == "idle"


@pytest.mark.parametrize("version", [1, 2])
async def test_a_client_that_does_not_find_back_gets_the_whole_turn_when_it_is_over(
    tmp_path: Path, version: int
) -> None:
    async with world(tmp_path, version=version) as here:
        session = await here.client.new_session(tmp_path)
        updates = list[Update]()
        async with session.prompt("count 3000\nrun sleep 2; echo hello\ncount 3000") as turn:
            async for update in turn:
                updates.append(update)
                if isinstance(update, ToolCallUpdate) and update.status == "in_progress":
                    await here.move(1)
        assert turn.stop_reason == "end_turn"
        assert said(updates).split() == [*map(str, range(1, 3001)), *map(str, range(1, 3001))]
        assert [call.status for call in session.snapshot.calls.values()] == ["completed"]
        async with session.prompt("say more") as turn:
            assert await turn.text() == "more"


async def test_a_session_in_use_at_another_server_is_refused_with_a_time_to_try_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        session = await here.client.new_session(tmp_path)
        url = f"ws://127.0.0.1:{here.servers[1].port}/acp"
        async with connect(url) as other:
            assert [card.id for card in await other.list_sessions()] == [session.id]
            with pytest.raises(RequestError) as refused:
                await other.load_session(session.id, tmp_path)
            assert refused.value.code == -32600
            assert refused.value.data == {"sessionId": session.id, "retryAfter": 0.1}
            async with session.prompt("say still here") as turn:
                assert await turn.text() == "still here"
            await session.close()
            again = await other.load_session(session.id, tmp_path)
            assert "still here" in said(again.history)


async def test_a_session_is_closed_and_deleted_from_another_server_while_its_turn_runs(tmp_path: Path) -> None:
    async with world(tmp_path, policy=Reconnect(patience=0.1, first=0.05, most=0.1)) as here:
        session = await here.client.new_session(tmp_path)
        async with session.prompt("slow") as turn:
            await turn.__anext__()
            here.network.down = True
            await here.network.cut()
            while not len(here.servers[0].shelter):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            async with connect(f"ws://127.0.0.1:{here.servers[1].port}/acp") as other:
                await other.surface.close_session(session.id)
                assert not len(here.servers[0].shelter)
                again = await other.load_session(session.id, tmp_path)
                await again.close()
                await other.delete_session(session.id)
                assert await other.list_sessions() == []
            with pytest.raises(Exception, match=r"."):
                async for _ in turn:
                    pass


@pytest.mark.parametrize("version", [1, 2])
async def test_the_client_of_a_session_that_was_taken_over_is_told_and_may_open_it_again(
    tmp_path: Path, version: int
) -> None:
    async with world(tmp_path, version=version) as here:
        session = await here.client.new_session(tmp_path)
        thief = here.servers[1].store
        async with session.prompt("slow") as turn:
            await turn.__anext__()
            with here.servers[0].store._database.transaction() as tables:  # pyright: ignore
                tables.rows("UPDATE acp_sessions SET holder = NULL, fence = fence + 1")
            with pytest.raises(RequestError, match="taken over by another server"):
                async for _ in turn:
                    pass
        _, entries, log = await anyio.to_thread.run_sync(thief.open, session.id)
        assert not any("ended" in entry for entry in entries)
        await anyio.to_thread.run_sync(log.close)
        with pytest.raises(RequestError, match="taken over by another server"):
            async with session.prompt("say no") as turn:
                await turn.text()
        await session.close()
        again = await here.client.load_session(session.id, tmp_path)
        assert "cut short" in said(again.history)
        async with again.prompt("say again") as turn:
            assert await turn.text() == "again"


async def test_a_question_that_waits_for_its_client_is_asked_when_it_finds_back(tmp_path: Path) -> None:
    asked = list[PermissionRequest]()
    cut = anyio.Event()

    async def ask(request: PermissionRequest) -> str | None:
        asked.append(request)
        if len(asked) == 1:
            cut.set()
            await anyio.sleep_forever()
        return await allow_all(request)

    async def go_astray() -> None:
        await cut.wait()
        await here.move(1)
        await here.lead_back()

    async with world(tmp_path, host=Host(ask=ask)) as here, anyio.create_task_group() as group:
        group.start_soon(go_astray)
        session = await here.client.new_session(tmp_path)
        async with session.prompt("write a.txt hello\nsay done") as turn:
            assert await turn.text() == "done"
    assert len(asked) == 2
    assert (tmp_path / "a.txt").read_text() == "hello"


@pytest.mark.parametrize("version", [1, 2])
async def test_what_ran_in_the_background_ends_with_the_server_that_lets_go_of_the_session_and_the_client_is_told(
    tmp_path: Path, version: int
) -> None:
    async with world(tmp_path, version=version) as here:
        session = await here.client.new_session(tmp_path)
        command = json.dumps({"cmd": "echo $$ >pid; exec sleep 1000", "background": True})
        async with session.prompt(f"call shell {command}") as turn:
            await turn.text()
        while not (tmp_path / "pid").exists():  # noqa: ASYNC110, a file
            await anyio.sleep(0.01)
        await here.move(1)
        await here.connected_again()
        with pytest.raises(ProcessLookupError):  # noqa: PT012
            while True:
                os.kill(int((tmp_path / "pid").read_text()), 0)
                await anyio.sleep(0.01)
        if version == 2:  # version 1 has no word for what runs besides a turn
            assert session.snapshot.terminals["t1.1"].exit is not None
            assert session.snapshot.background == ()
        async with session.prompt('call shell_status {"shell_id": "t1.1"}') as turn:
            updates = [update async for update in turn]
        assert "it ended with its session" in str(updates)
