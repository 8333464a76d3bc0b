"""What real clients do that no specification asks for, and that an agent has to bear.

The whole list, of agents as well, is in `tests/acp_client/test_tolerance.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire_client import Message, WireClient, allow

from acp.transports.memory import memory_pair
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected() -> AsyncGenerator[WireClient]:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, Agent(ScriptedBackend()), theirs)
        yield WireClient(ours.send, ours.receive)
        await ours.aclose()


async def ask(client: WireClient, id: Any, method: str, params: Any) -> Message:
    """The answer to a request with an id of the test's own."""
    await client.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    answer = await client.until(lambda message: "method" not in message)
    assert (answer["id"], type(answer["id"])) == (id, type(id))
    return answer


async def test_ids_may_be_strings_and_begin_at_0(tmp_path: Path) -> None:
    async with connected() as client:
        await ask(client, 0, "initialize", {"protocolVersion": 1})
        opened = await ask(client, "7c9e6679-7425-40de-944b-e07fc1f90ae7", "session/new", place(tmp_path))
        session = opened["result"]["sessionId"]
        prompt = {"sessionId": session, "prompt": [{"type": "text", "text": "write a.txt hello"}]}
        assert (await ask(client, "0", "session/prompt", prompt))["result"]["stopReason"] == "end_turn"
        prompt["prompt"] = [{"type": "text", "text": "hang"}]
        await client.send({"jsonrpc": "2.0", "id": "prompt", "method": "session/prompt", "params": prompt})
        await client.notify("$/cancel_request", {"requestId": "prompt"})
        answer = await client.until(lambda message: "method" not in message)
        assert (answer["id"], answer["error"]["code"]) == ("prompt", -32800)


async def test_extensions_of_the_client_disturb_nothing(tmp_path: Path) -> None:
    async with connected() as client:
        await client.call("initialize", {"protocolVersion": 1, "_meta": {"example": 1}})
        await client.notify("_example/told", {"a": 1})
        await client.notify("example/told", [1])
        refused = await client.call("_example/asked", {"a": 1})
        assert refused["error"]["code"] == -32601
        session = (await client.call("session/new", place(tmp_path)))["result"]["sessionId"]
        await client.notify("_example/told", None)
        assert (await client.prompt(session, "say fine"))["result"]["stopReason"] == "end_turn"
        assert client.text() == "fine"


@pytest.mark.parametrize(("more", "status"), [({"error": None}, "completed"), ({"error": "what?"}, "failed")])
async def test_an_answer_may_hold_an_error_of_null(tmp_path: Path, more: Message, status: str) -> None:
    """And one that holds nothing sensible is a question that was not answered: nothing is done, and the turn ends."""

    class Both(WireClient):
        async def send(self, message: Any) -> None:
            await super().send({**message, **more} if "result" in message else message)

    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, Agent(ScriptedBackend()), theirs)
        client = Both(ours.send, ours.receive)
        session = await client.start(str(tmp_path))
        answer = await client.prompt(session, "write a.txt hello\nsay done")
        assert answer["result"]["stopReason"] == "end_turn"
        [call] = [u for u in client.updates() if u.get("status") in ("completed", "failed")]
        assert call["status"] == status
        assert (tmp_path / "a.txt").exists() is (status == "completed")
        await ours.aclose()


async def test_a_file_is_written_though_the_answer_is_null(tmp_path: Path) -> None:
    """Toad's: the schema wants an object."""

    class Null(WireClient):
        async def send(self, message: Any) -> None:
            written = message.get("result") == "written"
            await super().send({**message, "result": None} if written else message)

    def editor(message: Message) -> Any:
        params = message["params"]
        match message["method"]:
            case "fs/write_text_file":
                Path(params["path"]).write_text(params["content"])
                return "written"
            case "fs/read_text_file":
                return {"content": Path(params["path"]).read_text()}
            case _:
                return allow(message)

    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, Agent(ScriptedBackend()), theirs)
        client = Null(ours.send, ours.receive)
        client.answer = editor
        session = await client.start(str(tmp_path), {"fs": {"readTextFile": True, "writeTextFile": True}})
        answer = await client.prompt(session, "write a.txt hello\nsay done")
        assert answer["result"]["stopReason"] == "end_turn"
        [call] = [u for u in client.updates() if u.get("status") in ("completed", "failed")]
        assert call["status"] == "completed"
        assert "fs/write_text_file" in client.story()
        assert (tmp_path / "a.txt").read_text() == "hello"
        await ours.aclose()


async def test_a_client_that_tries_to_resume_falls_back_to_a_new_session(tmp_path: Path) -> None:
    """acpx, whose agent was started again, and which then keeps it for several commands."""
    async with connected() as client:
        await client.call("initialize", {"protocolVersion": 1})
        for method in ("session/resume", "session/load"):
            refused = await client.call(method, {"sessionId": "of-before", **place(tmp_path)})
            assert refused["error"]["code"] == -32002
        for word in ("one", "two"):
            session = (await client.call("session/new", place(tmp_path)))["result"]["sessionId"]
            assert (await client.prompt(session, f"say {word}"))["result"]["stopReason"] == "end_turn"
            assert "result" in await client.call("session/close", {"sessionId": session})
        assert client.text() == "onetwo"


def place(folder: Path) -> Message:
    return {"cwd": str(folder), "mcpServers": []}
