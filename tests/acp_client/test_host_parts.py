"""The host's terminals and forms, as an agent meets them through a client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from wire_agent import WireAgent, connected, in_session

from acp_client import Host, Session
from acp_client.host.elicitation import Accepted, Answer, Dismissed, FormRequest, Request
from acp_client.host.terminals import LocalTerminals, UnknownTerminal

pytestmark = pytest.mark.anyio

FORM = {
    "mode": "form",
    "message": "Which?",
    "requestedSchema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
}


async def ask(agent: WireAgent, id: int, method: str, **params: Any) -> Any:
    await agent.say(id=id, method=method, params=params)
    answer = await agent.hear_answer(id)
    return answer["result"] if "result" in answer else answer["error"]["code"]


async def seven(request: Request) -> Answer:
    assert isinstance(request, FormRequest)
    assert request.agent == "Wire"
    return Accepted({"x": 7})


async def never(request: Request) -> Answer:
    await anyio.sleep_forever()
    return Dismissed()


async def test_a_host_without_the_parts_offers_neither() -> None:
    async with in_session() as (_, agent, _):
        offered = agent.heard[0]["params"]["clientCapabilities"]
        assert (offered["terminal"], offered.get("elicitation")) == (False, None)
        assert await ask(agent, 1, "terminal/create", sessionId="s1", command="true") == -32601
        assert await ask(agent, 2, "elicitation/create", sessionId="s1", **FORM) == -32601


async def test_terminals_are_offered_and_end_with_their_session(tmp_path: Path) -> None:
    async with LocalTerminals(tmp_path) as terminals:
        async with in_session(Host(terminals=terminals)) as (session, agent, group):
            assert agent.heard[0]["params"]["clientCapabilities"]["terminal"] is True
            made = await ask(agent, 1, "terminal/create", sessionId="s1", command="tail -f /dev/null")
            group.start_soon(session.close)
            with anyio.fail_after(60):
                while "[1 terminals" in repr(terminals):
                    await anyio.lowlevel.checkpoint()
            with pytest.raises(UnknownTerminal):
                await terminals.output(made["terminalId"])


async def test_terminals_end_with_the_connection(tmp_path: Path) -> None:
    async with LocalTerminals(tmp_path) as terminals:
        async with in_session(Host(terminals=terminals)) as (_, agent, _):
            await ask(agent, 1, "terminal/create", sessionId="s1", command="tail -f /dev/null")
        assert "[0 terminals" in repr(terminals)


async def test_forms_are_offered_and_answered_in_a_session_we_know_and_outside_of_any() -> None:
    info = {"name": "wire", "title": "Wire", "version": "1"}
    async with in_session(Host(elicit=seven), agentInfo=info) as (_, agent, _):
        assert agent.heard[0]["params"]["clientCapabilities"]["elicitation"] == {"form": {}, "url": {}}
        accepted = {"action": "accept", "content": {"x": 7}}
        assert await ask(agent, 1, "elicitation/create", sessionId="s1", **FORM) == accepted
        assert await ask(agent, 2, "elicitation/create", requestId=1, **FORM) == accepted
        assert await ask(agent, 3, "elicitation/create", sessionId="s2", **FORM) == {"action": "cancel"}
        await agent.say(method="elicitation/complete", params={"elicitationId": "nobody knows"})
        assert await ask(agent, 4, "elicitation/create", sessionId="s1", **FORM) == accepted


async def test_a_form_that_is_open_when_the_turn_is_cancelled_is_dismissed() -> None:
    async with in_session(Host(elicit=never)) as (session, agent, group):

        async def play(session: Session) -> None:
            prompt = await agent.hear_call("session/prompt")
            await agent.say(id=1, method="elicitation/create", params={"sessionId": "s1", **FORM})
            await turn.cancel()
            assert (await agent.hear_answer(1))["result"] == {"action": "cancel"}
            await agent.end_turn(prompt, "cancelled")

        async with session.prompt("hi") as turn:
            group.start_soon(play, session)
            await turn.wait_ended()


async def test_a_form_that_the_agent_withdraws_is_closed() -> None:
    async with connected(Host(elicit=never)) as (_, agent, _):
        await agent.say(id=1, method="elicitation/create", params={"requestId": 9, **FORM})
        await agent.say(method="$/cancel_request", params={"requestId": 1})
        assert (await agent.hear_answer(1))["error"]["code"] == -32800
