"""Sessions of other agents after a connection was lost: of one that cannot replay, and of one without message ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from flaky import Network, network_to
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_agent import WireAgent, connected

from acp.errors import ConnectionClosed
from acp.tasks import task_group
from acp.transports.memory import memory_pair
from acp.updates import MessageChunk, TextBlock, Update
from acp_client import Client, Host, Reconnect, Session, connect
from acp_client.rejoined import PROMPT_META, TURN_META
from acp_client.session import GAP
from acp_server.network.gate import Gate, Visitor
from acp_server.network.server import Server
from acp_server.network.visits import ServedTransport

pytestmark = pytest.mark.anyio

RESUMES = {"sessionCapabilities": {"resume": {}}}
LOADS = {"loadSession": True}

Visit = Callable[[WireAgent], Awaitable[None]]
"""What an agent does on one connection."""


@asynccontextmanager
async def visited(
    able: dict[str, Any], *visits: Visit, host: Host | None = None
) -> AsyncGenerator[tuple[Client, Network]]:
    """A client over WebSocket, and its agent, which has so many connections."""
    left = iter(visits)

    async def talk(transport: ServedTransport, _: Visitor, __: anyio.Event) -> None:
        agent = WireAgent(transport)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await agent.initialize(agentCapabilities=able)
            await next(left)(agent)
            await agent.hear()

    with anyio.fail_after(60):
        async with task_group(cancel_at_end=True) as group:
            url: str = await group.start(Server(talk, Gate()).serve, "127.0.0.1", 0)
            async with network_to(int(url.rsplit(":", 1)[1].removesuffix("/acp"))) as network:
                async with connect(network.url, host=host, reconnect=Reconnect(first=0.01)) as client:
                    yield client, network


def said(updates: list[Update]) -> list[str]:
    return [u.content.text for u in updates if isinstance(u, MessageChunk) and isinstance(u.content, TextBlock)]


async def cut_off(session: Session, text: str, network: Network, updates: list[Update]) -> None:
    """Take a turn whose connection is lost when the agent begins to speak."""
    async with session.prompt(text) as turn:
        async for update in turn:
            updates.append(update)
            await network.cut()


# An agent that only resumes -------------------------------------------------------------------------------------


async def test_a_turn_is_lost_with_an_agent_that_cannot_replay_and_its_session_goes_on() -> None:
    async def first(agent: WireAgent) -> None:
        await agent.open_session()
        await agent.hear_call("session/prompt")
        await agent.words("one")
        await agent.hear()

    async def second(agent: WireAgent) -> None:
        resumed = await agent.hear_call("session/resume")
        assert resumed["params"]["sessionId"] == "s1"
        await agent.say(id=resumed["id"], result={})
        prompt = await agent.hear_call("session/prompt")
        await agent.words("two")
        await agent.end_turn(prompt)

    async with visited(RESUMES, first, second) as (client, network):
        session = await client.new_session("/w")
        updates = list[Update]()
        with pytest.raises(ConnectionClosed, match="does not say what became of it, nor what it said meanwhile"):
            await cut_off(session, "hi", network, updates)
        async with session.prompt("go on") as turn:
            assert await turn.text() == "two"
        assert said(updates) == ["one"]
        shown = [message.text for message in session.snapshot.messages.values()]
        assert shown == ["hi", "one", "go on", "two"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_turn_that_an_agent_without_a_replay_says_to_run_goes_on_behind_a_gap(cancelled: bool) -> None:
    names = list[str]()

    async def first(agent: WireAgent) -> None:
        await agent.open_session()
        prompt = await agent.hear_call("session/prompt")
        names.append(prompt["params"]["_meta"][PROMPT_META])
        await agent.words("one ")
        await agent.hear()

    async def second(agent: WireAgent) -> None:
        resumed = await agent.hear_call("session/resume")
        fate = {"prompt": names[0], "running": True}
        await agent.say(id=resumed["id"], result={"_meta": {TURN_META: fate}})
        if cancelled:
            await agent.hear_call("session/cancel")
        await agent.words("three")
        ended = {"sessionId": "s1", "stopReason": "cancelled" if cancelled else "end_turn"}
        await agent.say(method="_acp-laguna/turn_ended", params=ended)

    async with visited(RESUMES, first, second) as (client, network):
        session = await client.new_session("/w")
        updates = list[Update]()
        async with session.prompt("hi") as turn:
            async for update in turn:
                updates.append(update)
                if len(updates) == 1:
                    await network.cut()
                    if cancelled:
                        await client.connection.wait_closed()
                        await turn.cancel()
        assert turn.stop_reason == ("cancelled" if cancelled else "end_turn")
        assert said(updates) == ["one ", "three"]
        assert updates.count(GAP) == 1
        assert session.snapshot.notices == (GAP,)


async def test_a_session_between_turns_is_resumed_though_a_terminal_of_it_runs_and_nothing_is_replayed() -> None:
    async def first(agent: WireAgent) -> None:
        await agent.open_session()
        prompt = await agent.hear_call("session/prompt")
        await agent.update({"sessionUpdate": "tool_call", "toolCallId": "c1", "title": "Serve", **TERMINAL})
        await agent.end_turn(prompt)

    async def second(agent: WireAgent) -> None:
        await agent.say(id=(await agent.hear_call("session/resume"))["id"], result={})
        await agent.end_turn(await agent.hear_call("session/prompt"))

    async with visited(RESUMES, first, second, host=Host(agent_terminals=True)) as (client, network):
        session = await client.new_session("/w")
        async with session.prompt("serve") as turn:
            await turn.text()
        assert session.snapshot.terminals["t1"].exit is None
        await network.cut()
        await client.connection.wait_closed()
        while client.connection.closed:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        async with session.prompt("go on") as turn:
            await turn.text()
        assert turn.stop_reason == "end_turn"


TERMINAL = {"content": [{"type": "terminal", "terminalId": "t1"}], "_meta": {"terminal_info": {"terminal_id": "t1"}}}


# Messages without ids ---------------------------------------------------------------------------------------------


async def heard(agent: WireAgent, text: str) -> None:
    """Say what the user said, in two pieces."""
    for piece in (text[:2], text[2:]):
        await agent.update({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": piece}})


async def test_messages_without_ids_of_several_turns_are_several_after_a_replay() -> None:
    async def first(agent: WireAgent) -> None:
        await agent.open_session()
        prompt = await agent.hear_call("session/prompt")
        await agent.words("fir")
        await agent.update({"sessionUpdate": "tool_call", "toolCallId": "c1", "title": "Count"})  # never told again
        await agent.words("st")
        await agent.end_turn(prompt)
        await agent.hear_call("session/prompt")
        await agent.words("sec")
        await agent.hear()

    async def second(agent: WireAgent) -> None:
        loaded = await agent.hear_call("session/load")
        await heard(agent, "one")
        await agent.words("first")
        await heard(agent, "two")
        await agent.words("second")
        await agent.say(id=loaded["id"], result={})
        prompt = await agent.hear_call("session/prompt")
        await agent.words("third")
        await agent.end_turn(prompt)

    async with visited(LOADS, first, second) as (client, network):
        session = await client.new_session("/w")
        async with session.prompt("one") as turn:
            assert await turn.text() == "first"
        with pytest.raises(ConnectionClosed, match=r"does not say what became of it$"):
            await cut_off(session, "two", network, [])
        async with session.prompt("three") as turn:
            assert await turn.text() == "third"
        messages = session.snapshot.messages
        shown = [messages[id].text if kind == "message" else kind for kind, id in session.snapshot.order]
        assert shown == ["one", "first", "call", "two", "second", "three", "third"]


async def test_of_a_history_that_was_never_read_a_replay_brings_no_messages_without_ids() -> None:
    async def first(agent: WireAgent) -> None:
        await agent.say(id=(await agent.hear_call("session/resume"))["id"], result={})
        await agent.hear_call("session/prompt")
        await agent.words("new")
        await agent.hear()

    async def second(agent: WireAgent) -> None:
        loaded = await agent.hear_call("session/load")
        for asked, answer in (("long ago", "old"), ("now", "new")):
            await heard(agent, asked)
            await agent.words(answer)
        await agent.say(id=loaded["id"], result={})
        await agent.end_turn(await agent.hear_call("session/prompt"))

    async with visited(RESUMES | LOADS, first, second) as (client, network):
        session = await client.load_session("s1", "/w", replay=False)
        with pytest.raises(ConnectionClosed):
            await cut_off(session, "now", network, [])
        async with session.prompt("later") as turn:
            await turn.text()
        shown = [message.text for message in session.snapshot.messages.values()]
        assert shown == ["now", "new", "later"]


KINDS = ["agent_message_chunk", "agent_thought_chunk", "call"]
moves = st.tuples(st.sampled_from(KINDS), st.sampled_from([None, None, "m"]))


@settings(max_examples=60)
@given(st.lists(st.lists(moves, max_size=4), max_size=4))
def test_a_replay_of_turns_changes_nothing_that_was_seen(turns: list[list[tuple[str, str | None]]]) -> None:
    anyio.run(replay, turns)


async def replay(turns: list[list[tuple[str, str | None]]]) -> None:
    async def tell(agent: WireAgent, turn: int) -> None:
        for n, (kind, id) in enumerate(turns[turn]):
            name = f"{turn}.{n}"
            if kind == "call":
                await agent.update({"sessionUpdate": "tool_call", "toolCallId": name, "title": name})
            else:
                about = {"sessionUpdate": kind} | ({} if id is None else {"messageId": f"{kind} {turn} {id}"})
                await agent.words(name, **about)

    async def live(agent: WireAgent) -> None:
        await agent.open_session()
        for turn in range(len(turns)):
            prompt = await agent.hear_call("session/prompt")
            await tell(agent, turn)
            await agent.end_turn(prompt)

    async def again(agent: WireAgent) -> None:
        await agent.initialize(agentCapabilities=LOADS)
        loaded = await agent.hear_call("session/load")
        for turn in range(len(turns)):
            await heard(agent, f"prompt {turn}")
            await tell(agent, turn)
        await agent.say(id=loaded["id"], result={})

    async with connected(agentCapabilities=LOADS) as (client, agent, group):
        group.start_soon(live, agent)
        session = await client.new_session("/w")
        for turn in range(len(turns)):
            async with session.prompt(f"prompt {turn}") as taken:
                await taken.text()
        before, updates = session.snapshot, [*session.updates]
        ours, theirs = memory_pair()
        other = WireAgent(theirs)
        group.start_soon(again, other)
        async with AsyncExitStack() as exits:
            await agent.close()
            await client.adopt(ours, exits)
            assert session.snapshot == before
            assert [*session.updates] == updates
            await other.close()
