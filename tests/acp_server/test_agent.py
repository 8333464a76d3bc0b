"""Serving a client: how it begins, and how it ends when the client goes away."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from wire_client import WireClient

from acp.transports.memory import memory_pair
from acp_server.agent import Agent, serve
from acp_server.model import ModelError, ModelInfo
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Loading(ScriptedBackend):
    """A model that is being loaded until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = anyio.Event()
        self.loaded = anyio.Event()

    async def ready(self) -> ModelInfo:
        self.wanted.set()
        await self.loaded.wait()
        return await super().ready()


async def test_initialize_does_not_wait_for_the_model_but_begins_to_load_it(tmp_path: Path) -> None:
    model = Loading()
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, Agent(model), theirs)
        client = WireClient(ours.send, ours.receive)
        assert not model.wanted.is_set()
        session = await client.start(str(tmp_path))
        with anyio.fail_after(60):
            await model.wanted.wait()
        id = await client.begin_prompt(session, "say hi")
        model.loaded.set()
        assert (await client.response(id))["result"]["stopReason"] == "end_turn"
        await ours.aclose()


async def test_a_model_that_fails_to_load_is_logged_and_the_agent_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ScriptedBackend):
        async def ready(self) -> ModelInfo:
            raise ModelError("no checkpoint here")

    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, Agent(Broken()), theirs)
        client = WireClient(ours.send, ours.receive)
        await client.start(str(tmp_path))
        assert (await client.prompt("nobody", "x"))["error"]["code"] == -32002
        await ours.aclose()
    assert "no checkpoint here" in caplog.text


@pytest.mark.parametrize("prompt", ["slow", "hang", "run echo started; sleep 30", "run touch made"])
async def test_a_client_that_goes_away_in_the_middle_of_a_turn_ends_it(tmp_path: Path, prompt: str) -> None:
    ours, theirs = memory_pair()
    ended = anyio.Event()

    async def agent() -> None:
        await serve(Agent(ScriptedBackend()), theirs)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(agent)
        client = WireClient(ours.send, ours.receive)
        if "touch" in prompt:
            client.answer = lambda m: None
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, f"say one\n{prompt}")
        await client.until(lambda m: m.get("method") == "session/update")
        if "started" in prompt:
            await client.until_output("started")
        if "touch" in prompt:
            await client.until_asked()
        await ours.aclose()
        with anyio.fail_after(60):
            await ended.wait()
    assert not (tmp_path / "made").exists()


async def test_cancelling_serve_ends_it(tmp_path: Path) -> None:
    ours, theirs = memory_pair()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(serve, Agent(ScriptedBackend()), theirs)
            client = WireClient(ours.send, ours.receive)
            session = await client.start(str(tmp_path))
            await client.begin_prompt(session, "slow")
            await client.until(lambda m: m.get("method") == "session/update")
            group.cancel_scope.cancel()
    await ours.aclose()


async def test_one_agent_serves_several_clients_who_know_nothing_of_each_other(tmp_path: Path) -> None:
    agent = Agent(ScriptedBackend())
    async with anyio.create_task_group() as group:
        ends = [memory_pair(), memory_pair()]
        for _, theirs in ends:
            group.start_soon(serve, agent, theirs)
        one, two = (WireClient(ours.send, ours.receive) for ours, _ in ends)
        session = await one.start(str(tmp_path))
        await two.start(str(tmp_path))
        assert (await two.prompt(session, "say hi"))["error"]["code"] == -32002
        assert (await one.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"
        for ours, _ in ends:
            await ours.aclose()
