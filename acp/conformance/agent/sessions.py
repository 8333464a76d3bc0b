"""Checks of sessions: their ids, lists, replays and ends."""

from __future__ import annotations

from pathlib import Path

from ..side import Message, Skipped
from ..walking import Json, Object, obj, objects
from .check import check, session_needs
from .conversation import Conversation, update_of, updates
from .turns import HOLD, V1, V2, blame_unless_soon_over

NONE = "acp-check-no-such-session"
MESSAGES = ("user_message", "user_message_chunk", "agent_message", "agent_message_chunk")
HOLOGRAM: Object = {"type": "_check_hologram", "projector": {"beam": [1, 2]}}


async def distinct(talk: Conversation) -> None:
    if await talk.session() == await talk.session():
        talk.fail("two sessions have one id")


async def takes_directories(talk: Conversation) -> None:
    await talk.session(additionalDirectories=[talk.variables["elsewhere"]])
    await talk.turn()


# Replays -------------------------------------------------------------------------------------------------------


async def resume(talk: Conversation, session: str, **more: Json) -> list[Message]:
    """What is said while a session is resumed, before the answer."""
    before = len(talk.heard)
    method = "session/load" if more.pop("load", False) else "session/resume"
    await talk.call(method, {"sessionId": session, "cwd": talk.cwd, "mcpServers": [], **more})
    return talk.heard[before:-1]


def _told(messages: list[Message]) -> str:
    """All that messages of users say."""
    blocks: list[Json] = []
    for update in updates(messages, "user_message", "user_message_chunk"):
        content: Json = update.get("content")
        blocks += objects(content) or [content]
    return " ".join(str(obj(block).get("text", "")) for block in blocks)


async def _replayed(talk: Conversation, **how: Json) -> None:
    """Two turns, and both are told again, the agent's part too."""
    session = talk.variables["session"]
    for word in ("first", "second"):
        text = f"{talk.settings.prompt('say')} (acp-check, {word})"
        await talk.end_of_turn(await talk.prompt_with([{"type": "text", "text": text}]))
    messages = await resume(talk, session, **how)
    if missing := [word for word in ("first", "second") if f"(acp-check, {word})" not in _told(messages)]:
        talk.fail(f"the {' and the '.join(missing)} prompt was not told again before the answer")
    if not updates(messages, "agent_message", "agent_message_chunk"):
        talk.fail("what the agent said was not told again before the answer")
    await talk.session()


async def replays_on_load(talk: Conversation) -> None:
    await _replayed(talk, load=True)


async def replays_from_start(talk: Conversation) -> None:
    await _replayed(talk, replayFrom={"type": "start"})


async def resumes_silently(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.turn()
    for more in ({}, {"replayFrom": None}) if talk.version == 2 else ({},):
        if said := updates(await resume(talk, session, **more), *MESSAGES):
            talk.fail(f"session/resume replayed the conversation: {said[0]}")


async def keeps_ids(talk: Conversation) -> None:
    """A message's id is the same when it is told again, and whole messages are told before pieces are added."""
    session, before = talk.variables["session"], len(talk.heard)
    id = await talk.prompt()
    prompted: Json = obj((await talk.answer(id)).get("result")).get("messageId")
    await talk.idle()
    first = [update.get("messageId") for update in updates(talk.heard[before:], *MESSAGES)]
    again = updates(await resume(talk, session, replayFrom={"type": "start"}), *MESSAGES)
    ids = [update.get("messageId") for update in again]
    if prompted not in ids:
        talk.fail(f"the prompt had the id {prompted!r}, and the replay has {ids}")
    if strange := [id for id in ids if id not in first]:
        talk.fail(f"the replay has the message id {strange[0]!r}, which was not told before")


async def tells_state(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.turn()
    for more in ({}, {"replayFrom": {"type": "start"}}):
        messages = await resume(talk, session, **more)
        if not updates(messages, "state_update"):
            talk.fail(f"session/resume with {more} was answered without a state update before")
        kinds = [str(update_of(message).get("sessionUpdate")) for message in messages]
        if [kind for kind in kinds[kinds.index("state_update") :] if kind in MESSAGES]:
            talk.fail("the state was told before the replay was over")


async def refuses_replay(talk: Conversation) -> None:
    params: Object = {"sessionId": talk.variables["session"], "cwd": talk.cwd, "mcpServers": []}
    await talk.turn()
    for cursor in ({"type": "_check_cursor"}, {"type": 5}, "start"):
        await talk.refused("session/resume", {**params, "replayFrom": cursor}, -32602)


async def forgets_notices(talk: Conversation) -> None:
    if not updates(await talk.turn("notify"), "notice"):
        raise Skipped("nothing to judge: the notify prompt brought no notice")
    if updates(await resume(talk, talk.variables["session"], replayFrom={"type": "start"}), "notice"):
        talk.fail("a notice was told again")


async def keeps_unknown(talk: Conversation) -> None:
    """Content of a kind that nobody knows: taken and kept, or refused."""
    text = {"type": "text", "text": talk.settings.prompt("say")}
    if "error" in await talk.answer(await talk.prompt_with([text, HOLOGRAM])):
        raise Skipped("nothing to judge: the agent refuses content that it does not know")
    await talk.idle()
    again = updates(await resume(talk, talk.variables["session"], replayFrom={"type": "start"}), *MESSAGES[:2])
    blocks = [block for update in again for block in (objects(update.get("content")) or [obj(update.get("content"))])]
    if HOLOGRAM not in blocks:
        talk.fail(f"content that the agent does not know was taken, and told again as {blocks}")


# Ends ----------------------------------------------------------------------------------------------------------


async def closes(talk: Conversation) -> None:
    """The turn of a closed session is cancelled; in version 2 before the answer, in version 1 in any order."""
    session = talk.variables["session"]
    id = await talk.begun("cancel")
    close = await talk.ask("session/close", {"sessionId": session})
    if talk.version == 1:
        answer = await talk.answer(id)
        ends = obj(answer.get("result") or answer)
    else:
        first = await talk.until(
            lambda m: update_of(m).get("state") == "idle" or m.get("id") == close, "end of the closed turn"
        )
        if first.get("id") == close and "method" not in first:
            talk.fail("session/close was answered before the turn was over")
        ends = update_of(first)
    if "error" in (answer := await talk.answer(close)):
        talk.fail(f"session/close was answered with {answer['error']}")
    if ends.get("stopReason") != "cancelled":
        await blame_unless_soon_over(talk, f"the turn of the closed session ended with {ends}")
    await talk.session()


async def closes_pending(talk: Conversation) -> None:
    """A prompt that waits when the session is closed is given up, or is in the conversation."""
    session = talk.variables["session"]
    await talk.begun("cancel")
    waiting = await talk.prompt("say")
    await talk.listen(HOLD)
    early = await talk.answer(waiting) if talk.has_answered(waiting) else {}
    if "error" in early:
        raise Skipped("nothing to judge: the agent lets no prompt wait while it works")
    await talk.call("session/close", {"sessionId": session})
    answer = early or await talk.answer(waiting)
    if "error" in answer:
        if answer["error"].get("code") != -32800:
            talk.fail(f"the prompt that waited was answered with {answer['error']}, not with -32800")
    elif not obj(answer["result"]).get("messageId"):
        talk.fail(f"the prompt that waited was answered with {answer['result']}")


async def is_quiet(talk: Conversation) -> None:
    """Nothing is said of a session that is closed, but answers to what was asked before."""
    session = talk.variables["session"]
    await talk.begun("cancel")
    await talk.call("session/close", {"sessionId": session})
    of_it = f"this was said of the closed session {session!r}"
    await talk.silence(HOLD, lambda m: obj(m.get("params")).get("sessionId") == session, of_it)


async def closes_unknown(talk: Conversation) -> None:
    await talk.call("session/close", {"sessionId": NONE})


async def deletes(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.turn()
    await talk.call("session/delete", {"sessionId": session})
    if not talk.can("list"):
        raise Skipped("nothing to judge: the agent lists no sessions")
    if session in await listed(talk):
        talk.fail("the deleted session is still listed")


async def listed(talk: Conversation, **more: Json) -> dict[str, Object]:
    """All sessions that are listed, page by page."""
    found: dict[str, Object] = {}
    page: Object = obj(await talk.call("session/list", more))
    while True:
        found |= {str(row.get("sessionId")): row for row in objects(page["sessions"])}
        if not page.get("nextCursor"):
            return found
        page = obj(await talk.call("session/list", {**more, "cursor": page["nextCursor"]}))


async def deletes_twice(talk: Conversation) -> None:
    session = talk.variables["session"]
    for id in (session, session, NONE):
        await talk.call("session/delete", {"sessionId": id})


async def lists(talk: Conversation) -> None:
    """A session that has had a turn is listed, once, where its directory is asked for and where none is."""
    session = talk.variables["session"]
    await talk.turn()
    for filter in ({}, {"cwd": talk.cwd}):
        if session not in (rows := await listed(talk, **filter)):
            talk.fail(f"with {filter} the session is not listed")
        if filter and (others := [row for row in rows.values() if row.get("cwd") != talk.cwd]):
            talk.fail(f"with {filter} this is listed: {others[0]}")
    if rows := await listed(talk, cwd=str(Path(talk.cwd) / "acp-check-nothing-here")):
        talk.fail(f"in a directory without sessions these are listed: {sorted(rows)}")


CAN_CLOSE, CAN_DELETE = {"1": "sessionCapabilities.close"}, session_needs("delete")
CAPABILITY, ADVISORY = "capability", "advisory"
CHECKS = (
    check("session.distinct", "Sessions have ids of their own", "059", distinct),
    check(
        *("session.directories", "More directories are taken", "086", takes_directories, CAPABILITY),
        needs=session_needs("additionalDirectories"),
    ),
    check(
        *("load.replay", "Loading replays, then answers", "062 063", replays_on_load, CAPABILITY),
        versions=V1,
        needs={"1": "loadSession"},
    ),
    check("resume.replay", "Resuming from the start replays, then answers", "067", replays_from_start, versions=V2),
    check(
        *("resume.silent", "Resuming replays nothing", "065 066", resumes_silently, CAPABILITY),
        needs={"1": "sessionCapabilities.resume"},
    ),
    check("resume.ids", "Messages keep their ids", "068", keeps_ids, versions=V2),
    check("resume.state", "Resuming tells the state", "069", tells_state, versions=V2),
    check("resume.from", "Resuming from nowhere is refused", "070", refuses_replay, versions=V2),
    check("resume.notices", "Notices are told once", "072", forgets_notices, ADVISORY, versions=V2),
    check("resume.unknown", "Content that nobody knows is kept", "024", keeps_unknown, ADVISORY, versions=V2),
    check("close.cancels", "Closing cancels the turn", "073 074", closes, CAPABILITY, needs=CAN_CLOSE),
    check("close.pending", "Closing gives up the prompts that wait", "075", closes_pending, versions=V2),
    check("close.quiet", "A closed session is quiet", "076", is_quiet, versions=V2),
    check("close.unknown", "Closing what is not there succeeds", "077", closes_unknown, ADVISORY, versions=V2),
    check("delete.gone", "A deleted session is gone", "079", deletes, CAPABILITY, needs=CAN_DELETE),
    check("delete.twice", "Deleting what is not there succeeds", "078", deletes_twice, ADVISORY, needs=CAN_DELETE),
    check(
        *("list.shape", "Sessions are listed, by directory", "081 084", lists, CAPABILITY),
        needs={"1": "sessionCapabilities.list"},
    ),
)
