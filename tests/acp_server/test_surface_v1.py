"""Whole turns of version 1 in raw JSON over the memory transport, with the real tools."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire_client import Message, WireClient, silent

from acp.transports.memory import memory_pair
from acp_server.agent import Agent, serve
from acp_server.model import ModelBackend, ModelError, ModelInfo
from acp_server.scripted import ScriptedBackend
from acp_server.surface_v1 import TURN_META

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    (tmp_path / "data.bin").write_bytes(b"\x00\x01\x02" * 100)
    return tmp_path


@asynccontextmanager
async def connected(model: ModelBackend | None = None, **parts: Any) -> AsyncGenerator[WireClient, None]:
    """A client of an agent with the scripted model, which ends with the block."""
    ours, theirs = memory_pair()
    agent = Agent(model or ScriptedBackend(), **parts)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, agent, theirs)
        yield WireClient(ours.send, ours.receive)
        await ours.aclose()


def tool_calls(client: WireClient) -> list[Message]:
    return [u for u in client.updates() if u["sessionUpdate"].startswith("tool_call")]


# Initialization and sessions ----------------------------------------------------------------------


@pytest.mark.parametrize("asked", [1, 0, 2, 99, 65535])
async def test_initialize_answers_version_1_whatever_was_asked_for(asked: int) -> None:
    async with connected() as client:
        response = await client.call("initialize", {"protocolVersion": asked})
        result = response["result"]
        assert result["protocolVersion"] == 1
        assert result["agentInfo"]["name"] == "acp-laguna"
        assert result["authMethods"] == []
        capabilities = result["agentCapabilities"]
        assert capabilities["promptCapabilities"] == {"image": False, "audio": False, "embeddedContext": True}
        assert capabilities["loadSession"] is True
        assert {"list", "resume", "close", "delete"} <= capabilities["sessionCapabilities"].keys()


async def test_a_second_initialize_is_refused_and_the_first_holds(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        assert (await client.call("initialize", {"protocolVersion": 1}))["error"]["code"] == -32600
        assert (await client.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"


@pytest.mark.parametrize("method", ["session/new", "session/prompt"])
async def test_a_request_before_initialize_is_refused(method: str, workspace: Path) -> None:
    params = {"cwd": str(workspace), "mcpServers": [], "sessionId": "s", "prompt": []}
    async with connected() as client:
        response = await client.call(method, params)
        assert response["error"]["code"] == -32600
        assert "initialize" in response["error"]["message"]


@pytest.mark.parametrize(
    ("cwd", "words"),
    [
        ("relative", "must be an absolute path"),
        ("", "must be an absolute path"),
        ("/no/such/directory", "does not exist"),
        ("/etc/passwd", "is not a directory"),
        ("/", "may not be the root"),
        ("/usr/..", "may not be the root"),
        ("/tmp\0", "must be an absolute path"),
    ],
)
async def test_a_working_directory_that_cannot_be_is_refused_in_words(cwd: str, words: str) -> None:
    async with connected() as client:
        await client.call("initialize", {"protocolVersion": 1})
        error = (await client.call("session/new", {"cwd": cwd, "mcpServers": []}))["error"]
        assert error["code"] == -32602
        assert words in error["message"]


async def test_sessions_have_ids_of_their_own_and_nothing_is_sent_before_they_are_known(
    workspace: Path,
) -> None:
    async with connected() as client:
        ids = {await client.start(str(workspace))}
        for _ in range(3):
            ids.add(
                (await client.call("session/new", {"cwd": str(workspace), "mcpServers": []}))["result"]["sessionId"]
            )
        assert len(ids) == 4
        known: set[str] = set()
        for message in client.received:
            known |= {message.get("result", {}).get("sessionId", "")}
            assert "method" not in message or message["params"]["sessionId"] in known


async def test_a_prompt_for_an_unknown_session_is_answered_32002_with_its_id(workspace: Path) -> None:
    async with connected() as client:
        await client.start(str(workspace))
        error = (await client.prompt("nobody", "say hi"))["error"]
        assert (error["code"], error["data"]) == (-32002, {"sessionId": "nobody"})


# Turns --------------------------------------------------------------------------------------------


async def test_a_spoken_turn(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        result = (await client.prompt(session, "think let me see\nsay Hello there."))["result"]
        assert result["stopReason"] == "end_turn"
        assert client.text() == "Hello there."
        thought, answer = client.updates()[0], client.updates()[1]
        assert (thought["sessionUpdate"], thought["content"]["text"]) == ("agent_thought_chunk", "let me see")
        assert thought["messageId"] != answer["messageId"]
        assert all(m["params"]["sessionId"] == session for m in client.received if "method" in m)
        cost = result["_meta"][TURN_META]
        assert cost["outputTokens"] == result["usage"]["outputTokens"] > 0
        assert cost["seconds"] >= cost["modelSeconds"] >= 0
        usage = [u for u in client.updates() if u["sessionUpdate"] == "usage_update"]
        assert usage[0]["size"] == 32768


async def test_the_messages_of_a_reading_turn_in_order(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "say Let me read it.\nread a.py\nsay Seen.")
        assert client.story()[2:] == [
            "agent_message_chunk",
            "tool_call pending",
            "tool_call_update in_progress",
            "tool_call_update completed",
            "agent_message_chunk",
            "session_info_update",
            "result end_turn",
        ]
        announced, _, done = tool_calls(client)
        assert announced["kind"] == "read"
        assert announced["rawInput"] == {"path": "a.py"}
        assert announced["locations"][0]["path"] == str(workspace / "a.py")
        assert done["toolCallId"] == announced["toolCallId"]
        assert "x = 1" in done["content"][0]["content"]["text"]


async def test_the_messages_of_an_editing_turn_in_order(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 3'")
        assert client.story()[2:] == [
            "tool_call pending",
            "tool_call_update in_progress",
            "tool_call_update completed",
            "tool_call pending",
            "session/request_permission",
            "tool_call_update in_progress",
            "tool_call_update completed",
            "agent_message_chunk",
            "session_info_update",
            "result end_turn",
        ]
        assert (workspace / "a.py").read_text() == "x = 3\ny = 2\n"
        announced = tool_calls(client)[3]
        [question] = [m["params"] for m in client.received if m.get("method") == "session/request_permission"]
        assert question["sessionId"] == session
        for key in ("toolCallId", "title", "kind", "status", "rawInput", "content", "locations"):
            assert question["toolCall"][key] == announced[key]
        [diff] = announced["content"]
        assert diff["type"] == "diff"
        assert diff["path"] == str(workspace / "a.py")
        assert [o["kind"] for o in question["options"]] == ["allow_once", "allow_always", "reject_once"]
        assert (workspace.name in question["options"][1]["name"]) or "edits" in question["options"][1]["name"]


async def test_a_command_runs_after_it_was_allowed_and_its_output_is_shown(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "run echo hello; exit 3")
        [question] = [m["params"] for m in client.received if m.get("method") == "session/request_permission"]
        assert question["toolCall"]["kind"] == "execute"
        assert question["toolCall"]["rawInput"] == {"cmd": "echo hello; exit 3"}
        assert question["toolCall"]["content"] == tool_calls(client)[0]["content"]
        assert '"terminal"' not in json.dumps(question)  # the client has created none
        done = tool_calls(client)[-1]
        assert done["status"] == "completed"
        assert "hello" in done["content"][0]["content"]["text"]
        assert done["rawOutput"]["exit_code"] == 3


@pytest.mark.parametrize("answer", ["reject_once", "no-such-option", "ALLOW_ONCE", ""])
async def test_a_rejected_edit_changes_nothing(workspace: Path, answer: str) -> None:
    async with connected() as client:
        client.answer = lambda m: {"outcome": {"outcome": "selected", "optionId": answer}}
        session = await client.start(str(workspace))
        result = (await client.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 3'"))["result"]
        assert result["stopReason"] == "end_turn"
        assert (workspace / "a.py").read_text() == "x = 1\ny = 2\n"
        assert tool_calls(client)[-1]["status"] == "failed"


async def test_a_client_that_has_no_permissions_rejects_and_the_turn_goes_on(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "run echo hello")
        question = await client.until_asked()
        error = {"code": -32601, "message": "Method not found"}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "error": error})
        assert (await client.response(id))["result"]["stopReason"] == "end_turn"
        assert tool_calls(client)[-1]["status"] == "failed"


async def test_always_is_remembered_for_the_session_and_only_for_it(workspace: Path) -> None:
    async with connected() as client:
        client.answer = lambda m: {"outcome": {"outcome": "selected", "optionId": "allow_always"}}
        session = await client.start(str(workspace))
        await client.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 3'")
        await client.prompt(session, "read a.py\nedit a.py 'x = 3' 'x = 4'")
        assert client.story().count("session/request_permission") == 1
        other = (await client.call("session/new", {"cwd": str(workspace), "mcpServers": []}))["result"]["sessionId"]
        await client.prompt(other, "read a.py\nedit a.py 'x = 4' 'x = 5'")
        assert client.story().count("session/request_permission") == 2


@pytest.mark.parametrize(("policy", "questions"), [("ask", 2), ("edits", 1), ("all", 0)])
async def test_a_policy_decides_what_is_asked(workspace: Path, policy: Any, questions: int) -> None:
    async with connected(policy=policy) as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 3'\nrun echo hello")
        assert client.story().count("session/request_permission") == questions


async def test_a_protected_path_is_asked_for_even_when_all_is_allowed(workspace: Path) -> None:
    (workspace / ".git").mkdir()
    async with connected(policy="all") as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "write .git/config evil")
        assert client.story().count("session/request_permission") == 1


async def test_a_plan_is_shown_as_a_plan(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "plan")
        [plan] = [u for u in client.updates() if u["sessionUpdate"] == "plan"]
        assert [(e["content"], e["status"]) for e in plan["entries"]] == [
            ("look", "completed"),
            ("change", "in_progress"),
            ("check", "pending"),
        ]
        assert tool_calls(client) == []


async def test_a_binary_file_and_a_path_outside_fail_the_call_and_not_the_turn(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        response = await client.prompt(session, "read data.bin\nread ../../etc/passwd\nunknown-tool\nbad-call")
        assert response["result"]["stopReason"] == "end_turn"
        failed = [u["content"][0]["content"]["text"] for u in tool_calls(client) if u.get("status") == "failed"]
        assert len(failed) == 4
        assert failed[0] == "error: data.bin is a binary file"
        assert failed[1] == "error: ../../etc/passwd is outside the workspace"
        assert failed[2].startswith("error: unknown tool teleport; the tools are read, ")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [("long", "max_tokens"), ("refuse", "refusal"), ("loop", "max_turn_requests"), ("empty", "end_turn")],
)
async def test_a_turn_says_how_it_ended(workspace: Path, prompt: str, reason: str) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        assert (await client.prompt(session, prompt))["result"]["stopReason"] == reason
        assert client.text()


@pytest.mark.parametrize("prompt", ["fail", "crash"])
async def test_a_failing_model_is_shown_and_is_an_error_and_the_session_goes_on(workspace: Path, prompt: str) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        error = (await client.prompt(session, prompt))["error"]
        assert error["code"] == -32603
        assert error["message"] == client.text()
        assert (await client.prompt(session, "say better"))["result"]["stopReason"] == "end_turn"


async def test_a_model_that_cannot_be_loaded_is_an_error_of_the_prompt_not_of_initialize(
    workspace: Path,
) -> None:
    class Broken(ScriptedBackend):
        async def ready(self) -> ModelInfo:
            raise ModelError("no checkpoint in /models/nothing")

    async with connected(Broken()) as client:
        session = await client.start(str(workspace))
        error = (await client.prompt(session, "say hi"))["error"]
        assert (error["code"], error["message"]) == (-32603, "no checkpoint in /models/nothing")


async def test_a_megabyte_of_prompt_is_refused_in_words_and_the_session_is_intact(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        error = (await client.prompt(session, "x" * 1_000_000))["error"]
        assert error["code"] == -32602
        assert "The prompt is too long" in error["message"]
        assert (await client.prompt(session, "say fine"))["result"]["stopReason"] == "end_turn"
        assert client.text() == "fine"


async def test_an_image_is_refused_and_a_link_and_an_embedded_file_are_read(workspace: Path) -> None:
    model = ScriptedBackend()
    async with connected(model) as client:
        session = await client.start(str(workspace))
        image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
        refused = await client.call("session/prompt", {"sessionId": session, "prompt": [image]})
        assert refused["error"]["code"] == -32602
        blocks = [
            {"type": "text", "text": "say hi"},
            {"type": "resource_link", "name": "a.py", "uri": "file:///a.py"},
            {"type": "resource", "resource": {"uri": "file:///b", "text": "B"}},
        ]
        await client.call("session/prompt", {"sessionId": session, "prompt": blocks})
        assert model.seen[0][-1].text == "say hi\n[a.py](file:///a.py)\nfile:///b\n```\nB\n```"


async def test_a_second_prompt_while_one_runs_is_refused_and_the_first_goes_on(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await client.start(str(workspace))
        first = await client.begin_prompt(session, "run echo hello")
        question = await client.until_asked()
        error = (await client.prompt(session, "say hi"))["error"]
        assert error["code"] == -32600
        assert "already running" in error["message"]
        allow = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": allow})
        assert (await client.response(first))["result"]["stopReason"] == "end_turn"


async def test_two_sessions_take_their_turns_beside_each_other(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        one = await client.start(str(workspace))
        two = (await client.call("session/new", {"cwd": str(workspace), "mcpServers": []}))["result"]["sessionId"]
        waiting = await client.begin_prompt(one, "run echo hello")
        await client.until_asked()
        assert (await client.prompt(two, "say hi"))["result"]["stopReason"] == "end_turn"
        await client.notify("session/cancel", {"sessionId": one})
        assert (await client.response(waiting))["result"]["stopReason"] == "cancelled"


async def test_hostile_lines_in_the_middle_of_a_turn_do_not_disturb_it(workspace: Path) -> None:
    lines = [
        b"{",
        b"[]",
        b"null",
        b"17",
        b'{"jsonrpc":"2.0","id":NaN,"method":"x"}',
        b"\xff\xfe",
        b'"session/prompt"',
    ]
    async with connected() as client:
        client.answer = silent
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "run echo hello")
        question = await client.until_asked()
        for line in lines:
            await client.send_raw(line)
            answer = await client.until(lambda m: "error" in m)
            assert answer["id"] is None
            assert answer["error"]["code"] in (-32700, -32600)
        await client.notify("session/cancel", {"nonsense": True})
        await client.notify("_vendor/whatever", [1, 2, 3])
        assert (await client.call("no/such/method", {}))["error"]["code"] == -32601
        allow = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": allow})
        assert (await client.response(id))["result"]["stopReason"] == "end_turn"


# Cancellation -------------------------------------------------------------------------------------


async def _cancel(client: WireClient, session: str, id: int) -> None:
    """Cancel a turn that would never end, or not in minutes."""
    await client.notify("session/cancel", {"sessionId": session})
    response = await client.response(id)
    assert response["result"]["stopReason"] == "cancelled"


async def test_cancel_while_the_model_thinks(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "say Well...\nhang")
        await client.until(lambda m: m.get("method") == "session/update")
        await _cancel(client, session, id)
        assert (await client.prompt(session, "say next"))["result"]["stopReason"] == "end_turn"


async def test_cancel_while_the_model_streams(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "slow")
        await client.until(lambda m: "3" in client.text())
        await _cancel(client, session, id)


async def test_cancel_while_the_user_is_asked_and_the_late_answer_is_ignored(workspace: Path) -> None:
    async with connected() as client:
        client.answer = silent
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "run touch made")
        question = await client.until_asked()
        await _cancel(client, session, id)
        assert tool_calls(client)[-1]["status"] == "failed"
        allow = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": allow})
        assert (await client.prompt(session, "say next"))["result"]["stopReason"] == "end_turn"
        assert not (workspace / "made").exists()


async def test_a_permission_answered_cancelled_ends_the_turn_cancelled(workspace: Path) -> None:
    async with connected() as client:
        client.answer = lambda m: {"outcome": {"outcome": "cancelled"}}
        session = await client.start(str(workspace))
        assert (await client.prompt(session, "run touch made"))["result"]["stopReason"] == "cancelled"


async def test_cancel_while_a_command_runs_kills_it_and_every_call_ends(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "run trap '' TERM; echo started; sleep 600; touch survived")
        await client.until_output("started")
        await _cancel(client, session, id)
        assert [u.get("status") for u in tool_calls(client) if u.get("status")][-1] == "failed"


async def test_cancel_while_the_model_loads(workspace: Path) -> None:
    class Loading(ScriptedBackend):
        async def ready(self) -> ModelInfo:
            await anyio.sleep_forever()
            raise AssertionError

    async with connected(Loading()) as client:
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "say hi")
        await _cancel(client, session, id)


async def test_cancel_right_behind_the_prompt_is_not_lost(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        for _ in range(20):
            id = await client.begin_prompt(session, "hang")
            await _cancel(client, session, id)


async def test_cancel_without_a_turn_twice_or_for_nobody_is_nothing(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        for id in (session, session, "nobody"):
            await client.notify("session/cancel", {"sessionId": id})
        assert (await client.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"
        id = await client.begin_prompt(session, "hang")
        for _ in range(100):
            await client.notify("session/cancel", {"sessionId": session})
        assert (await client.response(id))["result"]["stopReason"] == "cancelled"
        assert (await client.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"


async def test_cancelling_the_request_itself_is_answered_32800(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "slow")
        await client.until(lambda m: m.get("method") == "session/update")
        await client.notify("$/cancel_request", {"requestId": id})
        assert (await client.response(id))["error"]["code"] == -32800
        assert (await client.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"


async def test_updates_of_a_cancelled_turn_come_before_its_answer_and_none_after(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        id = await client.begin_prompt(session, "slow")
        await client.until(lambda m: "3" in client.text())
        await _cancel(client, session, id)
        before = len(client.received)
        await client.call("no/such/method", {})
        assert len(client.received) == before + 1


# The client's files -------------------------------------------------------------------------------


async def test_a_file_open_in_the_editor_is_read_and_written_through_it(workspace: Path) -> None:
    buffers = {str(workspace / "a.py"): "x = 10\ny = 2\n"}

    def editor(message: Message) -> Any:
        params = message["params"]
        match message["method"]:
            case "fs/read_text_file":
                return {"content": buffers.get(params["path"], "")}
            case "fs/write_text_file":
                buffers[params["path"]] = params["content"]
                Path(params["path"]).write_text(params["content"])
                return {}
            case _:
                return {"outcome": {"outcome": "selected", "optionId": "allow_once"}}

    async with connected() as client:
        client.answer = editor
        files = {"fs": {"readTextFile": True, "writeTextFile": True}}
        session = await client.start(str(workspace), files)
        await client.prompt(session, "read a.py\nedit a.py 'x = 10' 'x = 11'")
        assert buffers[str(workspace / "a.py")] == "x = 11\ny = 2\n"
        assert "fs/read_text_file" in client.story()
        assert "fs/write_text_file" in client.story()


async def test_a_client_without_files_is_never_asked_for_them(workspace: Path) -> None:
    async with connected() as client:
        session = await client.start(str(workspace))
        await client.prompt(session, "read a.py\nwrite b.py x")
        assert not [line for line in client.story() if line.startswith("fs/")]
        assert (workspace / "b.py").read_text() == "x"
