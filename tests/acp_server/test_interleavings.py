"""Prompts, cancels, answers to questions, closing and leaving, in any order: what holds then, in both versions.

Hypothesis draws what the client does and how long it lets the agent run before that; a judge reads the wire.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acp.transports.memory import memory_pair
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend
from acp_server.storage.memory import MemoryStore

Message = dict[str, Any]
Side = Literal["client", "agent"]

PROMPTS = (
    "say one two three",
    "edit a.py 'x = 1' 'x = 2'\nsay done",
    "parallel a.py a.py a.py",
    "think hard\nread a.py\nedit a.py x y\nedit a.py y x",
    "call edit {}",
    "slow",
    "hang",
    "fail",
    "crash",
    "refuse",
    "long",
)
REASONS = {"end_turn", "cancelled", "refusal", "max_tokens", "max_turn_requests", "error"}
ANSWERS: tuple[Message, ...] = (
    {"result": {"outcome": {"outcome": "selected", "optionId": "allow_once"}}},
    {"result": {"outcome": {"outcome": "selected", "optionId": "reject_once"}}},
    {"result": {"outcome": {"outcome": "selected", "optionId": "never offered"}}},
    {"result": {"outcome": {"outcome": "cancelled"}}},
    {"result": {"outcome": {"outcome": "_other"}}},
    {"result": None},
    {"error": {"code": -32603, "message": "no user is there"}},
)
LIMIT = 60.0
"""Seconds in which a conversation has to come to its end."""

moves = st.one_of(
    st.tuples(st.just("prompt"), st.sampled_from(PROMPTS)),
    st.tuples(st.just("answer"), st.sampled_from(ANSWERS)),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("withdraw"), st.none()),
    st.tuples(st.just("cancel call"), st.none()),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("open"), st.none()),
)
plans = st.lists(st.tuples(st.integers(0, 40), moves), min_size=2, max_size=14)


class Talk:
    """A client that does what a plan says. `said` is the wire: who said what, in the order in which it was heard."""

    def __init__(self, version: int, cwd: str, transport: Any) -> None:
        self.version, self.cwd = version, cwd
        self.said: list[tuple[Side, Message]] = []
        self.ended = False
        self._transport = transport
        self._ids = 0
        self._changed = anyio.Event()
        self.session = ""

    async def say(self, message: Message) -> None:
        self.said.append(("client", message))
        await self._transport.send(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def ask(self, method: str, params: Message) -> int:
        self._ids += 1
        await self.say({"id": self._ids, "method": method, "params": params})
        return self._ids

    async def hear(self) -> None:
        try:
            while True:
                self.said.append(("agent", json.loads(await self._transport.receive())))
                self._changed.set()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self.ended = True
            self._changed.set()

    async def until_answered(self, *ids: int) -> None:
        while not self.ended and not set(ids) <= {m["id"] for who, m in self.said if who == "agent" and is_answer(m)}:
            self._changed = anyio.Event()
            await self._changed.wait()

    def answer(self, id: int) -> Message:
        return next(m for who, m in self.said if who == "agent" and is_answer(m) and m["id"] == id)

    def open_questions(self) -> list[Any]:
        asked = [m["id"] for who, m in self.said if who == "agent" and "method" in m and "id" in m]
        done = {m["id"] for who, m in self.said if who == "client" and is_answer(m)}
        return [id for id in asked if id not in done]

    def unanswered(self) -> list[int]:
        asked = [m["id"] for who, m in self.said if who == "client" and "method" in m and "id" in m]
        done = {m["id"] for who, m in self.said if who == "agent" and is_answer(m)}
        return [id for id in asked if id not in done]

    async def begin(self) -> None:
        info: Message = {"info": {"name": "test", "version": "1"}} if self.version == 2 else {}
        await self.until_answered(await self.ask("initialize", {"protocolVersion": self.version, **info}))
        await self.open()

    async def open(self) -> None:
        id = await self.ask("session/new", {"cwd": self.cwd, "mcpServers": []})
        await self.until_answered(id)
        self.session = self.answer(id)["result"]["sessionId"]

    async def act(self, move: str, argument: Any) -> None:
        match move:
            case "prompt":
                blocks = [{"type": "text", "text": argument}]
                await self.ask("session/prompt", {"sessionId": self.session, "prompt": blocks})
            case "answer":
                for id in self.open_questions()[:1]:
                    await self.say({"id": id, **argument})
            case "cancel":
                await self.say({"method": "session/cancel", "params": {"sessionId": self.session}})
            case "withdraw":
                for id in self.unanswered()[-1:]:
                    await self.say({"method": "$/cancel_request", "params": {"requestId": id}})
            case "cancel call":
                calls = [u["toolCallId"] for u in updates(self.said, self.session) if "toolCallId" in u]
                for call in calls[-1:] if self.version == 2 else ():
                    await self.ask("tool_call/cancel", {"sessionId": self.session, "toolCallId": call})
            case "close":
                await self.ask("session/close", {"sessionId": self.session})
            case _:
                await self.open()

    async def finish(self) -> None:
        """Everything that is open comes to its end: questions are dismissed, turns cancelled."""
        for session in sessions(self.said):
            await self.say({"method": "session/cancel", "params": {"sessionId": session}})
        for id in self.open_questions():
            await self.say({"id": id, "result": {"outcome": {"outcome": "cancelled"}}})
        await self.until_answered(*self.unanswered())
        for session in sessions(self.said):
            await self.until_answered(await self.ask("session/close", {"sessionId": session}))
        await self.until_answered(await self.ask("_barrier", {}))


def is_answer(message: Message) -> bool:
    return "method" not in message


def sessions(said: Sequence[tuple[Side, Message]]) -> list[str]:
    return [m["result"]["sessionId"] for who, m in said if who == "agent" and "sessionId" in (m.get("result") or {})]


def about(message: Message) -> str | None:
    return message.get("params", {}).get("sessionId") if "method" in message else None


def updates(said: Sequence[tuple[Side, Message]], session: str) -> list[Message]:
    return [m["params"]["update"] for who, m in said if who == "agent" and about(m) == session and "id" not in m]


# What holds -------------------------------------------------------------------------------------------------


def judge(talk: Talk) -> None:
    said = talk.said
    asked = {m["id"]: m for who, m in said if who == "client" and "method" in m and "id" in m}
    answers = Counter(m["id"] for who, m in said if who == "agent" and is_answer(m))
    assert answers == Counter(asked.keys()), "each request has one answer"
    for session in sessions(said):
        judge_silence(said, session)
        judge_calls(updates(said, session))
        judge_questions(said, session)
        if talk.version == 2:
            judge_states([u for u in updates(said, session) if u["sessionUpdate"] == "state_update"])
    for id, request in asked.items():
        if request["method"] == "session/prompt":
            judge_prompt(talk, request["params"]["prompt"][0]["text"], talk.answer(id))


def judge_silence(said: Sequence[tuple[Side, Message]], session: str) -> None:
    """Nothing about a session comes after the first answer that it is closed."""
    closing = {m["id"] for who, m in said if who == "client" and about(m) == session and m["method"] == "session/close"}
    closed = next(n for n, (who, m) in enumerate(said) if who == "agent" and m.get("id") in closing and "result" in m)
    late = [m for who, m in said[closed:] if who == "agent" and about(m) == session]
    # A question that is withdrawn names no session, and what is asked after closing is refused.
    assert not late, late


def judge_calls(told: Sequence[Message]) -> None:
    """A call is announced once, ends once, and is not spoken of after that."""
    states: dict[str, str] = {}
    for update in told:
        if update["sessionUpdate"] == "tool_call":
            assert update["toolCallId"] not in states
        if "toolCallId" in update and "status" in update:
            assert states.get(update["toolCallId"]) not in ("completed", "failed", "cancelled")
            states[update["toolCallId"]] = update["status"]
    assert set(states.values()) <= {"completed", "failed", "cancelled"}


def judge_questions(said: Sequence[tuple[Side, Message]], session: str) -> None:
    """By the end every question was answered or withdrawn."""
    asked = [m["id"] for who, m in said if who == "agent" and about(m) == session and "id" in m]
    answered = {m["id"] for who, m in said if who == "client" and is_answer(m)}
    cancelled = [m for who, m in said if who == "agent" and m.get("method") == "$/cancel_request"]
    assert set(asked) <= answered | {m["params"]["requestId"] for m in cancelled}


def judge_states(told: Sequence[Message]) -> None:
    """Running, perhaps waiting for the user, idle with the reason, and so on."""
    state = "idle"
    for update in told:
        after = update["state"]
        allowed = {"idle": ("running",), "running": ("requires_action", "idle"), "requires_action": ("running", "idle")}
        assert after in allowed[state], f"{state} to {after}"
        if after == "idle":
            assert update["stopReason"] in REASONS
        state = after
    assert state == "idle"


def judge_prompt(talk: Talk, text: str, answer: Message) -> None:
    """A turn ends with a reason; an error says that it never began, or that the model failed."""
    code = answer.get("error", {}).get("code")
    if code is None:
        result = answer["result"]
        assert result["messageId"] if talk.version == 2 else result["stopReason"] in REASONS
    else:
        failed = -32603 if text in ("fail", "crash") else None
        assert code in (-32600, -32002, -32800, failed), answer


# The runs ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def talking(version: int, agent: Agent, cwd: str) -> AsyncGenerator[Talk]:
    """A conversation with the agent; the block's end leaves it, and the agent lets nothing run on."""
    ours, theirs = memory_pair()
    talk = Talk(version, cwd, ours)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(serve, agent, theirs)
            group.start_soon(talk.hear)
            yield talk
            await ours.aclose()


async def converse(version: int, plan: Sequence[tuple[int, tuple[str, Any]]], cwd: str, leave: bool) -> None:
    agent = Agent(ScriptedBackend(), store=MemoryStore())
    async with talking(version, agent, cwd) as talk:
        await talk.begin()
        for rounds, (move, argument) in plan:
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
            await talk.act(move, argument)
        if not leave:
            await talk.finish()
            judge(talk)
    opened = sessions(talk.said)
    async with talking(1, agent, cwd) as later:
        await later.until_answered(await later.ask("initialize", {"protocolVersion": 1}))
        for session in opened:
            id = await later.ask("session/load", {"sessionId": session, "cwd": cwd, "mcpServers": []})
            await later.until_answered(id)
            assert "result" in later.answer(id), "a session that was left can be had again"
            judge_calls(updates(later.said, session))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@given(plan=plans, leave=st.booleans())
def test_whatever_a_client_does_every_request_is_answered_every_call_ends_and_a_closed_session_is_silent(
    backend: str, version: int, plan: list[tuple[int, tuple[str, Any]]], leave: bool
) -> None:
    with tempfile.TemporaryDirectory() as cwd:
        Path(cwd, "a.py").write_text("x = 1\n")
        anyio.run(converse, version, plan, cwd, leave, backend=backend)
