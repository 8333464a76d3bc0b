"""A client whose network breaks: what is resumed, what is told once, and what is never sent twice."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from flaky import Network, network_to
from hypothesis import given
from hypothesis import strategies as st

from acp.errors import ConnectionClosed
from acp.updates import MessageChunk, TextBlock, ToolCall, ToolCallUpdate, Update
from acp_client import ConnectionState, Host, PermissionRequest, Reconnect, Session, allow_all, connect
from acp_client.catchup import Told
from acp_client.client import Client
from acp_client.reconnect import pauses
from acp_server.agent import Agent
from acp_server.model import User
from acp_server.network.gate import Gate
from acp_server.network.http_door import HttpDoor
from acp_server.network.serve import AgentTalk
from acp_server.network.server import Server
from acp_server.network.websocket_door import WebSocketDoor
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio

QUICK = Reconnect(patience=30.0, first=0.05, most=0.2)
DOORS = {"ws": WebSocketDoor, "http": HttpDoor}


@pytest.fixture(params=DOORS)
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the client and the server talk. Streams of HTTP are not mended here: what breaks one ends its connection."""
    monkeypatch.setattr("acp.transports.http_client.REOPENING", 0.0)
    return str(request.param)


class World:
    """A server, a network and a client; and what became of the connection."""

    def __init__(self, network: Network, client: Client, states: list[ConnectionState], model: ScriptedBackend) -> None:
        self.network, self.client, self.states, self.model = network, client, states, model

    def prompts(self) -> list[str]:
        """What the model was asked in the conversation that it saw last."""
        return [message.text for message in (self.model.seen or [()])[-1] if isinstance(message, User)]


@asynccontextmanager
async def world(
    scheme: str, *, host: Host | None = None, version: int = 1, grace: float = 30.0, policy: Reconnect = QUICK
) -> AsyncGenerator[World]:
    model, states = ScriptedBackend(), list[ConnectionState]()
    talk = AgentTalk(Agent(model, model_name="scripted"))
    server = Server(talk, Gate())
    with anyio.fail_after(60):
        async with talk.sheltering(grace), anyio.create_task_group() as group:
            url: str = await group.start(server.serve, "127.0.0.1", 0, DOORS[scheme]())
            async with network_to(int(url.rsplit(":", 1)[1].removesuffix("/acp")), scheme) as network:
                options = {"host": host or Host(ask=allow_all), "version": version}
                async with connect(network.url, reconnect=policy, on_state=states.append, **options) as client:  # pyright: ignore[reportArgumentType]
                    yield World(network, client, states, model)
            group.cancel_scope.cancel()


def said(updates: Sequence[Update]) -> str:
    chunks = [update for update in updates if isinstance(update, MessageChunk) and update.role == "agent"]
    return "".join(chunk.content.text for chunk in chunks if isinstance(chunk.content, TextBlock))


@pytest.mark.parametrize("version", [1, 2])
async def test_a_turn_goes_on_where_the_network_broke_with_nothing_lost_and_nothing_twice(
    tmp_path: Path, scheme: str, version: int
) -> None:
    async with world(scheme, version=version) as here:
        session = await here.client.new_session(tmp_path)
        updates: list[Update] = []
        async with session.prompt("count 4000\nwrite a.txt hello\ncount 3000") as turn:
            cuts = itertools.count(1)
            async for update in turn:
                updates.append(update)
                if len(updates) in (1, 30, 60):
                    next(cuts)
                    await here.network.cut()
        assert turn.stop_reason == "end_turn"
        assert said(updates).split() == [*map(str, range(1, 4001)), *map(str, range(1, 3001))]
        assert len([u for u in updates if isinstance(u, ToolCall)]) == 1
        statuses = [u.status for u in updates if isinstance(u, ToolCallUpdate) and isinstance(u.status, str)]
        assert statuses[-1] == "completed"
        shown = [message for message in session.snapshot.messages.values() if message.role == "agent"]
        assert "".join(message.text for message in shown).split() == said(updates).split()
        assert len(here.prompts()) == 1
        while await answer(session, "say again") != "again":  # noqa: ASYNC110 (a cut may be felt only now)
            await anyio.sleep(0.01)
        assert [state.state for state in here.states[:3]] == ["connected", "reconnecting", "connected"]
        assert here.network.connections >= 2


async def answer(session: Session, text: str) -> str | None:
    """What is said to a prompt; None where the connection was lost before it arrived."""
    try:
        async with session.prompt(text) as turn:
            return await turn.text()
    except ConnectionClosed:
        return None


async def test_streams_of_http_go_on_where_they_broke_and_the_application_hears_nothing_of_it(tmp_path: Path) -> None:
    async with world("http") as here:
        session = await here.client.new_session(tmp_path)
        words, begun = list[str](), 0
        async with session.prompt("slow") as turn:
            async for update in turn:
                words.append(said([update]))
                if len(words) == 5:  # by now nothing else is under way
                    begun = here.network.connections
                if len(words) >= 5 and not turn.is_cancelled:
                    await (here.network.cut() if here.network.connections < begun + 5 else turn.cancel())
        assert turn.stop_reason == "cancelled"
        numbers = [int(word) for word in "".join(words).split()]
        assert numbers == [*range(1, len(numbers) + 1)]
        assert [state.state for state in here.states] == ["connected"]
        assert len(here.prompts()) == 1


@pytest.mark.parametrize("seed", range(2))
async def test_random_cuts_lose_nothing_and_repeat_nothing(tmp_path: Path, scheme: str, seed: int) -> None:
    draw = random.Random(seed)
    async with world(scheme) as here:
        session = await here.client.new_session(tmp_path)
        lines = "\n".join(f"count 1500\nrun echo {n}" for n in range(4))
        words: list[str] = []
        async with session.prompt(lines) as turn:
            here.network.cut_after = here.network.passed + draw.randrange(20_000)
            async for update in turn:
                words.append(said([update]))
                if not here.network.waits and here.network.connections < 6:
                    here.network.cut_after = here.network.passed + draw.randrange(20_000)
        assert turn.stop_reason == "end_turn"
        assert "".join(words).split()[: 4 * 1500] == [str(n) for n in range(1, 1501)] * 4
        calls = session.snapshot.calls.values()
        assert [call.status for call in calls] == ["completed"] * 4
        assert len(here.prompts()) == 1


async def test_a_question_that_was_lost_is_asked_again(tmp_path: Path, scheme: str) -> None:
    asked: list[PermissionRequest] = []

    async def ask(request: PermissionRequest) -> str | None:
        asked.append(request)
        if len(asked) == 1:
            await here.network.cut()
            await anyio.sleep_forever()
        return await allow_all(request)

    async with world(scheme, host=Host(ask=ask)) as here:
        session = await here.client.new_session(tmp_path)
        async with session.prompt("write a.txt hello\nsay done") as turn:
            assert await turn.text() == "done"
    assert len(asked) == 2
    assert (tmp_path / "a.txt").read_text() == "hello"


async def test_sessions_without_a_turn_are_resumed_too_and_keep_their_options(tmp_path: Path, scheme: str) -> None:
    async with world(scheme) as here:
        sessions = [await here.client.new_session(tmp_path) for _ in range(3)]
        await sessions[0].set_mode("all")
        await here.network.cut()
        await connected_again(here)
        assert sessions[0].mode == "all"
        for session in sessions:
            async with session.prompt("say hello") as turn:
                assert await turn.text() == "hello"


async def connected_again(here: World) -> None:
    while [state.state for state in here.states][-2:] != ["reconnecting", "connected"]:  # noqa: ASYNC110
        await anyio.sleep(0.01)


async def test_a_prompt_that_never_arrived_is_reported_and_not_sent_again(tmp_path: Path, scheme: str) -> None:
    async with world(scheme) as here:
        session = await here.client.new_session(tmp_path)

        async def ask_into_the_void(session: Session) -> None:
            async with session.prompt("say lost") as turn:
                await turn.text()

        here.network.down = True
        await here.network.cut()
        # The client does not know yet that the network is gone: what it sends now reaches nobody.
        async with anyio.create_task_group() as group:
            group.start_soon(_up_again, here)
            with pytest.raises(ConnectionClosed):
                await ask_into_the_void(session)
        await connected_again(here)
        assert here.prompts() == []


async def _up_again(here: World) -> None:
    await anyio.sleep(0.3)
    here.network.down = False


async def test_a_network_that_stays_away_is_given_up_in_the_end(tmp_path: Path, scheme: str) -> None:
    policy = Reconnect(patience=0.5, first=0.05, most=0.1)
    async with world(scheme, policy=policy) as here:
        session = await here.client.new_session(tmp_path)
        here_down = anyio.Event()

        async def read() -> None:
            async with session.prompt("slow") as turn:
                async for _ in turn:
                    if not here_down.is_set():
                        here_down.set()
                        here.network.down = True
                        await here.network.cut()

        with pytest.raises(ConnectionClosed, match=r"given up after \d+ attempts in 0.5 s, of which the last: \w+"):
            await read()
        assert [state.state for state in here.states] == ["connected", "reconnecting", "lost"]
        assert "given up after" in here.states[-1].reason
        with pytest.raises(ConnectionClosed):
            await here.client.new_session(tmp_path)


async def test_a_turn_that_is_left_while_the_network_is_away_is_cancelled_when_it_is_back(
    tmp_path: Path, scheme: str
) -> None:
    async with world(scheme) as here:
        session = await here.client.new_session(tmp_path)
        async with session.prompt("slow") as turn:
            await anext(turn)
            here.network.down = True
            await here.network.cut()
            async with anyio.create_task_group() as group:
                group.start_soon(_up_again, here)
                await turn.cancel()
                await turn.wait_ended()
        assert turn.stop_reason == "cancelled"


async def test_no_reconnecting_when_it_is_not_wanted(tmp_path: Path, scheme: str) -> None:
    async with world(scheme, policy=None) as here:  # pyright: ignore[reportArgumentType]
        await here.client.new_session(tmp_path)
        await here.network.cut()
        await here.client.connection.wait_closed()
        assert here.states == []


# Rules -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32))
def test_pauses_are_jittered_and_bounded(seed: int) -> None:
    draw = random.Random(seed)
    drawn = list(itertools.islice(pauses(Reconnect(first=0.25, most=10.0), draw.uniform), 20))
    limits = [min(10.0, 0.25 * 2**n) for n in range(20)]
    assert all(0 <= pause <= limit for pause, limit in zip(drawn, limits, strict=True))


@given(st.lists(st.text(max_size=5), max_size=6), st.integers(0, 30))
def test_what_was_told_of_a_message_and_its_rest_are_the_whole(texts: list[str], told: int) -> None:
    whole = "".join(texts)
    memory = Told()
    for character in whole[:told]:
        memory.note(MessageChunk("agent", TextBlock(character), "m"))
    rest = memory.rest("m", "agent", [TextBlock(text) for text in texts])
    assert whole[:told] + said(rest) == whole


async def test_more_messages_than_are_remembered_are_told_once_all_the_same(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp_client.catchup.MOST_MESSAGES", 5)
    async with world(scheme) as here:
        session = await here.client.new_session(tmp_path)
        told: list[str] = []
        lines = "\n".join(f"say m{n}\nrun echo {n}" for n in range(20))
        async with session.prompt(lines) as turn:
            async for update in turn:
                if text := said([update]):
                    told.append(text)
                if isinstance(update, ToolCall) and len(told) in (8, 15):
                    await here.network.cut()
        assert turn.stop_reason == "end_turn"
        assert "".join(told) == "".join(f"m{n}" for n in range(20)) + "Done."
