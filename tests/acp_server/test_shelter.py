"""Sessions that wait for a client that was lost."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from acp.updates import ToolCall, Update
from acp_server.agent import Agent
from acp_server.scripted import ScriptedBackend
from acp_server.session import Client
from acp_server.sessions import Place, Sessions
from acp_server.shelter import Shelter

pytestmark = pytest.mark.anyio


def nobody(_: str) -> Client:
    async def say(_: Update) -> None:
        pass

    async def ask(_: ToolCall, __: object) -> None:
        return None

    return Client(say, ask, say)


async def test_a_client_that_is_lost_again_while_it_opens_its_session_finds_it_once_more(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        agent = Agent(ScriptedBackend()).belonging_to("alice", Shelter(group))
        first, second, third = [Sessions(agent, group, nobody) for _ in range(3)]
        session = await first.create(Place(str(tmp_path)))
        await first.aclose(lost=True)
        async with session.telling, anyio.create_task_group() as opening:  # it has something to say just then
            opening.start_soon(second.open, session.id, Place(str(tmp_path)))
            await anyio.wait_all_tasks_blocked()
            opening.cancel_scope.cancel()
        await second.aclose(lost=True)
        assert await third.open(session.id, Place(str(tmp_path))) is session
        await third.aclose()
