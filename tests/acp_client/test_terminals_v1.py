"""Terminals as an agent of version 1 uses them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire_agent import WireAgent

from acp.connection import Connection
from acp.handlers import Handlers
from acp.transports.memory import memory_pair
from acp_client.host.terminals import LocalTerminals
from acp_client.host.terminals_v1 import TerminalsV1

pytestmark = pytest.mark.anyio

Call = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def agent(root: Path) -> AsyncGenerator[tuple[WireAgent, Call]]:
    """An agent, and what it calls `terminal/…` by: the result, or the error's code."""
    ours, theirs = memory_pair()
    wire = WireAgent(theirs)
    handlers = Handlers()

    async def call(method: str, id: int = 1, **params: Any) -> Any:
        await wire.say(id=id, method=f"terminal/{method}", params={"sessionId": "s1", **params})
        answer = await wire.hear_answer(id)
        return answer["result"] if "result" in answer else answer["error"]["code"]

    with anyio.fail_after(60):
        async with LocalTerminals(root) as terminals:
            TerminalsV1(terminals).add_to(handlers)
            async with Connection(ours, handlers, name="agent"):
                yield wire, call
        await wire.close()


async def test_a_terminal_is_created_waited_for_read_killed_and_released(tmp_path: Path) -> None:
    async with agent(tmp_path) as (_, call):
        env = [{"name": "WORD", "value": "hi"}]
        made = await call("create", command="sh", args=["-c", "echo $WORD; exit 3"], env=env, cwd=str(tmp_path))
        assert list(made) == ["terminalId"]
        assert await call("wait_for_exit", **made) == {"exitCode": 3, "signal": None}
        ended = {"exitCode": 3, "signal": None}
        assert await call("output", **made) == {"output": "hi\n", "truncated": False, "exitStatus": ended}
        assert await call("kill", **made) == {}
        assert await call("release", **made) == {}


async def test_a_command_that_runs_has_no_exit_status_and_one_that_is_killed_has_its_signal(tmp_path: Path) -> None:
    async with agent(tmp_path) as (wire, call):
        made = await call("create", command="cat /dev/zero", outputByteLimit=0)
        await wire.say(id=9, method="terminal/wait_for_exit", params={"sessionId": "s1", **made})
        running = await call("output", **made)
        assert "exitStatus" not in running
        assert running["output"] == ""
        assert await call("kill", **made) == {}
        output = await call("output", **made)
        assert output["exitStatus"] == {"exitCode": None, "signal": "SIGTERM"}
        await call("release", **made)
        answers = [message for message in wire.heard if message.get("id") == 9]
        assert answers[0]["result"] == {"exitCode": None, "signal": "SIGTERM"}


async def test_a_wait_that_the_agent_withdraws_is_answered(tmp_path: Path) -> None:
    async with agent(tmp_path) as (wire, call):
        made = await call("create", command="tail -f /dev/null")
        await wire.say(id=9, method="terminal/wait_for_exit", params={"sessionId": "s1", **made})
        await wire.say(method="$/cancel_request", params={"requestId": 9})
        assert (await wire.hear_answer(9))["error"]["code"] == -32800
        assert (await call("output", **made))["output"] == ""


async def test_unknown_terminals_and_commands_that_cannot_start_are_errors(tmp_path: Path) -> None:
    async with agent(tmp_path) as (_, call):
        for method in ("output", "wait_for_exit", "kill", "release"):
            assert await call(method, terminalId="term-0") == -32002
        for broken in ({"command": "no-such"}, {"command": "pwd", "cwd": "."}, {"command": "a\0b"}):
            assert await call("create", **broken) == -32602
        made = await call("create", command="true")
        assert await call("release", **made) == {}
        assert await call("release", **made) == -32002
