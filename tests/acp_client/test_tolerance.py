"""What real agents do that no specification asks for, and that a client has to bear.

The whole list of what peers were seen to do, whose it is to bear, and the test that shows it; a test below sees to it
that each of those exists. Of several versions or codes it is in the parameters.

Sessions and updates
- an update before session/new is answered: test_session::updates_before_the_session_is_known_are_kept_for_it
- the same in version 2: test_tolerance::version_2_may_speak_of_a_session_before_it_is_answered_too
- an extension's notification before it:
  test_tolerance::notifications_of_an_extension_before_the_session_is_there_are_passed_over
- updates after the turn's answer: test_session::updates_after_the_turn_are_kept_for_the_session_and_never_block
- commands and usage after it: test_tolerance::what_is_told_after_the_turn_still_counts
- a replay after the answer of session/load: test_tolerance::a_replay_that_comes_after_its_answer_is_kept
- a session that the agent lost, as an error:
  test_tolerance::a_session_that_the_agent_lost_is_an_error_whatever_its_code
- the same, as the end of a turn: test_tolerance::a_session_that_the_agent_lost_may_end_its_turn_without_an_error
- a change of a call never announced: test_tolerance::a_change_of_a_call_that_was_never_announced_announces_it
- close announced and not there: test_tolerance::a_close_that_was_advertised_and_is_not_there_closes_all_the_same
- no agent to close it: test_tolerance::a_session_is_closed_without_an_error_when_its_agent_is_gone
- resume announced and not there: test_tolerance::a_session_that_cannot_be_resumed_is_loaded
- the same where it cannot be loaded either:
  test_tolerance::a_resume_that_was_advertised_and_is_not_there_is_an_error_and_no_more
- the same after a lost connection:
  test_tolerance::after_a_lost_connection_a_session_that_cannot_be_resumed_is_loaded_and_told_once
- resume, and no load, after a lost connection:
  test_rejoining::a_turn_is_lost_with_an_agent_that_cannot_replay_and_its_session_goes_on
- a replay of messages without ids:
  test_rejoining::messages_without_ids_of_several_turns_are_several_after_a_replay
- options and commands at fault:
  test_tolerance::options_and_commands_that_do_not_fit_are_left_out_and_the_rest_is_taken
- the same in version 2: test_tolerance::version_2_leaves_out_options_and_commands_that_do_not_fit_too

Initialization
- a version that was not asked for (99): test_launch::an_agent_of_another_version_is_refused
- the version said back that was asked for:
  test_tolerance::an_agent_that_says_any_version_back_is_spoken_to_in_its_own_words
- -32022 with what is supported: test_tolerance::an_agent_of_version_2_alone_says_so_with_an_error
- -32602 where `info` is missing: test_tolerance::an_agent_of_version_2_alone_says_so_with_an_error
- no agentInfo: test_session::an_agent_without_a_name_is_welcome

Messages
- a request without `_` that nobody knows:
  test_tolerance::a_request_that_we_do_not_know_is_refused_and_the_turn_goes_on
- ids that are 0, strings, and both at once: test_tolerance::a_question_may_have_any_id
- ids of a client that are: test_client_habits::ids_may_be_strings_and_begin_at_0
- answers to a `_` method of ours: test_tolerance::a_method_of_ours_may_be_answered_in_any_way
- a `_` method and notification of theirs: test_client_habits::extensions_of_the_client_disturb_nothing
- an answer with a result and an error of null: test_tolerance::an_answer_may_hold_null_for_what_it_does_not_say
- the same of a client: test_client_habits::an_answer_may_hold_an_error_of_null
- an answer that is malformed: test_tolerance::a_malformed_answer_ends_the_call_that_it_names
- two options of one kind: test_tolerance::of_two_options_of_one_kind_the_first_is_taken
- null for an answer without content: test_client_habits::a_file_is_written_though_the_answer_is_null
- resume, load, new in turn: test_client_habits::a_client_that_tries_to_resume_falls_back_to_a_new_session
- terminals waited for in order: test_terminals_v1::a_terminal_is_created_waited_for_read_killed_and_released
- neither files nor terminals: test_surface_v1::a_client_without_files_is_never_asked_for_them

Processes
- an agent that outlives its stdin: test_tolerance::an_agent_that_outlives_its_stdin_is_ended
- and its children: test_child::a_child_that_ignores_the_end_and_sigterm_is_killed_with_its_children

HTTP
- an answer without a session header: test_http_server::a_turn_runs_over_it_and_an_answer_needs_no_session_header
- a server that wants one: test_http_client::an_answer_names_the_session_of_its_question
- load without it: test_http_server::a_session_that_is_loaded_can_be_used_whether_or_not_its_header_came
- delete without it: test_http_server::a_session_is_deleted_though_its_header_did_not_come
- 404 for a session:
  test_http_client::a_server_that_does_not_know_a_session_before_it_is_loaded_is_asked_without_its_name
- a client for which 404 ends all: test_http_server::a_session_that_is_unknown_is_the_agents_to_refuse
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from flaky import network_to
from wire_agent import WireAgent, connected, in_session

from acp.connection import Handlers
from acp.errors import ConnectionClosed, LocalProtocolError, NegotiationError, RequestError
from acp.methods import Method
from acp.tasks import task_group
from acp.transports.child import spawn_agent
from acp.transports.memory import memory_pair
from acp.unions import Free
from acp.updates import Commands, ContextUsage, MessageChunk, TextBlock, ToolCall, ToolCallUpdate
from acp_client import Client, ConnectionState, Host, PermissionRequest, Reconnect, allow_all, connect
from acp_server.network.gate import Gate, Visitor
from acp_server.network.server import Server
from acp_server.network.visits import ServedTransport
from acp_server.network.websocket_door import WebSocketDoor

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).resolve().parents[1]


@asynccontextmanager
async def offered_version_2(**initialized: Any) -> AsyncGenerator[tuple[Client, WireAgent, anyio.abc.TaskGroup]]:
    """A client that offers version 2, and its agent, whose answer to that is given."""
    ours, theirs = memory_pair()
    agent = WireAgent(theirs)

    async def initialize() -> None:
        message = await agent.hear_call("initialize")
        await agent.say(id=message["id"], **initialized)

    with anyio.fail_after(60):
        async with task_group(cancel_at_end=True) as group:
            group.start_soon(initialize)
            try:
                async with connect(ours, version=2) as client:
                    yield client, agent, group
            finally:
                await agent.close()


NOT_FOUND = {"code": -32601, "message": "Method not found"}
V2 = {"protocolVersion": 2, "capabilities": {"session": {}}, "info": {"name": "crow", "version": "2"}}


async def test_every_test_of_the_list_exists() -> None:
    listed = re.findall(r"^- [^:]*:\s+(\w+)::(\w+)$", __doc__ or "", re.MULTILINE)
    assert len(listed) == (__doc__ or "").count("\n- ")
    for module, name in listed:
        [file] = TESTS.rglob(f"{module}.py")
        assert f"def test_{name}(" in file.read_text(encoding="utf-8"), f"{module} has no such test: {name}"


# Sessions and updates ------------------------------------------------------------------------------------


async def test_notifications_of_an_extension_before_the_session_is_there_are_passed_over() -> None:
    async with connected() as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/new")
            await agent.say(method="_auth/status_update", params={"state": "fine"})
            await agent.say(method="_x.ai/models", params=None)
            await agent.say(id=message["id"], result={"sessionId": "s1"})

        group.start_soon(play)
        assert (await client.new_session("/w")).id == "s1"


async def test_a_request_that_we_do_not_know_is_refused_and_the_turn_goes_on() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(method="qwen/notify/session/mode-update", params={"mode": "x"})
            await agent.say(id="uuid-1", method="craft/drainMidTurnQueue", params={})
            refused = await agent.hear_answer("uuid-1")
            assert refused["error"]["code"] == -32601
            await agent.words("fine")
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            assert await turn.text() == "fine"


async def test_a_replay_that_comes_after_its_answer_is_kept() -> None:
    async with connected(agentCapabilities={"loadSession": True}) as (client, agent, group):
        late = anyio.Event()

        async def play() -> None:
            message = await agent.hear_call("session/load")
            await agent.words("in time", session="old")
            await agent.say(id=message["id"], result=None)
            await agent.words("late", session="old")
            await agent.say(id=7, method="_sync")
            await agent.hear_answer(7)
            late.set()

        group.start_soon(play)
        session = await client.load_session("old", "/w")
        await late.wait()
        # What comes right behind the answer may be read before the application runs again.
        said = [*session.history, *session.updates]
        assert said == [MessageChunk("agent", TextBlock(text)) for text in ("in time", "late")]


async def test_a_close_that_was_advertised_and_is_not_there_closes_all_the_same() -> None:
    able = {"sessionCapabilities": {"close": {}}}
    async with in_session(agentCapabilities=able) as (session, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/close")
            await agent.say(id=message["id"], error=NOT_FOUND)

        group.start_soon(play)
        await session.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_session_is_closed_without_an_error_when_its_agent_is_gone(when: str) -> None:
    able = {"sessionCapabilities": {"close": {}}}
    async with connected(agentCapabilities=able) as (client, agent, group):
        group.start_soon(agent.open_session)
        session = await client.new_session("/w")

        async def hang_up() -> None:
            if when == "meanwhile":
                await agent.hear_call("session/close")
            await agent.close()

        group.start_soon(hang_up)
        if when == "before":
            await client.connection.wait_closed()
        await session.close()
        assert client.sessions == {}
        with pytest.raises(LocalProtocolError, match="closed"):
            async with session.prompt("hi"):
                pass
        with pytest.raises(ConnectionClosed):
            await client.delete_session("s1")


@pytest.mark.parametrize("code", [-32002, -32602, -32603])
async def test_a_session_that_the_agent_lost_is_an_error_whatever_its_code(code: int) -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(id=prompt["id"], error={"code": code, "message": "no such session"})

        group.start_soon(play)
        with pytest.raises(RequestError, match="no such session") as refused:
            async with session.prompt("hi") as turn:
                await turn.text()
        assert refused.value.code == code


async def test_of_two_options_of_one_kind_the_first_is_taken() -> None:
    async def ask(request: PermissionRequest) -> str | None:
        return await allow_all(request)

    async with in_session(Host(ask=ask)) as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            options = [
                {"optionId": "a", "name": "Yes", "kind": "allow_once"},
                {"optionId": "b", "name": "Yes, really", "kind": "allow_once"},
            ]
            params = {"sessionId": "s1", "toolCall": {"toolCallId": "c"}, "options": options}
            await agent.say(id=0, method="session/request_permission", params=params)
            answer = await agent.hear_answer(0)
            assert answer["result"]["outcome"]["optionId"] == "a"
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await turn.text()


async def test_a_change_of_a_call_that_was_never_announced_announces_it() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            change = {"sessionUpdate": "tool_call_update", "toolCallId": "c", "title": "Odd"}
            await agent.update(change | {"status": "completed"})
            await agent.update(change | {"status": "in_progress"})  # after its end
            await agent.update({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "Again"})
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            updates = [update async for update in turn]
        assert updates == [
            ToolCall("c", "Odd", status="completed"),
            ToolCallUpdate("c", title="Odd", status="in_progress"),
            ToolCall("c", "Again"),
        ]


async def test_options_and_commands_that_do_not_fit_are_left_out_and_the_rest_is_taken() -> None:
    async with connected() as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/new")
            good = {
                "id": "m",
                "name": "M",
                "type": "select",
                "currentValue": "a",
                "options": [{"value": "a", "name": "A"}],
            }
            options = [good, {"id": 3}, {"id": "t", "name": "T", "type": "_slider", "currentValue": 3}]
            await agent.say(id=message["id"], result={"sessionId": "s1", "configOptions": options, "modes": 7})

        group.start_soon(play)
        session = await client.new_session("/w")
        assert len(session.options) == 2
        assert session.mode is None


async def test_version_2_leaves_out_options_and_commands_that_do_not_fit_too() -> None:
    async with offered_version_2(result=V2) as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/new")
            good = {"name": "go", "description": "Go", "type": "command"}
            option = {"configId": "m", "name": "M", "type": "boolean", "currentValue": True}
            await agent.say(
                id=message["id"],
                result={
                    "sessionId": "s1",
                    "configOptions": [option, "no option", {"name": "neither"}],
                    "availableCommands": [{"description": "nameless"}, good],
                },
            )

        group.start_soon(play)
        session = await client.new_session("/w")
        assert [option.id for option in session.options] == ["m"]  # type: ignore[union-attr]
        assert [command.name for command in session.commands] == ["go"]


async def test_version_2_may_speak_of_a_session_before_it_is_answered_too() -> None:
    async with offered_version_2(result=V2) as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/new")
            await agent.update({"sessionUpdate": "state_update", "state": "idle"})
            commands = [{"type": "command", "name": "go", "description": "Go"}]
            await agent.update({"sessionUpdate": "available_commands_update", "availableCommands": commands})
            await agent.say(id=message["id"], result={"sessionId": "s1"})

        group.start_soon(play)
        session = await client.new_session("/w")
        assert [command.name for command in session.commands] == ["go"]
        assert session.snapshot.state == "idle"


async def test_what_is_told_after_the_turn_still_counts() -> None:
    async with in_session() as (session, agent, group):
        late = anyio.Event()

        async def play() -> None:
            await agent.end_turn(await agent.hear_call("session/prompt"))
            await agent.words("after all")
            await agent.update({"sessionUpdate": "usage_update", "used": 5, "size": 100})
            commands = [{"name": "go", "description": "Go"}]
            await agent.update({"sessionUpdate": "available_commands_update", "availableCommands": commands})
            await agent.say(id=7, method="_sync")
            await agent.hear_answer(7)
            late.set()

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            during = [update async for update in turn]
        await late.wait()
        assert turn.stop_reason == "end_turn"
        said = [*during, *session.updates]
        assert [type(update) for update in said] == [MessageChunk, ContextUsage, Commands]
        assert [command.name for command in session.commands] == ["go"]
        assert session.snapshot.usage == ContextUsage(5, 100)


@pytest.mark.parametrize("reason", ["refusal", "end_turn"])
async def test_a_session_that_the_agent_lost_may_end_its_turn_without_an_error(reason: str) -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            await agent.end_turn(await agent.hear_call("session/prompt"), reason)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            assert await turn.text() == ""
        assert turn.stop_reason == reason


async def test_a_resume_that_was_advertised_and_is_not_there_is_an_error_and_no_more() -> None:
    able = {"sessionCapabilities": {"resume": {}}}
    async with connected(agentCapabilities=able) as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/resume")
            await agent.say(id=message["id"], error=NOT_FOUND)
            await agent.open_session("s2")

        group.start_soon(play)
        with pytest.raises(RequestError, match="Method not found"):
            await client.load_session("old", "/w", replay=False)
        assert client.sessions == {}
        assert (await client.new_session("/w")).id == "s2"


@pytest.mark.parametrize("announced", [{}, {"sessionCapabilities": {"resume": {}}}], ids=["absent", "refused"])
async def test_a_session_that_cannot_be_resumed_is_loaded(announced: dict[str, Any]) -> None:
    async with connected(agentCapabilities={"loadSession": True, **announced}) as (client, agent, group):

        async def play() -> None:
            if announced:
                await agent.say(id=(await agent.hear_call("session/resume"))["id"], error=NOT_FOUND)
            message = await agent.hear_call("session/load")
            assert (message["params"]["sessionId"], message["params"]["cwd"]) == ("old", "/w")
            await agent.words("before", session="old")
            await agent.say(id=message["id"], result={})
            prompt = await agent.hear_call("session/prompt")
            await agent.words("after", session="old")
            await agent.end_turn(prompt)

        group.start_soon(play)
        session = await client.load_session("old", "/w", replay=False)
        async with session.prompt("hi") as turn:
            assert await turn.text() == "after"
        assert session.history == [MessageChunk("agent", TextBlock("before"))]
        assert not session.updates


async def test_after_a_lost_connection_a_session_that_cannot_be_resumed_is_loaded_and_told_once() -> None:
    """Over WebSocket, whose network is cut between two turns."""
    able = {"loadSession": True, "sessionCapabilities": {"resume": {}}}
    visits = 0

    async def talk(transport: ServedTransport, _: Visitor, __: anyio.Event) -> None:
        nonlocal visits
        visits += 1
        agent = WireAgent(transport)
        await agent.initialize(agentCapabilities=able)
        if visits == 1:
            await agent.open_session()
        else:
            await agent.say(id=(await agent.hear_call("session/resume"))["id"], error=NOT_FOUND)
            message = await agent.hear_call("session/load")
            await agent.words("first", messageId="m1")
            await agent.words("missed", messageId="m2")
            await agent.say(id=message["id"], result={})
        prompt = await agent.hear_call("session/prompt")
        await agent.words("first" if visits == 1 else "last", messageId=f"m{visits if visits == 1 else 3}")
        await agent.end_turn(prompt)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await agent.hear()

    with anyio.fail_after(60):
        async with task_group(cancel_at_end=True) as group:
            url: str = await group.start(Server(talk, Gate()).serve, "127.0.0.1", 0, WebSocketDoor())
            again = anyio.Event()

            def on_state(state: ConnectionState) -> None:
                if visits == 2 and state.state == "connected":
                    again.set()

            async with (
                network_to(int(url.rsplit(":", 1)[1].removesuffix("/acp"))) as network,
                connect(network.url, reconnect=Reconnect(first=0.01), on_state=on_state) as client,
            ):
                session = await client.new_session("/w")
                async with session.prompt("one") as turn:
                    assert await turn.text() == "first"
                await network.cut()
                await again.wait()
                async with session.prompt("two") as turn:
                    assert await turn.text() == "last"
                assert [update.content for update in session.updates] == [TextBlock("missed")]  # type: ignore[union-attr]
                shown = [m.text for m in session.snapshot.messages.values() if m.role == "agent"]
                assert shown == ["first", "missed", "last"]


# Initialization ------------------------------------------------------------------------------------------


async def test_an_agent_that_says_any_version_back_is_spoken_to_in_its_own_words() -> None:
    """Offered version 2, goose and kimi answer 2, and speak version 1."""
    answer = {"protocolVersion": 2, "agentCapabilities": {"loadSession": True}, "authMethods": []}
    async with offered_version_2(result=answer) as (client, agent, group):
        assert client.info.version == 1

        async def play() -> None:
            await agent.open_session()
            await agent.end_turn(await agent.hear_call("session/prompt"))

        group.start_soon(play)
        session = await client.new_session("/w")
        async with session.prompt("hi") as turn:
            await turn.text()
        assert turn.stop_reason == "end_turn"  # version 2 would still wait for the state idle


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (
            {"code": -32022, "message": "Unsupported", "data": {"requested": 1, "supported": [2]}},
            pytest.raises(NegotiationError, match="refuses our protocol version"),
        ),
        ({"code": -32602, "message": "info is missing"}, pytest.raises(RequestError, match="info is missing")),
    ],
    ids=["typescript", "crow"],
)
async def test_an_agent_of_version_2_alone_says_so_with_an_error(error: dict[str, Any], raised: Any) -> None:
    ours, theirs = memory_pair()
    agent = WireAgent(theirs)
    async with task_group(cancel_at_end=True) as group:

        async def refuse() -> None:
            message = await agent.hear_call("initialize")
            await agent.say(id=message["id"], error=error)

        group.start_soon(refuse)
        with raised:
            async with connect(ours):
                raise AssertionError("it connected")
        await agent.close()


# Messages ------------------------------------------------------------------------------------------------


async def test_a_question_may_have_any_id() -> None:
    """Ours begin at what we like; one and the same id may wait on either side, and "0" is not 0."""
    ids = [0, "0", "5bb9b3a6-66f5-4f8f-9b0c-0a7b5a5f5a3e", 1, 2**53]
    async with in_session(Host(ask=allow_all)) as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            for id in [*ids, prompt["id"]]:
                await agent.ask(id)
                answer = await agent.hear_answer(id)
                assert (answer["id"], type(answer["id"])) == (id, type(id))
                assert answer["result"]["outcome"]["optionId"] == "yes"
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await turn.text()
        assert turn.stop_reason == "end_turn"


PING: Method[Free, Free] = Method("_example/ping", "agent", Free, Free)


@pytest.mark.parametrize("answer", [None, {}, {"error": "unknown method"}, -32601, -32603])
async def test_a_method_of_ours_may_be_answered_in_any_way(answer: Any) -> None:
    async with connected() as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("_example/ping")
            if isinstance(answer, int):
                await agent.say(id=message["id"], error={"code": answer, "message": "no such method"})
            else:
                await agent.say(id=message["id"], result=answer)
            await agent.open_session()

        group.start_soon(play)
        with pytest.raises(LocalProtocolError):
            await client.connection.call(PING, Free({}))
        client.connection.open(Handlers(), [PING])
        try:
            heard: Any = (await client.connection.call(PING, Free({}))).root
        except RequestError as error:
            heard = error.code
        assert heard == (answer or {})
        assert (await client.new_session("/w")).id == "s1"


async def test_an_answer_may_hold_null_for_what_it_does_not_say() -> None:
    """As libraries do that write both members of an answer, as JSON-RPC 1 had them."""
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(id=prompt["id"], result={"stopReason": "end_turn"}, error=None)
            prompt = await agent.hear_call("session/prompt")
            await agent.say(id=prompt["id"], result=None, error={"code": -32000, "message": "Please log in"})

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await turn.text()
        assert turn.stop_reason == "end_turn"
        with pytest.raises(RequestError, match="Please log in") as refused:
            async with session.prompt("hi") as turn:
                await turn.text()
        assert refused.value.code == -32000


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "out of credit"},
        {"error": {"code": None, "message": "out of credit"}},
        {"result": {"stopReason": "end_turn"}, "error": {"code": 1, "message": "out of credit"}},
        {},
    ],
)
async def test_a_malformed_answer_ends_the_call_that_it_names(answer: dict[str, Any]) -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(id=prompt["id"], **answer)
            prompt = await agent.hear_call("session/prompt")
            await agent.end_turn(prompt)

        group.start_soon(play)
        with pytest.raises(RequestError, match="Malformed answer" + (".*out of credit" if answer else "")):
            async with session.prompt("hi") as turn:
                await turn.text()
        async with session.prompt("hi") as turn:
            await turn.text()
        assert turn.stop_reason == "end_turn"


# Processes -----------------------------------------------------------------------------------------------


async def test_an_agent_that_outlives_its_stdin_is_ended() -> None:
    stays = "import sys, time\nfor line in sys.stdin: print(line, flush=True)\nprint('bye', flush=True)\ntime.sleep(60)"
    with anyio.fail_after(60):
        async with spawn_agent([sys.executable, "-c", stays], patience=0.2) as child:
            await child.send(b"1")
            assert await child.receive() == b"1"
        assert child.process.returncode == -15
