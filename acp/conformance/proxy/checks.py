"""Every check of a proxy. What a proxy is made to change is its own affair; what it does not know it passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..side import Message
from ..verdicts import Check
from ..walking import Json, obj
from .middle import SUCCESSOR, WATCHED, Middle, inner_of

ODD: Json = {"a": [1, None, {"é": "語"}], "null": None, "_meta": {"check": {"deep": [0.5, True]}}, "": "x"}
"""Params that hold one of everything."""
MANY = 200
HOLD = 0.3


async def forwards_first(talk: Middle) -> None:
    """The successor is asked before proxy/initialize is answered, with the params that were given."""
    id = await talk.ask("proxy/initialize", talk.greeting())
    first = await talk.until(
        lambda m: inner_of(m).get("method") == "initialize" or m.get("id") == id, "initialize at the agent"
    )
    if inner_of(first).get("method") != "initialize" or "id" not in first:
        talk.fail(f"proxy/initialize was answered before the agent was asked: {first}")
    if (version := obj(inner_of(first).get("params")).get("protocolVersion")) != talk.version:
        talk.fail(f"version {talk.version} was asked for, and {version!r} is asked of the agent")
    if await talk.silence(HOLD, lambda m: m.get("id") == id and "method" not in m, "it answered without the agent"):
        talk.fail("the proxy has gone")
    await talk.answer_with(first, talk.hello())
    await talk.answer(id)


async def keeps_version(talk: Middle) -> None:
    """The version is the agent's choice."""
    id = await talk.ask("proxy/initialize", talk.greeting())
    chosen = 3 - talk.version
    await talk.answer_with(await talk.arrival("initialize"), talk.hello() | {"protocolVersion": chosen})
    if (version := obj((await talk.answer(id)).get("result")).get("protocolVersion")) != chosen:
        talk.fail(f"the agent chose version {chosen}, and the proxy answers {version!r}")


async def tells_refusal(talk: Middle) -> None:
    """An agent that cannot be initialized is no agent."""
    id = await talk.ask("proxy/initialize", talk.greeting())
    await talk.refuse(await talk.arrival("initialize"), -32603, "Not today")
    if "error" not in (answer := await talk.answer(id)):
        talk.fail(f"the agent refused initialize, and the proxy answers {answer.get('result')}")


async def tour(talk: Middle) -> None:
    """A session and a turn, both ways."""
    new = await talk.ask("session/new", {"cwd": talk.variables["elsewhere"], "mcpServers": []})
    await talk.answer_with(await talk.arrival("session/new"), {"sessionId": "check-1"})
    if obj((await talk.answer(new)).get("result")).get("sessionId") != "check-1":
        talk.fail("the session's id was changed on the way")
    prompt = await talk.ask("session/prompt", {"sessionId": "check-1", "prompt": [{"type": "text", "text": "hello"}]})
    request = await talk.arrival("session/prompt")
    id = {} if talk.version == 1 else {"messageId": "m"}
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "hi"}, **id}
    await talk.report("session/update", {"sessionId": "check-1", "update": update})
    await talk.answer_with(request, {"stopReason": "end_turn"} if talk.version == 1 else {"messageId": "p"})
    told = len(talk.heard)
    await talk.answer(prompt)
    if not [message for message in talk.heard[told:] if message.get("method") == "session/update"]:
        talk.fail("the turn was over before its update came")


async def passes(talk: Middle) -> None:
    """A request that no proxy knows comes out as it went in, and its result and its error come back so."""
    for answer in ({"result": ODD}, {"result": None}, {"error": {"code": -32099, "message": "é", "data": ODD}}):
        id = await talk.ask("_check/pass", ODD)
        request = await talk.arrival("_check/pass")
        if inner_of(request).get("params") != ODD:
            talk.fail(f"{ODD} came out as {inner_of(request).get('params')}")
        await talk.send({"id": request["id"], **answer})
        back = await talk.answer(id)
        if {name: back[name] for name in ("result", "error") if name in back} != answer:
            talk.fail(f"{answer} came back as {back}")


async def passes_back(talk: Middle) -> None:
    """What the agent tells and asks comes to the client as it was, what is unknown in it too."""
    update = {"sessionUpdate": "_check_kind", "x": [1, None], "_meta": {"a": None}}
    params = {"sessionId": "s", "update": update, "_meta": {"b": 1}}
    await talk.report("session/update", params)
    told = await talk.until(lambda m: m.get("method") == "session/update", "update at the client")
    if told.get("params") != params:
        talk.fail(f"{params} came out as {told.get('params')}")
    id = await talk.ask(SUCCESSOR, {"method": "_check/ask", "params": ODD})
    asked = await talk.request("_check/ask")
    if asked.get("params") != ODD:
        talk.fail(f"{ODD} came out as {asked.get('params')}")
    await talk.answer_with(asked, ODD)
    if (back := await talk.answer(id)).get("result") != ODD:
        talk.fail(f"{ODD} came back as {back}")


async def keeps_order(talk: Middle) -> None:
    """Much that is told in a row comes out in that order."""
    for number in range(MANY):
        await talk.report("_check/count", {"number": number})
    numbers: list[Json] = []

    def counts(message: Message) -> bool:
        if message.get("method") == "_check/count":
            numbers.append(obj(message.get("params")).get("number"))
        return len(numbers) == MANY

    await talk.until(counts, f"{MANY} notifications at the client")
    if numbers != sorted(numbers):
        talk.fail("notifications overtook one another")


async def cancels(talk: Middle) -> None:
    """Cancelling goes hop by hop, under the id that each hop has given."""
    id = await talk.ask("_check/pass", {})
    request = await talk.arrival("_check/pass")
    await talk.send({"method": "$/cancel_request", "params": {"requestId": id}})
    cancel = await talk.until(lambda m: m.get("method") == "$/cancel_request", "cancelling at the agent")
    if (told := obj(cancel.get("params")).get("requestId")) != request["id"]:
        talk.fail(f"{request['id']!r} is to be cancelled, and {told!r} was")
    await talk.refuse(request, -32800, "Cancelled")
    if (answer := await talk.answer(id)).get("error", {}).get("code") != -32800:
        talk.fail(f"the cancelled request was answered with {answer}")


def _check(id: str, title: str, run: Callable[[Middle], Awaitable[None]], open: str = "initialized") -> Check:
    return Check(id, title, ("ACP-160",), "mandatory", (1, 2), open, run=run)


ACTIVE = (
    _check("init.first", "The agent is asked before the answer", forwards_first, "nothing"),
    _check("init.version", "The version is the agent's choice", keeps_version, "nothing"),
    _check("init.refused", "An agent's refusal is told", tells_refusal, "nothing"),
    _check("turn.tour", "A session and a turn pass", tour),
    _check("pass.on", "What is unknown passes on, and its answer back", passes),
    _check("pass.back", "What the agent says passes back", passes_back),
    _check("pass.order", "What is told keeps its order", keeps_order),
    _check("pass.cancel", "Cancelling goes hop by hop", cancels),
)


def proxy_checks(version: int) -> list[Check]:
    """What is checked of a proxy in a version of the protocol."""
    return [check for check in (*ACTIVE, *WATCHED) if version in check.versions]
