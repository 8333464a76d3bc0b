"""A conversation that no longer fits is summarised by the model, on both versions in raw JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire_client import Message, WireClient

from acp.transports.memory import memory_pair
from acp_server.agent import Agent, serve
from acp_server.model import Message as Shown
from acp_server.model import ModelError, ModelInfo, Part, Sampling, Text, Thought, ToolSpec, User
from acp_server.scripted import Cue, ScriptedBackend
from acp_server.turn.compaction import REQUEST

pytestmark = pytest.mark.anyio

LONG = "x" * 6000
SUMMARY = ("The user ", "collects ", "long words.")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


class Summariser(ScriptedBackend):
    """The scripted model, which when it is asked for a summary does what the test says."""

    def __init__(self, cues: Sequence[Cue] = (), *, compact: bool = False) -> None:
        super().__init__(info=ModelInfo("scripted", 16384, compact=compact))
        self.cues: Sequence[Cue] = cues or (Thought("let me see"), *map(Text, SUMMARY))
        self.asked: list[tuple[Shown, ...]] = []
        self.sampled: list[Sampling] = []

    async def generate(
        self, conversation: Sequence[Shown], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        last = conversation[-1]
        if isinstance(last, User) and last.text.startswith(REQUEST):
            self.asked.append(tuple(conversation))
            self.sampled.append(sampling)
            summary = ScriptedBackend([self.cues]).generate(conversation, tools, sampling)
        else:
            summary = super().generate(conversation, tools, sampling)
        async for part in summary:
            yield part


@asynccontextmanager
async def connected(agent: Agent, version: int, capabilities: Message | None = None) -> AsyncGenerator[WireClient]:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, agent, theirs)
        client = WireClient(ours.send, ours.receive)
        known: Message = {"session": {"compaction": {}}} if capabilities is None else capabilities
        if version == 1:
            await client.call("initialize", {"protocolVersion": 1, "clientCapabilities": known})
        else:
            info = {"name": "test", "version": "0"}
            await client.call("initialize", {"protocolVersion": 2, "info": info, "capabilities": {}})
        yield client
        await ours.aclose()


async def start(client: WireClient, cwd: Path) -> str:
    answer = await client.call("session/new", {"cwd": str(cwd), "mcpServers": []})
    return answer["result"]["sessionId"]


async def take_turn(client: WireClient, session: str, text: str, version: int) -> str:
    """A whole turn; why it ended."""
    answer = await client.prompt(session, text)
    return answer["result"]["stopReason"] if version == 1 else await until_idle(client)


async def until_idle(client: WireClient) -> str:
    ended = await client.until(lambda m: m.get("params", {}).get("update", {}).get("state") == "idle")
    return ended["params"]["update"]["stopReason"]


async def fill(client: WireClient, session: str, version: int, *, until: Callable[[], object]) -> int:
    """Turns with long words until something is so; how many."""
    for n in range(1, 20):
        assert await take_turn(client, session, f"say word{n} {LONG}", version) == "end_turn"
        if until():
            return n
    raise AssertionError("the conversation never overflowed")


def compactions(client: WireClient) -> list[Message]:
    return [update for update in client.updates() if update["sessionUpdate"].startswith("compaction")]


def check_completed(client: WireClient) -> str:
    """That one compaction was told, from its beginning to its end; its id."""
    began, *chunks, ended = compactions(client)
    assert [u["status"] for u in (began, ended)] == ["in_progress", "completed"]
    assert "".join(u["content"]["text"] for u in chunks) == "".join(SUMMARY)
    assert ended["summary"] == [{"type": "text", "text": "".join(SUMMARY)}]
    assert len({u["compactionId"] for u in compactions(client)}) == 1
    return ended["compactionId"]


async def test_what_no_longer_fits_is_summarised_and_what_the_user_said_stays(tmp_path: Path, version: int) -> None:
    model = Summariser()
    async with connected(Agent(model), version) as client:
        session = await start(client, tmp_path)
        turns = await fill(client, session, version, until=lambda: model.asked)
        check_completed(client)
        assert model.sampled[0].thinking is False
        _, head, *rest = model.seen[-1]
        assert isinstance(head, User)
        assert "".join(SUMMARY) in head.text
        assert all(f"say word{n}" in head.text or User(f"say word{n} {LONG}") in rest for n in range(1, turns + 1))
        assert rest[-1] == User(f"say word{turns} {LONG}")
        told = [u["sessionUpdate"] for u in client.updates()]
        after = told[told.index("compaction_update", told.index("compaction_update") + 1) :]
        assert after.index("usage_update") < after.index("agent_message_chunk")
        used = [u for u in client.updates() if u["sessionUpdate"] == "usage_update"]
        assert used[-2]["used"] < used[-3]["used"]


async def test_a_session_that_is_opened_again_goes_on_from_its_summary(tmp_path: Path, version: int) -> None:
    model = Summariser()
    agent = Agent(model)
    async with connected(agent, version) as client:
        session = await start(client, tmp_path)
        await fill(client, session, version, until=lambda: model.asked)
        id = check_completed(client)
    async with connected(agent, version) as client:
        replay: tuple[str, Message] = (
            ("session/load", {}) if version == 1 else ("session/resume", {"replayFrom": {"type": "start"}})
        )
        await client.call(replay[0], {"sessionId": session, "cwd": str(tmp_path), "mcpServers": [], **replay[1]})
        [replayed] = compactions(client)
        assert (replayed["compactionId"], replayed["status"]) == (id, "completed")
        assert replayed["summary"] == [{"type": "text", "text": "".join(SUMMARY)}]
        assert await take_turn(client, session, "say on", version) == "end_turn"
        head = model.seen[-1][1]
        assert isinstance(head, User)
        assert "".join(SUMMARY) in head.text
        assert len(model.asked) == 1


async def test_the_user_can_ask_for_it_and_say_what_must_not_be_lost(tmp_path: Path, version: int) -> None:
    model = Summariser()
    async with connected(Agent(model), version) as client:
        session = await start(client, tmp_path)
        assert await take_turn(client, session, "/compact", version) == "end_turn"
        assert "nothing to summarise" in client.text()
        assert await take_turn(client, session, "say a word", version) == "end_turn"
        said = client.text()
        assert await take_turn(client, session, "/compact  the colour of\nthe door ", version) == "end_turn"
        assert client.text() == said
        check_completed(client)
        request = model.asked[0][-1]
        assert isinstance(request, User)
        assert request.text.endswith("keep in mind: the colour of\nthe door")
        assert User("say a word") in model.asked[0]
        assert await take_turn(client, session, "say b", version) == "end_turn"
        assert not any(isinstance(m, User) and "/compact" in m.text for m in model.seen[-1])
        listed = (await client.call("session/list", {}))["result"]["sessions"]
        assert [info["title"] for info in listed] == ["say a word"]


async def test_a_model_that_cannot_costs_the_oldest_turns_and_not_the_turn(tmp_path: Path, version: int) -> None:
    model = Summariser([Text("It was "), ModelError("out of ink")])
    async with connected(Agent(model), version) as client:
        session = await start(client, tmp_path)
        turns = await fill(client, session, version, until=lambda: model.asked)
        ended = compactions(client)[-1]
        assert ended["status"] == "failed"
        assert "out of ink" in ended["error"]
        assert f"word{turns} " in client.text()
        assert not any("say word1 " in m.text for m in model.seen[-1])


async def test_an_empty_summary_is_none(tmp_path: Path, version: int) -> None:
    model = Summariser([Thought("hm"), Text(" \n")])
    async with connected(Agent(model), version) as client:
        session = await start(client, tmp_path)
        await take_turn(client, session, "say a", version)
        await take_turn(client, session, "/compact", version)
        assert compactions(client)[-1]["status"] == "failed"
        await take_turn(client, session, "say b", version)
        assert User("say a") in model.seen[-1]


async def test_a_compaction_that_is_cancelled_changes_nothing(tmp_path: Path, version: int) -> None:
    model = Summariser([Text("It was "), anyio.sleep_forever])
    async with connected(Agent(model), version) as client:
        session = await start(client, tmp_path)
        await take_turn(client, session, "say a", version)
        id = await client.begin_prompt(session, "/compact")
        await client.until(
            lambda m: m.get("params", {}).get("update", {}).get("sessionUpdate") == "compaction_summary_chunk"
        )
        await client.notify("session/cancel", {"sessionId": session})
        if version == 1:
            assert (await client.response(id))["result"]["stopReason"] == "cancelled"
        else:
            assert await until_idle(client) == "cancelled"
        assert compactions(client)[-1]["status"] == "cancelled"
        await take_turn(client, session, "say b", version)
        assert User("say a") in model.seen[-1]


async def test_a_model_too_small_to_summarise_is_not_asked_to(tmp_path: Path, version: int) -> None:
    model = Summariser(compact=True)
    async with connected(Agent(model), version) as client:
        session = await start(client, tmp_path)
        await take_turn(client, session, "/compact", version)
        assert "too small" in client.text()
        await fill(client, session, version, until=lambda: not any("say word1 " in m.text for m in model.seen[-1]))
        assert (model.asked, compactions(client)) == ([], [])


@pytest.mark.parametrize(
    ("cues", "status", "words"),
    [((), "completed", "long words"), ((ModelError("out of ink"),), "failed", "out of ink")],
)
async def test_a_client_of_version_1_that_knows_no_compaction_is_shown_a_call(
    tmp_path: Path, cues: tuple[Any, ...], status: str, words: str
) -> None:
    agent = Agent(Summariser(cues))
    async with connected(agent, 1, {}) as client:
        session = await start(client, tmp_path)
        await take_turn(client, session, "say a", 1)
        await take_turn(client, session, "/compact", 1)
        assert compactions(client) == []
        began, ended = (u for u in client.updates() if u["sessionUpdate"].startswith("tool_call"))
        assert (began["sessionUpdate"], began["kind"], began["status"]) == ("tool_call", "think", "in_progress")
        assert (ended["sessionUpdate"], ended["status"]) == ("tool_call_update", status)
        assert ended["toolCallId"] == began["toolCallId"]
        assert words in ended["content"][0]["content"]["text"]
    async with connected(agent, 1, {}) as client:
        await client.call("session/load", {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []})
        [call] = (u for u in client.updates() if u["sessionUpdate"].startswith("tool_call"))
        assert (call["sessionUpdate"], call["status"]) == ("tool_call", status)
        assert words in call["content"][0]["content"]["text"]
