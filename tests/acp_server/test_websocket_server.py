"""A server on the network, in this process, and those who attack it with real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from raw_websocket import CLOSE, TEXT, Raw, frame, opened, raw, request
from wire_client import WireClient

from acp_server.agent import Agent
from acp_server.network.gate import Gate
from acp_server.network.http_door import HttpDoor
from acp_server.network.serve import AgentTalk
from acp_server.network.server import Door, Server, ServerLimits
from acp_server.network.websocket_door import WebSocketDoor
from acp_server.scripted import ScriptedBackend
from acp_server.shelter import Shelter

pytestmark = pytest.mark.anyio

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"
DOORS = pytest.mark.parametrize("door", [WebSocketDoor, HttpDoor], ids=["ws", "http"])
"""A WebSocket may be opened at the address of HTTP too, and nobody gets in there who does not get in here."""


class Running:
    def __init__(self, server: Server, port: int, group: TaskGroup, shelter: Shelter) -> None:
        self.server, self.port, self.group, self.shelter = server, port, group, shelter

    async def status(self, headers: dict[str, str] | None = None, *, host: str | None = None, more: str = "") -> int:
        """The status that a request is answered with."""
        async with raw(self.port) as client:
            await client.stream.send(request(headers, host=host or f"127.0.0.1:{self.port}", more=more))
            return (await client.answer())[0]


@asynccontextmanager
async def running(
    gate: Gate | None = None,
    limits: ServerLimits | None = None,
    grace: float = 30.0,
    *,
    door: Callable[[], Door] = WebSocketDoor,
    model: ScriptedBackend | None = None,
) -> AsyncGenerator[Running]:
    talk = AgentTalk(Agent(model or ScriptedBackend()))
    server = Server(talk, gate or Gate(), limits=limits)
    with anyio.fail_after(60):
        async with talk.sheltering(grace) as shelter, anyio.create_task_group() as group:
            url: str = await group.start(server.serve, "127.0.0.1", 0, door())
            yield Running(server, int(url.rsplit(":", 1)[1].removesuffix("/acp")), group, shelter)
            group.cancel_scope.cancel()


def limited(**changes: Any) -> ServerLimits:
    return ServerLimits(**changes)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def wire(client: Raw) -> WireClient:
    """A client that speaks JSON over an open WebSocket."""

    async def send(text: bytes) -> None:
        await client.stream.send(frame(TEXT, text))

    async def receive() -> bytes:
        while True:
            opcode, data = await client.frame()
            assert opcode != CLOSE
            if opcode == TEXT:
                return data

    return WireClient(send, receive)


async def test_a_turn_runs_over_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    async with running() as served, opened(served.port) as client:
        talk = wire(client)
        session = await talk.start(str(tmp_path))
        answer = await talk.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 2'")
        assert answer["result"]["stopReason"] == "end_turn"
    assert (tmp_path / "a.py").read_text() == "x = 2\n"


async def test_a_text_that_is_no_json_is_answered_and_the_connection_lives(tmp_path: Path) -> None:
    async with running() as served, opened(served.port) as client:
        await client.stream.send(frame(TEXT, b"{nonsense"))
        opcode, data = await client.frame()
        assert (opcode, json.loads(data)["error"]["code"]) == (TEXT, -32700)
        await wire(client).start(str(tmp_path))


async def test_a_client_that_vanishes_in_a_turn_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running() as served:
        async with opened(served.port) as client:
            talk = wire(client)
            session = await talk.start(str(tmp_path))
            await talk.request("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": "slow"}]})
            await talk.until(lambda message: message.get("method") == "session/update")
        with anyio.fail_after(60):
            while served.server.connections:  # noqa: ASYNC110
                await anyio.sleep(0.02)


async def test_a_prompt_whose_session_is_closed_at_once_is_cancelled_and_not_lost(tmp_path: Path) -> None:
    async with running() as served, opened(served.port) as client:
        talk = wire(client)
        session = await talk.start(str(tmp_path))
        turn = await talk.begin_prompt(session, "slow")
        closing = await talk.request("session/close", {"sessionId": session})
        await talk.until(lambda _: {turn, closing} <= {message.get("id") for message in talk.received})
        results = {
            message["id"]: message["result"] for message in talk.received if message.get("id") in (turn, closing)
        }
        assert results[turn]["stopReason"] == "cancelled"


@DOORS
async def test_draining_lets_turns_end_and_says_1001(tmp_path: Path, door: Callable[[], Door]) -> None:
    async with running(door=door) as served, opened(served.port) as busy, opened(served.port) as idle:
        talk = wire(busy)
        session = await talk.start(str(tmp_path))
        talk.answer = lambda _: None  # a permission that the user thinks about
        text = {"type": "text", "text": "write a.txt hello"}
        turn = await talk.request("session/prompt", {"sessionId": session, "prompt": [text]})
        asked = await talk.until_asked()
        served.group.start_soon(served.server.drain, 20)
        assert await idle.close_code() == 1001
        async with raw(served.port) as late:
            await late.stream.send(request(host="localhost"))
            status, headers = await late.answer()
            assert (status, headers["retry-after"]) == (503, "5")
        allowed = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
        await talk.send({"jsonrpc": "2.0", "id": asked["id"], "result": allowed})
        assert (await talk.response(turn))["result"]["stopReason"] == "end_turn"
        assert await busy.close_code() == 1001
    assert (tmp_path / "a.txt").exists()


@DOORS
async def test_a_turn_that_takes_too_long_is_cut_off_by_the_end_of_draining(
    tmp_path: Path, door: Callable[[], Door]
) -> None:
    async with running(door=door) as served, opened(served.port) as client:
        talk = wire(client)
        session = await talk.start(str(tmp_path))
        await talk.request("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": "slow"}]})
        await talk.until(lambda message: message.get("method") == "session/update")
        began = anyio.current_time()
        await served.server.drain(0.3)
        assert anyio.current_time() - began < 60
        served.group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            assert await client.close_code() == 1001


# Coming back -------------------------------------------------------------------------------------------------------

PLACE = {"mcpServers": []}


def words(talk: WireClient) -> str:
    """What the agent has said, chunk by chunk."""
    updates = [message["params"]["update"] for message in talk.received if message.get("method") == "session/update"]
    return "".join(u["content"]["text"] for u in updates if u["sessionUpdate"] == "agent_message_chunk")


async def parked(served: Running) -> None:
    with anyio.fail_after(60):
        while not len(served.shelter):  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.parametrize("method", ["session/load", "session/resume"])
async def test_a_turn_goes_on_without_its_client_and_is_there_when_it_comes_back(tmp_path: Path, method: str) -> None:
    async with running() as served:
        async with opened(served.port) as client:
            talk = wire(client)
            session = await talk.start(str(tmp_path))
            talk.answer = lambda _: None
            ask = {"sessionId": session, "prompt": [{"type": "text", "text": "say first\nwrite a.txt hello\nsay last"}]}
            await talk.request("session/prompt", {**ask, "_meta": {"acp-laguna/prompt": "p1"}})
            await talk.until_asked()
        await parked(served)
        async with opened(served.port) as client:
            talk = wire(client)
            await talk.call("initialize", {"protocolVersion": 1})
            talk.answer = lambda _: None
            place = {"sessionId": session, "cwd": str(tmp_path), **PLACE}
            opening = await talk.request(method, place)
            answers: list[Any] = []
            asked: list[Any] = []

            def both(message: Any) -> bool:
                if message.get("method") == "session/request_permission":
                    asked.append(message)
                elif message.get("id") == opening:
                    answers.append(message["result"]["_meta"]["acp-laguna/turn"])
                return bool(asked and answers)

            await talk.until(both)
            assert answers == [{"prompt": "p1", "running": True}]
            assert ("first" in words(talk)) is (method == "session/load")
            assert '"status": "failed"' not in json.dumps(talk.received)
            allowed = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
            await talk.send({"jsonrpc": "2.0", "id": asked[-1]["id"], "result": allowed})
            ended = await talk.until(lambda message: message.get("method") == "_acp-laguna/turn_ended")
            assert ended["params"] == {
                "sessionId": session,
                "prompt": "p1",
                "running": False,
                "stopReason": "end_turn",
            }
            assert words(talk).endswith("last")
            assert (await talk.prompt(session, "say more"))["result"]["stopReason"] == "end_turn"
    assert (tmp_path / "a.txt").read_text() == "hello"


async def test_a_turn_that_ended_meanwhile_is_told_by_the_answer(tmp_path: Path) -> None:
    async with running() as served:
        async with opened(served.port) as client:
            talk = wire(client)
            session = await talk.start(str(tmp_path))
            ask = {"sessionId": session, "prompt": [{"type": "text", "text": "count 200"}]}
            await talk.request("session/prompt", {**ask, "_meta": {"acp-laguna/prompt": "p1"}})
            await talk.until(lambda message: message.get("method") == "session/update")
        await parked(served)
        async with opened(served.port) as client:
            talk = wire(client)
            await talk.call("initialize", {"protocolVersion": 1})
            fate: dict[str, Any] = {"running": True}
            place = {"sessionId": session, "cwd": str(tmp_path), **PLACE}
            with anyio.fail_after(60):
                while fate["running"]:
                    fate = (await talk.call("session/resume", place))["result"]["_meta"]["acp-laguna/turn"]
            assert fate == {"prompt": "p1", "running": False, "stopReason": "end_turn"}
            talk.received.clear()
            await talk.call("session/load", place)
            assert words(talk).split() == [str(n) for n in range(1, 201)]


async def test_a_session_waits_no_longer_than_the_grace_time(tmp_path: Path) -> None:
    async with running(grace=0.2) as served:
        async with opened(served.port) as client:
            talk = wire(client)
            session = await talk.start(str(tmp_path))
            await talk.request("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": "hang"}]})
            await talk.call("session/list", {})
        await parked(served)
        with anyio.fail_after(60):
            while len(served.shelter):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        async with opened(served.port) as client:
            talk = wire(client)
            await talk.start(str(tmp_path))
            place = {"sessionId": session, "cwd": str(tmp_path), **PLACE}
            answer = await talk.call("session/load", place)
            assert answer["result"]["_meta"]["acp-laguna/turn"]["running"] is False


async def test_a_connection_that_is_closed_with_1000_ends_its_sessions(tmp_path: Path) -> None:
    async with running() as served:
        async with opened(served.port) as client:
            await wire(client).start(str(tmp_path))
            await client.stream.send(frame(CLOSE, b"\x03\xe8"))
            await client.wait_gone()
        with anyio.fail_after(60):
            while served.server.connections:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert len(served.shelter) == 0


async def test_a_session_that_waits_is_its_principals_alone(tmp_path: Path) -> None:
    async with running(Gate({"alice": ALICE, "bob": BOB})) as served:
        async with opened(served.port, bearer(ALICE)) as client:
            session = await wire(client).start(str(tmp_path))
        await parked(served)
        place = {"sessionId": session, "cwd": str(tmp_path), **PLACE}
        for token, known in ((BOB, False), (ALICE, True)):
            async with opened(served.port, bearer(token)) as client:
                talk = wire(client)
                await talk.call("initialize", {"protocolVersion": 1})
                assert ("result" in await talk.call("session/resume", place)) is known
        await parked(served)


async def test_who_comes_back_takes_the_place_of_a_connection_that_the_server_has_not_missed(tmp_path: Path) -> None:
    async with running(Gate({"alice": ALICE, "bob": BOB})) as served, raw(served.port) as old:
        await old.stream.send(request(bearer(ALICE), host="localhost"))
        id = (await old.answer())[1]["acp-connection-id"]
        session = await wire(old).start(str(tmp_path))
        place = {"sessionId": session, "cwd": str(tmp_path), **PLACE}
        async with opened(served.port, {**bearer(BOB), "Acp-Connection-Id": id}) as thief:
            talk = wire(thief)
            await talk.call("initialize", {"protocolVersion": 1})
            assert "error" in await talk.call("session/resume", place)
            assert "result" in await wire(old).call("session/list", {})
        async with opened(served.port, {**bearer(ALICE), "Acp-Connection-Id": id}) as client:
            talk = wire(client)
            await talk.call("initialize", {"protocolVersion": 1})
            assert "result" in await talk.call("session/resume", place)
        await old.wait_gone()
