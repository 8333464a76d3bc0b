"""Every check of an agent: the cases, what is watched, and what data cannot say (order, races, ends)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from ..cases import cases
from ..verdicts import Check
from .conversation import Conversation, result_of
from .watch import WATCHED

Run = Callable[[Conversation], Awaitable[None]]
CAP = {"1": "sessionCapabilities.", "2": "session."}


@dataclass(frozen=True, slots=True)
class AgentCheck(Check):
    """Something that an agent does or does not; `run` is None for what is watched in all conversations."""

    run: Run | None = None


async def tour(talk: Conversation) -> None:
    """A turn that ends by itself, then an error and more calls, so that what comes late is seen."""
    session = talk.variables["session"]
    await talk.end_of_turn(await talk.prompt(session, "Say hello."))
    if talk.version == 2 or talk.announced("sessionCapabilities.list"):
        await talk.call("session/list", {})
    await talk.answer(await talk.ask("_check/nothing", {}))
    await talk.session()


async def cancel(talk: Conversation) -> None:
    session = talk.variables["session"]
    id = await talk.prompt(session, talk.cancel_prompt)
    # In version 2 a prompt that is cancelled before it is inserted has no turn to end.
    if talk.version == 2 and "error" in (receipt := await talk.answer(id)):
        talk.fail(f"the prompt was answered with {receipt['error']}")
    await talk.send({"method": "session/cancel", "params": {"sessionId": session}})
    reason = await talk.end_of_turn(id)
    if reason != "cancelled":
        talk.fail(f"the cancelled turn ended with {reason}")
    await talk.session()


async def distinct(talk: Conversation) -> None:
    if await talk.session() == await talk.session():
        talk.fail("two sessions have one id")


async def ends(talk: Conversation) -> None:
    talk.transport.end_input()
    with anyio.move_on_after(talk.patience):
        await talk.transport.process.wait()
        return
    talk.fail(f"the agent still runs {talk.patience:g} s after its stdin ended")


async def cancels_request(talk: Conversation) -> None:
    id = await talk.prompt(talk.variables["session"], talk.cancel_prompt)
    await talk.send({"method": "$/cancel_request", "params": {"requestId": id}})
    answer = await talk.answer(id)
    if "error" in answer and answer["error"].get("code") != -32800:
        talk.fail(f"the cancelled request was answered with {answer['error']}")


async def replays(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.end_of_turn(await talk.prompt(session, "Say hello."))
    before = len(talk.transcript)
    await talk.call("session/load", {"sessionId": session, "cwd": talk.cwd, "mcpServers": []})
    said = "".join(text for who, text in talk.transcript[before:] if who == "agent")
    if "user_message_chunk" not in said or "agent_message_chunk" not in said:
        talk.fail("the conversation was not replayed before session/load was answered")
    await talk.session()


async def resumes(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.end_of_turn(await talk.prompt(session, "Say hello."))
    before = len(talk.transcript)
    await talk.call("session/resume", {"sessionId": session, "cwd": talk.cwd, "mcpServers": []})
    if "_message" in "".join(text for who, text in talk.transcript[before:] if who == "agent"):
        talk.fail("session/resume replayed the conversation")


async def deletes(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.end_of_turn(await talk.prompt(session, "Say hello."))
    await talk.call("session/delete", {"sessionId": session})
    listed = await talk.call("session/list", {})
    if session in [row["sessionId"] for row in listed["sessions"]]:
        talk.fail("the deleted session is still listed")
    await talk.call("session/delete", {"sessionId": session})


async def closes(talk: Conversation) -> None:
    session = talk.variables["session"]
    id = await talk.prompt(session, talk.cancel_prompt)
    close = await talk.ask("session/close", {"sessionId": session})
    first = await talk.until(lambda m: "method" not in m and m.get("id") in (id, close), "end of the closed turn")
    if talk.version == 1 and first["id"] == close:
        first = await talk.answer(id)
    if talk.version == 1 and result_of(first).get("stopReason") != "cancelled":
        talk.fail(f"the turn of the closed session ended with {first}")
    await talk.session()


ACTIVE = (
    AgentCheck("turn.tour", "A turn runs to its end", ("ACP-102", "ACP-100"), "mandatory", run=tour),
    AgentCheck("turn.cancel", "A cancelled turn says so", ("ACP-127", "ACP-128", "ACP-131"), "mandatory", run=cancel),
    AgentCheck("session.distinct", "Sessions have ids of their own", ("ACP-059",), "mandatory", run=distinct),
    AgentCheck("end.stdin", "The agent ends with its stdin", ("ACP-027",), "advisory", run=ends),
    AgentCheck(
        "request.cancel", "A cancelled request is answered", ("ACP-029",), "mandatory", (1,), run=cancels_request
    ),
    AgentCheck(
        *("load.replay", "Loading replays, then answers", ("ACP-062", "ACP-063"), "capability", (1,)),
        needs={"1": "loadSession"},
        run=replays,
    ),
    AgentCheck(
        *("resume.silent", "Resuming replays nothing", ("ACP-065",), "capability", (1,)),
        needs={"1": "sessionCapabilities.resume"},
        run=resumes,
    ),
    AgentCheck(
        *("delete.gone", "A deleted session is gone, twice too", ("ACP-078", "ACP-079"), "capability"),
        needs={version: prefix + "delete" for version, prefix in CAP.items()},
        run=deletes,
    ),
    AgentCheck(
        *("close.cancels", "Closing cancels the turn", ("ACP-073",), "capability", (1,)),
        needs={"1": "sessionCapabilities.close"},
        run=closes,
    ),
)


def checks(version: int) -> list[AgentCheck]:
    """What is checked of an agent in a version of the protocol."""
    watched = (AgentCheck(id, title, duties, tier) for id, (tier, title, duties) in WATCHED.items())
    told = (
        AgentCheck(c.id, c.description, c.requirements, c.tier, c.protocol, c.open, c.needs, c.play) for c in cases()
    )
    return [check for check in (*ACTIVE, *told, *watched) if version in check.versions]
