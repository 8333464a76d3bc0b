"""Updates, questions, requests for input, cancels, withdrawals, closing, an agent that dies: what a client promises.

Hypothesis draws what either side does, how long the other gets before that, and how slow the application and the user
are; a judge reads the wire and what the application saw. Both versions, asyncio and trio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_agent import WireAgent

from acp.errors import ConnectionClosed, ErrorCode
from acp.tasks import task_group
from acp.transports.memory import memory_pair
from acp.updates import MessageChunk, TextBlock, Update
from acp_client import Client, Host, PermissionRequest, connect
from acp_client.host.elicitation import Accepted, Answer, FormRequest, Request

LIMIT = 60.0
"""Seconds in which a conversation has to come to its end."""
OPTIONS = [
    {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
]

FORM = {"mode": "form", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
PAGE = {"mode": "url", "elicitationId": "e", "url": "https://a.example/"}
ACCEPTED = {"form": {"action": "accept", "content": {"name": "x"}}, "page": {"action": "accept"}}

agent_moves = st.sampled_from(["say", "say", "say", "ask", "form", "page", "withdraw", "end", "die"])
client_moves = st.sampled_from(["cancel", "leave", "close"])
plans = st.lists(st.tuples(st.integers(0, 12), st.one_of(agent_moves, agent_moves, client_moves)), max_size=12)


@dataclass
class Talk:
    """A session of one turn. `heard` and `said` are the agent's, `seen` is the application's."""

    version: int
    agent: WireAgent
    said: list[str] = field(default_factory=list[str])
    asked: list[int] = field(default_factory=list[int])
    kinds: dict[int, str] = field(default_factory=dict[int, str])
    withdrawn: set[int] = field(default_factory=set[int])
    late: set[int] = field(default_factory=set[int])
    seen: list[str] = field(default_factory=list[str])
    error: ConnectionClosed | None = None
    prompt: Any = None
    begun: bool = False
    ended: str | None = None
    died: bool = False

    async def listen(self) -> None:
        """The agent's ear. It ends a turn that is cancelled, and says yes to a session that is closed."""
        try:
            while True:
                message = await self.agent.hear()
                match message.get("method"):
                    case "session/new":
                        await self.agent.say(id=message["id"], result={"sessionId": "s1"})
                    case "session/prompt":
                        self.prompt = message
                        await self.begin()
                    case "session/cancel":
                        await self.end("cancelled")
                    case "session/close":
                        await self.agent.say(id=message["id"], result={})
                    case _:
                        pass
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass

    async def begin(self) -> None:
        if self.version == 2:
            await self.agent.say(id=self.prompt["id"], result={"messageId": "p"})
            await self.agent.update({"sessionUpdate": "user_message", "messageId": "p", "content": []})
            await self.agent.update({"sessionUpdate": "state_update", "state": "running"})
        self.begun = True

    async def end(self, reason: str) -> None:
        if self.ended is None and not self.died:
            self.ended = reason
            if self.version == 2:
                await self.agent.update({"sessionUpdate": "state_update", "state": "idle", "stopReason": reason})
            else:
                await self.agent.end_turn(self.prompt, reason)

    async def act(self, move: str) -> None:
        """What the agent does; one that is dead does nothing."""
        if self.died:
            return
        match move:
            case "say":
                self.said.append(str(len(self.said)))
                content = {"type": "text", "text": self.said[-1]}
                await self.agent.update({"sessionUpdate": "agent_message_chunk", "content": content, "messageId": "m"})
            case "ask":
                call = {"toolCallId": f"c{len(self.asked)}", "title": "Touch"}
                about = (
                    {"toolCall": call}
                    if self.version == 1
                    else {"title": "?", "subject": {"type": "tool_call"} | {"toolCall": call}}
                )
                await self.ask(move, "session/request_permission", options=OPTIONS, **about)
            case "form" | "page":
                what = FORM if move == "form" else PAGE
                await self.ask(move, "elicitation/create", message="?", **what)
            case "withdraw":
                for id in self.asked[-1:]:
                    self.withdrawn.add(id)
                    await self.agent.say(method="$/cancel_request", params={"requestId": id})
            case "end":
                await self.end("end_turn")
            case _:
                self.died = True
                await self.agent.close()

    async def ask(self, kind: str, method: str, **params: Any) -> None:
        id = len(self.asked)
        self.asked.append(id)
        self.kinds[id] = kind
        if self.ended is not None:
            self.late.add(id)
        await self.agent.say(id=id, method=method, params={"sessionId": "s1", **params})

    def answers(self) -> list[dict[str, Any]]:
        return [m for m in self.agent.heard if "method" not in m]


@asynccontextmanager
async def talking(version: int, host: Host) -> AsyncGenerator[tuple[Client, Talk]]:
    ours, theirs = memory_pair()
    talk = Talk(version, WireAgent(theirs))
    able = {"session": {}}
    first: dict[str, Any] = (
        {"agentCapabilities": {"sessionCapabilities": {"close": {}}}}
        if version == 1
        else {"capabilities": able, "info": {"name": "wire", "version": "1"}}
    )

    async def run() -> None:
        await talk.agent.initialize(version, **first)
        await talk.listen()

    with anyio.fail_after(LIMIT):
        async with task_group(cancel_at_end=True) as group:
            group.start_soon(run)
            try:
                async with connect(ours, host=host, version=version) as client:
                    yield client, talk
            finally:
                await talk.agent.close()


async def converse(version: int, plan: list[tuple[int, str]], slow: int, patience: int) -> None:
    async def ask(request: PermissionRequest) -> str | None:
        await rounds(patience)
        return "yes"

    async def elicit(request: Request) -> Answer:
        await rounds(patience)
        return Accepted({"name": "x"} if isinstance(request, FormRequest) else {})

    async with talking(version, Host(ask=ask, elicit=elicit)) as (client, talk):
        session = await client.new_session("/w")
        turn, read = session.prompt("hi"), anyio.Event()

        async def look() -> None:
            try:
                async for update in turn:
                    talk.seen += words([update])
                    await rounds(slow)
            except ConnectionClosed as error:
                talk.error = error
            read.set()

        moves, last = [move for _, move in plan], ""
        async with task_group() as group:
            try:
                async with turn:
                    while not talk.begun:
                        await anyio.lowlevel.checkpoint()
                    group.start_soon(look)
                    for count, last in plan:
                        await rounds(count)
                        if last in ("leave", "close"):
                            break
                        await (turn.cancel() if last == "cancel" else talk.act(last))
                    if last == "close":
                        await session.close()
                    elif last != "leave":
                        await talk.end("end_turn")
                        await read.wait()
            except ConnectionClosed as error:
                talk.error = error
        if last != "close" and not talk.died:
            await barrier(talk)
        judge_words(talk, words(session.updates), dropped=last in ("leave", "close"))
        judge_end(talk, turn.stop_reason)
        judge_questions(talk, complete=last != "close" and not talk.died)
        judge_silence(talk, cancelled="cancel" in moves or last in ("leave", "close"))


async def rounds(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def barrier(talk: Talk) -> None:
    """Until all that the agent said was taken, and the questions answered that are open."""
    await talk.agent.say(id="barrier", method="_barrier")
    expected = {"barrier", *talk.asked}
    while not expected <= {m["id"] for m in talk.answers()}:
        await anyio.lowlevel.checkpoint()


def words(updates: Any) -> list[str]:
    found: list[str] = []
    for update in updates:
        assert isinstance(update, Update)
        if isinstance(update, MessageChunk) and update.role == "agent" and isinstance(update.content, TextBlock):
            found.append(update.content.text)
    return found


# What holds ----------------------------------------------------------------------------------------------------------


def judge_words(talk: Talk, kept: list[str], *, dropped: bool) -> None:
    """In order, each once; none missing but what nobody was to read, or what a dead agent may have kept."""
    heard = talk.seen + kept
    if dropped or talk.died:
        assert heard == sorted(set(heard), key=int), heard
        assert set(heard) <= set(talk.said)
        if talk.died and not dropped:
            assert heard == talk.said
    else:
        assert heard == talk.said


def judge_end(talk: Talk, reason: str | None) -> None:
    """As the agent said; an error only where there was no agent any more, and then the one that says so."""
    assert reason == talk.ended or (talk.died and reason is None)
    assert talk.error is None or talk.died
    assert talk.ended is not None or talk.died


def judge_questions(talk: Talk, *, complete: bool) -> None:
    """Each is answered once; behind a cancel, and when it was withdrawn in time, nobody's choice is said."""
    answers = Counter(message["id"] for message in talk.answers())
    assert all(count == 1 for count in answers.values())
    if complete:
        assert set(talk.asked) <= answers.keys()
    cancelled = False
    for message in talk.agent.heard:
        cancelled = cancelled or message.get("method") == "session/cancel"
        if message.get("id") in talk.asked and message["id"] not in talk.late and "method" not in message:
            kind = talk.kinds[message["id"]]
            if kind == "ask":
                outcome = message["result"]["outcome"]["outcome"]
                assert outcome == "cancelled" or (outcome == "selected" and not cancelled)
            elif message["id"] in talk.withdrawn and "error" in message:
                assert message["error"]["code"] == ErrorCode.REQUEST_CANCELLED
            else:
                assert message["result"] == {"action": "cancel"} or (
                    message["result"] == ACCEPTED[kind] and not cancelled
                )


def judge_silence(talk: Talk, *, cancelled: bool) -> None:
    """Nobody is told of a cancel that nobody made, and of a closed session nothing is said but answers."""
    methods = [message["method"] for message in talk.agent.heard if "method" in message]
    assert cancelled or "session/cancel" not in methods
    if "session/close" in methods:
        assert methods[methods.index("session/close") + 1 :] == []


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(plan=plans, slow=st.integers(0, 6), patience=st.integers(0, 30))
def test_whatever_an_agent_does_its_words_come_once_and_in_order_and_every_question_has_an_answer(
    backend: str, version: int, plan: list[tuple[int, str]], slow: int, patience: int
) -> None:
    anyio.run(converse, version, plan, slow, patience, backend=backend)
