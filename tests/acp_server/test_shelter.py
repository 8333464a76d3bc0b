"""Sessions that wait for a client that was lost."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import anyio
import pytest

from acp.updates import ToolCall, Update
from acp_server.agent import Agent
from acp_server.scripted import ScriptedBackend
from acp_server.session import Session
from acp_server.sessions import Place, Sessions
from acp_server.shelter import MOST_SHELTERED, Line, Shelter
from acp_server.teller import Client

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


class Waiting:
    """As much of a session as its shelter sees. Making a hundred real ones takes seconds."""

    on_wanted, taken = None, False

    def __init__(self, id: str, running: bool) -> None:
        self.id, self.running, self.closed = id, running, anyio.Event()

    async def close(self) -> None:
        self.closed.set()


async def test_of_too_many_sessions_one_is_closed_in_which_no_turn_runs() -> None:
    async with anyio.create_task_group() as group:
        shelter = Shelter(group)
        sessions = [Waiting(str(n), running=n in (0, 1)) for n in range(MOST_SHELTERED + 1)]
        for one in sessions:
            shelter.park("alice", cast("Session", one), Line(nobody(one.id), {}))
        await sessions[2].closed.wait()
        await anyio.wait_all_tasks_blocked()
        assert [one.id for one in sessions if one.closed.is_set()] == ["2"]
        assert len(shelter) == MOST_SHELTERED
        assert shelter.claim("alice", "0") is not None
        group.cancel_scope.cancel()
