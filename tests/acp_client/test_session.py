"""Sessions and turns, against an agent that says exactly what it is told to."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from wire_agent import WireAgent, connected, in_session

from acp.errors import ConnectionClosed, LocalProtocolError, NegotiationError, RequestError
from acp.tasks import task_group
from acp.updates import MessageChunk, Other, OtherBlock, TextBlock, Update
from acp_client import Host, PermissionRequest, Session, Turn, allow_all
from acp_client.inbox import Inbox
from acp_client.session import KEPT_UPDATES

pytestmark = pytest.mark.anyio


def texts(updates: list[Update]) -> list[str]:
    return [u.content.text for u in updates if isinstance(u, MessageChunk) and isinstance(u.content, TextBlock)]


async def read(turn: Turn) -> list[Update]:
    return [update async for update in turn]


async def take(session: Session, seen: list[Update]) -> None:
    async with session.prompt("hi") as turn:
        async for update in turn:
            seen.append(update)


async def asks_for_ever(request: PermissionRequest) -> str | None:
    await anyio.sleep_forever()


async def test_a_turn_gives_its_updates_in_order_and_then_why_it_ended() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            assert prompt["params"] == {"sessionId": "s1", "prompt": [{"type": "text", "text": "hi"}]}
            for n in range(600):  # more than the inbox holds
                await agent.words(str(n))
            usage = {"totalTokens": 9, "inputTokens": 7, "outputTokens": 2}
            await agent.end_turn(prompt, usage=usage, _meta={"x": 1})

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            assert turn.stop_reason is None
            assert texts(await read(turn)) == [str(n) for n in range(600)]
        assert turn.stop_reason == "end_turn"
        assert turn.usage is not None
        assert (turn.usage.input, turn.usage.output, turn.usage.thought) == (7, 2, None)
        assert turn.meta == {"x": 1}


async def test_text_gives_the_agents_words_without_its_thoughts() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            thought = {"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "hm"}}
            await agent.update(thought)
            await agent.words("a")
            await agent.words("b")
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            assert await turn.text() == "ab"


async def test_updates_before_the_session_is_known_are_kept_for_it() -> None:
    async with connected() as (client, agent, group):

        async def play() -> None:
            message = await agent.hear_call("session/new")
            await agent.words("early")
            await agent.words("not ours", session="s2")
            await agent.say(id=message["id"], result={"sessionId": "s1"})

        group.start_soon(play)
        session = await client.new_session("/w")
        assert texts(list(session.updates)) == ["early"]


async def test_updates_after_the_turn_are_kept_for_the_session_and_never_block() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            await agent.end_turn(await agent.hear_call("session/prompt"))
            for n in range(KEPT_UPDATES + 10):
                await agent.words(str(n))
            prompt = await agent.hear_call("session/prompt")
            await agent.words("second")
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("one") as turn:
            first = texts(await read(turn))
        async with session.prompt("two") as turn:
            second = texts(await read(turn))
        late = texts(list(session.updates))
        everything = [*first, *late, *second[:-1]]
        assert second[-1] == "second"
        assert everything[-1] == str(KEPT_UPDATES + 9)
        assert everything == [str(n) for n in range(KEPT_UPDATES + 10 - len(everything), KEPT_UPDATES + 10)]


async def test_leaving_the_block_early_cancels_the_turn_and_waits_for_its_end() -> None:
    ended = False
    async with in_session() as (session, agent, group):

        async def play() -> None:
            nonlocal ended
            prompt = await agent.hear_call("session/prompt")
            await agent.words("one")
            assert (await agent.hear_call("session/cancel"))["params"] == {"sessionId": "s1"}
            for _ in range(400):  # nobody reads any more, and nothing stalls
                await agent.words("more")
            ended = True
            await agent.end_turn(prompt, "cancelled")

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            async for _ in turn:
                break
        assert ended
        assert turn.stop_reason == "cancelled"
        assert session.turn is None


async def test_a_cancel_never_overtakes_its_prompt() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.hear_call("session/cancel")
            await agent.end_turn(prompt, "cancelled")

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await turn.cancel()
            await read(turn)
        methods = [message.get("method") for message in agent.heard]
        assert methods[-2:] == ["session/prompt", "session/cancel"]


async def test_an_exception_in_the_block_comes_out_as_it_is() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.hear_call("session/cancel")
            await agent.end_turn(prompt, "cancelled")

        group.start_soon(play)
        with pytest.raises(KeyError, match="mine"):
            async with session.prompt("hi"):
                raise KeyError("mine")


async def test_an_exception_in_the_clients_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with in_session():
            raise KeyError("mine")


async def test_cancelling_the_callers_scope_cancels_the_turn() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            scope.cancel()
            await agent.hear_call("session/cancel")
            await agent.end_turn(prompt, "cancelled")

        scope = anyio.CancelScope()
        group.start_soon(play)
        turn = session.prompt("hi")
        with scope:
            async with turn:
                await read(turn)
        assert scope.cancelled_caught
        assert turn.stop_reason == "cancelled"


async def test_an_agent_that_does_not_end_a_cancelled_turn_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("acp_client.turn.LEAVE", 0.1)
    async with in_session() as (session, agent, group):
        group.start_soon(agent.hear_call, "session/prompt")
        async with session.prompt("hi") as turn:
            pass
        assert turn.stop_reason is None
        assert "did not end its cancelled turn" in caplog.text
        assert (await agent.hear_call("$/cancel_request"))["params"]["requestId"] is not None


async def test_a_second_turn_at_the_same_time_is_refused_before_a_byte_is_sent() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            await agent.end_turn(await agent.hear_call("session/prompt"))

        async with session.prompt("one") as turn:
            with pytest.raises(LocalProtocolError, match="has a turn already"):
                async with session.prompt("two"):
                    raise AssertionError("the turn began")
            group.start_soon(play)
            await read(turn)
        assert turn.stop_reason == "end_turn"
        assert "two" not in str(agent.heard)


async def test_an_error_of_the_agent_is_raised_behind_the_updates() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.words("so far")
            await agent.say(id=prompt["id"], error={"code": -32603, "message": "no model"})

        group.start_soon(play)
        seen: list[Update] = []
        with pytest.raises(RequestError, match="no model"):
            await take(session, seen)
        assert texts(seen) == ["so far"]
        assert session.turn is None


async def test_an_error_that_nobody_read_is_raised_at_the_end_of_the_block() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(id=prompt["id"], error={"code": -32603, "message": "no model"})

        group.start_soon(play)
        with pytest.raises(RequestError, match="no model"):
            async with session.prompt("hi") as turn:
                await turn.wait_ended()


async def test_an_agent_that_goes_away_ends_the_turn_at_once() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            await agent.hear_call("session/prompt")
            await agent.words("so far")
            await agent.close()

        group.start_soon(play)
        seen: list[Update] = []
        with pytest.raises(ConnectionClosed):
            await take(session, seen)
        assert texts(seen) == ["so far"]
        with pytest.raises(ConnectionClosed):
            async with session.prompt("again"):
                pass


async def test_unknown_updates_and_methods_disturb_nothing() -> None:
    async with in_session() as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(method="_x.ai/status", params={"a": 1})
            await agent.say(method="qwen/notify/session/mode-update", params={})
            await agent.say(id="q1", method="craft/drainMidTurnQueue", params={"sessionId": "s1"})
            assert (await agent.hear_answer("q1"))["error"]["code"] == -32601
            await agent.update({"sessionUpdate": "no_such_update", "x": [1]})
            await agent.say(method="session/update", params={"sessionId": "s1"})  # broken
            await agent.words("fine")
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            unknown, words = await read(turn)
        assert unknown == Other({"sessionUpdate": "no_such_update", "x": [1]})
        assert texts([words]) == ["fine"]
        assert turn.stop_reason == "end_turn"


# Permission ------------------------------------------------------------------------------------------


async def _one_question(host: Host, act: Any = None) -> tuple[dict[str, Any], list[PermissionRequest]]:
    """What the agent is answered when it asks once, and what the host was asked; `act` runs meanwhile."""
    answers: list[dict[str, Any]] = []
    asked: list[PermissionRequest] = []

    async def ask(request: PermissionRequest) -> str | None:
        asked.append(request)
        return await host.ask(request)

    async with in_session(Host(ask)) as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.update(
                {
                    "sessionUpdate": "tool_call",
                    "toolCallId": "c1",
                    "title": "Edit a",
                    "kind": "edit",
                    "content": [{"type": "diff", "path": "/w/a", "oldText": "1", "newText": "2"}],
                }
            )
            await agent.ask("ask-1")
            if act is not None:
                await act(agent, session)
            answers.append(await agent.hear_answer("ask-1"))
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await read(turn)
    return answers[0], asked


async def test_a_question_has_all_that_was_announced_of_its_call() -> None:
    answer, [request] = await _one_question(Host(allow_all))
    assert answer["result"] == {"outcome": {"outcome": "selected", "optionId": "yes"}}
    assert (request.call.title, request.call.kind, request.paths, request.cwd) == ("Edit a", "edit", ("/w/a",), "/w")


async def test_a_host_rejects_when_it_was_given_nobody_to_ask() -> None:
    answer, _ = await _one_question(Host())
    assert answer["result"]["outcome"]["optionId"] == "no"


async def test_cancelling_the_turn_answers_its_open_question_with_cancelled() -> None:
    async def cancel(agent: WireAgent, session: Any) -> None:
        await anyio.wait_all_tasks_blocked()
        await session.cancel()

    answer, _ = await _one_question(Host(asks_for_ever), cancel)
    assert answer["result"] == {"outcome": {"outcome": "cancelled"}}


async def test_a_question_that_the_agent_withdraws_is_answered_with_cancelled() -> None:
    async def withdraw(agent: WireAgent, session: Any) -> None:
        await anyio.wait_all_tasks_blocked()
        await agent.say(method="$/cancel_request", params={"requestId": "ask-1"})

    answer, _ = await _one_question(Host(asks_for_ever), withdraw)
    assert answer["result"] == {"outcome": {"outcome": "cancelled"}}


async def test_a_question_after_the_cancel_is_not_put_to_the_user() -> None:
    asked: list[PermissionRequest] = []

    async def ask(request: PermissionRequest) -> str | None:
        asked.append(request)
        return "yes"

    async with in_session(Host(ask)) as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.hear_call("session/cancel")
            await agent.ask(0)
            assert (await agent.hear_answer(0))["result"]["outcome"] == {"outcome": "cancelled"}
            await agent.end_turn(prompt, "cancelled")

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await turn.cancel()
            await read(turn)
        assert turn.stop_reason == "cancelled"
    assert asked == []


async def test_a_host_that_fails_or_makes_up_an_option_answers_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: PermissionRequest) -> str | None:
        raise RuntimeError("secret")

    async def make_up(request: PermissionRequest) -> str | None:
        return "perhaps"

    caplog.set_level(logging.CRITICAL)
    for ask in (fail, make_up):
        answer, _ = await _one_question(Host(ask))
        assert answer["error"]["code"] == -32603
        assert "secret" not in str(answer)


async def test_the_updates_before_a_question_are_read_before_it_is_put() -> None:
    story: list[str] = []

    async def ask(request: PermissionRequest) -> str | None:
        story.append("asked")
        return "yes"

    async with in_session(Host(ask)) as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            for n in range(3):
                await agent.words(str(n))
            await agent.ask(1)
            await agent.hear_answer(1)
            await agent.words("done")
            await agent.end_turn(prompt)

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            async for update in turn:
                await anyio.lowlevel.checkpoint()
                story += texts([update])
    assert story == ["0", "1", "2", "asked", "done"]


# The connection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_a_version_that_we_do_not_speak_is_said(version: int) -> None:
    with pytest.raises(NegotiationError, match=f"version {version}; this client speaks (up to )?1"):
        async with connected(version=version):
            raise AssertionError("it connected")


async def test_an_agent_without_a_name_is_welcome() -> None:
    async with connected(agentInfo=None, agentCapabilities=None, authMethods=None) as (client, _, _):
        assert (client.info.name, client.info.version) == ("", 1)


async def test_content_that_the_agent_does_not_take_is_refused_before_a_byte_is_sent() -> None:
    image = OtherBlock({"type": "image", "data": "", "mimeType": "image/png"})
    async with in_session() as (session, _, _):
        with pytest.raises(LocalProtocolError, match="takes no image"):
            async with session.prompt("see", attachments=[image]):
                raise AssertionError("the turn began")
        assert session.turn is None


async def test_further_directories_that_the_agent_does_not_take_are_refused_before_a_byte_is_sent() -> None:
    async with connected() as (client, agent, _):
        with pytest.raises(LocalProtocolError, match="works in one directory only"):
            await client.new_session("/w", directories=["/more"])
        assert [message["method"] for message in agent.heard] == ["initialize"]


async def test_a_part_that_the_host_lacks_is_not_advertised_and_not_open() -> None:
    async with in_session() as (_, agent, _):
        await agent.say(id=1, method="fs/read_text_file", params={"sessionId": "s1", "path": "/a"})
        assert (await agent.hear_answer(1))["error"]["code"] == -32601
        fs = agent.heard[0]["params"]["clientCapabilities"].get("fs", {})
        assert not any(fs.values())


async def test_closing_a_session_cancels_its_turn_and_tells_an_agent_that_wants_to_know() -> None:
    capabilities = {"sessionCapabilities": {"close": {}}}
    async with in_session(agentCapabilities=capabilities) as (session, agent, group):

        async def play() -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.hear_call("session/cancel")
            await agent.end_turn(prompt, "cancelled")
            close = await agent.hear_call("session/close")
            await agent.say(id=close["id"], error={"code": -32601, "message": "advertised, and not there"})

        group.start_soon(play)
        async with session.prompt("hi") as turn:
            await session.close()
        assert turn.stop_reason == "cancelled"
        with pytest.raises(LocalProtocolError, match="closed"):
            async with session.prompt("again"):
                pass


async def test_a_turn_that_nobody_reads_makes_the_agent_wait_and_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("acp_client.inbox.STALL", 0.05)
    inbox = Inbox("session s7", limit=2)
    async with task_group(cancel_at_end=True) as group:
        sent: list[int] = []

        async def flood() -> None:
            for n in range(5):
                await inbox.put(Other({"n": n}))
                sent.append(n)

        group.start_soon(flood)
        with anyio.fail_after(60):
            while "session s7: nobody reads" not in caplog.text:  # noqa: ASYNC110, a log has no event
                await anyio.sleep(0.01)
        assert sent == [0, 1]
        assert [(await inbox.take()) for _ in range(5)] == [Other({"n": n}) for n in range(5)]
