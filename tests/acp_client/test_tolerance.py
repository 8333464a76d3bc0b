"""What real agents do that no specification asks for, and that a client has to bear."""

from __future__ import annotations

import anyio
import pytest
from wire_agent import connected, in_session

from acp.errors import RequestError
from acp.updates import MessageChunk, TextBlock, ToolCall, ToolCallUpdate
from acp_client import Host, PermissionRequest, allow_all

pytestmark = pytest.mark.anyio


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
            await agent.say(id=message["id"], error={"code": -32601, "message": "Method not found"})

        group.start_soon(play)
        await session.close()


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
