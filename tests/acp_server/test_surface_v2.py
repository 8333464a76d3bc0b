"""Whole turns of version 2 in raw JSON over the memory transport, with the real tools."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from test_sessions import connected, initialize, is_idle, of_kind, start
from wire_client import Message, WireClient, allow, silent

from acp_server.storage.memory import MemoryStore
from acp_server.storage.store import Card, Entry, Log

pytestmark = pytest.mark.anyio
INFO = {"name": "test", "version": "0"}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    return tmp_path


def states(client: WireClient) -> list[str]:
    """The session's states, with why an idle one stopped."""
    told = of_kind(client, "state_update")
    return [f"{u['state']} {u.get('stopReason', '')}".strip() for u in told]


async def until_idle(client: WireClient) -> Message:
    return (await client.until(is_idle))["params"]["update"]


# Beginning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "answered"), [(2, 2), (3, 2), (65535, 2), (1, 1)])
async def test_the_highest_version_not_above_the_one_asked_for_is_spoken(asked: int, answered: int) -> None:
    async with connected() as client:
        params = {"protocolVersion": asked, "info": INFO, "capabilities": {}}
        assert (await client.call("initialize", params))["result"]["protocolVersion"] == answered


async def test_a_version_below_all_is_refused_with_those_there_are_and_another_may_be_tried() -> None:
    async with connected() as client:
        error = (await client.call("initialize", {"protocolVersion": 0, "info": INFO}))["error"]
        assert (error["code"], error["data"]) == (-32022, {"requested": 0, "supported": [1, 2]})
        assert (await initialize(client, 2))["protocolVersion"] == 2


async def test_an_offer_that_is_not_version_2s_is_answered_in_version_1() -> None:
    async with connected() as client:
        result = (await client.call("initialize", {"protocolVersion": 99}))["result"]
        assert result["protocolVersion"] == 1
        assert "agentInfo" in result


async def test_initialize_may_be_repeated_until_something_else_was_asked(workspace: Path) -> None:
    async with connected() as client:
        await initialize(client, 2)
        assert (await initialize(client, 2))["protocolVersion"] == 2
        lower = await client.call("initialize", {"protocolVersion": 1, "clientCapabilities": {}})
        assert lower["error"]["code"] == -32600
        wrong = await client.call("initialize", {"protocolVersion": 2, "info": {"name": 3}})
        assert wrong["error"]["code"] == -32602
        await client.call("session/list", {})
        again = await client.call("initialize", {"protocolVersion": 2, "info": INFO})
        assert again["error"]["code"] == -32600


async def test_capabilities_are_objects_and_never_booleans() -> None:
    def booleans(value: Any) -> bool:
        if isinstance(value, dict):
            return any(map(booleans, value.values()))
        return isinstance(value, bool)

    async with connected(unstable=["fork"]) as client:
        result = await initialize(client, 2)
        assert result["info"]["name"] == "acp-laguna"
        assert result["capabilities"]["session"]["fork"] == {}
        assert not booleans(result["capabilities"])


async def test_methods_of_version_1_are_unknown_in_version_2() -> None:
    async with connected() as client:
        await initialize(client, 2)
        for method in ("session/load", "session/set_mode", "authenticate"):
            assert (await client.call(method, {"sessionId": "s"}))["error"]["code"] == -32601


@pytest.mark.parametrize(
    "servers",
    [
        [{"type": "_smoke", "name": "a"}],
        [{"type": "stdio", "name": "a", "command": "/bin/a"}, {"type": "stdio", "name": "a", "command": "/bin/b"}],
    ],
)
async def test_mcp_servers_of_an_unknown_type_or_of_one_name_are_refused(workspace: Path, servers: Any) -> None:
    async with connected() as client:
        await initialize(client, 2)
        params = {"cwd": str(workspace), "mcpServers": servers}
        assert (await client.call("session/new", params))["error"]["code"] == -32602


# Turns -----------------------------------------------------------------------------------------------------


async def test_a_prompt_is_answered_when_it_is_inserted_and_its_turn_ends_idle(workspace: Path) -> None:
    async with connected() as client:
        session = await start(client, workspace, 2)
        answer = await client.prompt(session, "read a.py")
        ended = await until_idle(client)
        assert ended["stopReason"] == "end_turn"
        assert states(client) == ["running", "idle end_turn"]
        [message] = of_kind(client, "user_message")
        assert message["messageId"] == answer["result"]["messageId"]
        assert message["content"] == [{"type": "text", "text": "read a.py"}]
        announced, running, done = of_kind(client, "tool_call_update")
        assert announced["title"] == "Read a.py"
        assert announced["status"] == "pending"
        assert running["capabilities"] == {"cancel": {}}
        assert done["status"] == "completed"


async def test_a_permission_names_its_call_and_the_session_waits_for_the_user(workspace: Path) -> None:
    async with connected() as client:
        session = await start(client, workspace, 2)
        await client.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 3'")
        await until_idle(client)
        [question] = [m["params"] for m in client.received if m.get("method") == "session/request_permission"]
        assert question["title"] == "Edit a.py"
        assert question["subject"]["type"] == "tool_call"
        [diff] = question["subject"]["toolCall"]["content"]
        path = str(workspace / "a.py")
        assert diff["changes"] == [{"operation": "modify", "path": path}]
        assert f"--- {path}\n+++ {path}\n" in diff["patch"]["text"]
        assert "-x = 1\n+x = 3\n" in diff["patch"]["text"]
        assert states(client) == ["running", "requires_action", "running", "idle end_turn"]
        assert (workspace / "a.py").read_text() == "x = 3\ny = 2\n"


@pytest.mark.parametrize("prompt", ["run sleep 60", "write a.txt hello"])
@pytest.mark.parametrize("version", [1, 2])
async def test_a_call_ends_cancelled_when_its_turn_was_and_in_version_1_failed(
    workspace: Path, prompt: str, version: int
) -> None:
    async with connected() as client:
        client.answer = silent
        session = await start(client, workspace, version)
        asked = await client.begin_prompt(session, prompt)
        question = await client.until_asked()
        if "sleep" in prompt:
            await client.send({"jsonrpc": "2.0", "id": question["id"], "result": allow(question)})
            await client.until(lambda m: "in_progress" in str(m))
        await client.notify("session/cancel", {"sessionId": session})
        await (client.response(asked) if version == 1 else until_idle(client))
        ended = of_kind(client, "tool_call_update")[-1]
        assert ended["status"] == ("failed" if version == 1 else "cancelled")


@pytest.mark.parametrize("outcome", [{"outcome": "_shrug"}, {"outcome": "selected", "optionId": "not offered"}])
async def test_an_outcome_that_was_not_offered_is_no_approval(workspace: Path, outcome: Message) -> None:
    async with connected() as client:
        client.answer = lambda message: {"outcome": outcome}
        session = await start(client, workspace, 2)
        await client.prompt(session, "run touch made")
        await until_idle(client)
        assert not (workspace / "made").exists()
        assert of_kind(client, "tool_call_update")[-1]["status"] == "failed"


async def test_a_prompt_that_comes_while_a_turn_runs_waits_for_its_end(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await start(client, workspace, 2)
        await client.prompt(session, "run true")
        question = await client.until_asked()
        second = await client.begin_prompt(session, "say second")
        allowed = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": allowed})
        await client.response(second)
        await until_idle(client)
        assert states(client) == [
            "running", "requires_action", "running", "idle end_turn", "running", "idle end_turn",
        ]  # fmt: skip
        assert client.text().endswith("second")


async def test_cancelling_ends_the_turn_and_refuses_the_prompts_that_wait(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await start(client, workspace, 2)
        await client.prompt(session, "run sleep 60")
        await client.until_asked()
        waiting = [await client.begin_prompt(session, f"say {number}") for number in range(3)]
        await client.notify("session/cancel", {"sessionId": session})
        left = set(waiting)
        while left:  # the requests run beside each other, so their answers come in any order
            answer = await client.until(lambda m: "method" not in m and m.get("id") in left)
            assert answer["error"]["code"] == -32800
            left.remove(answer["id"])
        if not states(client)[-1].startswith("idle"):
            await until_idle(client)
        assert states(client)[-1] == "idle cancelled"
        client.answer = lambda message: None
        assert "messageId" in (await client.prompt(session, "say on"))["result"]


async def test_a_prompt_too_long_is_refused_before_anything_is_said_of_it(workspace: Path) -> None:
    async with connected() as client:
        session = await start(client, workspace, 2)
        error = (await client.prompt(session, "x" * 1_000_000))["error"]
        assert (error["code"], states(client)) == (-32602, [])
        await client.prompt(session, "say fine")
        await until_idle(client)
        assert states(client) == ["running", "idle end_turn"]


async def test_one_prompt_that_waits_can_be_withdrawn(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await start(client, workspace, 2)
        await client.prompt(session, "run true")
        await client.until_asked()
        first, second = [await client.begin_prompt(session, f"say {word}") for word in ("one", "two")]
        await client.notify("$/cancel_request", {"requestId": first})
        assert (await client.response(first))["error"]["code"] == -32800
        await client.notify("session/cancel", {"sessionId": session})
        assert (await client.response(second))["error"]["code"] == -32800


async def test_more_prompts_than_may_wait_are_refused(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await start(client, workspace, 2)
        await client.prompt(session, "run true")
        await client.until_asked()
        for _ in range(16):
            await client.begin_prompt(session, "say x")
        assert (await client.prompt(session, "say x"))["error"]["code"] == -32600


async def test_one_call_can_be_cancelled_and_the_turn_goes_on(workspace: Path) -> None:
    async with connected(policy="all") as client:
        session = await start(client, workspace, 2)
        await client.prompt(session, "run echo before; sleep 60\nsay after")
        await client.until_output("before")
        call = of_kind(client, "tool_call_update")[-1]["toolCallId"]
        params = {"sessionId": session, "toolCallId": call}
        assert (await client.call("tool_call/cancel", params))["result"] == {}
        await until_idle(client)
        last = [u["status"] for u in of_kind(client, "tool_call_update") if "status" in u][-1]
        assert last == "cancelled"
        assert states(client)[-1] == "idle end_turn"
        assert (await client.call("tool_call/cancel", params))["error"]["code"] == -32602


async def test_a_call_or_terminal_that_does_not_run_cannot_be_cancelled(workspace: Path) -> None:
    async with connected() as client:
        session = await start(client, workspace, 2)
        for method, key in (("tool_call/cancel", "toolCallId"), ("terminal/cancel", "terminalId")):
            assert (await client.call(method, {"sessionId": session, key: "x"}))["error"]["code"] == -32602
            assert (await client.call(method, {"sessionId": "nobody", key: "x"}))["error"]["code"] == -32002


async def test_a_failing_model_ends_the_turn_with_an_error_that_is_said(workspace: Path) -> None:
    async with connected() as client:
        session = await start(client, workspace, 2)
        await client.prompt(session, "fail")
        ended = await until_idle(client)
        assert ended["stopReason"] == "error"
        assert "was told to fail" in ended["error"]["message"]
        assert "was told to fail" in client.text()


async def test_an_empty_prompt_is_refused_and_no_turn_begins(workspace: Path) -> None:
    async with connected() as client:
        session = await start(client, workspace, 2)
        assert (await client.prompt(session, "  "))["error"]["code"] == -32602
        assert states(client) == []


class HangingStore(MemoryStore):
    """A store whose disk answers nothing until the test is over."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs, self.over = False, threading.Event()

    def keep(self, card: Card) -> None:
        if self.hangs:
            self.over.wait(30)


async def test_a_disk_that_hangs_does_not_swallow_the_end_of_a_turn(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp_server.session.SAVING", 0.1)
    store = HangingStore()
    async with connected(store=store) as client:
        session = await start(client, workspace, 2)
        store.hangs = True
        await client.prompt(session, "say hello")
        assert (await until_idle(client))["stopReason"] == "end_turn"
        store.over.set()


class SlowLog:
    """A log that keeps nothing as long as the first who waits for it is not cancelled; `waits` says that he does."""

    def __init__(self, log: Log, waits: anyio.Event) -> None:
        self._log, self._waits = log, waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def kept(self) -> None:
        if not self._waits.is_set():
            self._waits.set()
            await anyio.sleep_forever()


class SlowStore(MemoryStore):
    def __init__(self, waits: anyio.Event) -> None:
        super().__init__()
        self._waits = waits

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        return cast("Log", SlowLog(super().create(card, entries), self._waits))


async def test_a_turn_that_is_cancelled_while_its_prompt_is_being_kept_ends_as_cancelled(workspace: Path) -> None:
    waits = anyio.Event()
    async with connected(store=SlowStore(waits)) as client:
        session = await start(client, workspace, 2)
        await client.prompt(session, "say hello")
        await waits.wait()
        await client.notify("session/cancel", {"sessionId": session})
        assert (await until_idle(client))["stopReason"] == "cancelled"
        assert client.text() == ""
