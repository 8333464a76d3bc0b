"""Checks of sessions: their ids, lists, replays, ends, servers and options."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from ..side import Message, Skipped
from ..walking import Json, Object, obj, objects
from .check import check, session_needs
from .conversation import Conversation, update_of, updates
from .turns import HOLD, V1, V2
from .values import choices

PROBE = Path(__file__).with_name("mcp_probe.py")
NONE = "acp-check-no-such-session"
MESSAGES = ("user_message", "user_message_chunk", "agent_message", "agent_message_chunk")
CONNECTS_WITHIN = 5.0
"""Seconds that an agent gets to connect to an MCP server, at most."""
HOLOGRAM: Object = {"type": "_check_hologram", "projector": {"beam": [1, 2]}}


async def distinct(talk: Conversation) -> None:
    if await talk.session() == await talk.session():
        talk.fail("two sessions have one id")


async def takes_directories(talk: Conversation) -> None:
    await talk.session(additionalDirectories=[talk.variables["elsewhere"]])
    await talk.turn()


# Replays -------------------------------------------------------------------------------------------------------


async def _resume(talk: Conversation, session: str, **more: Json) -> list[Message]:
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
    messages = await _resume(talk, session, **how)
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
        if said := updates(await _resume(talk, session, **more), *MESSAGES):
            talk.fail(f"session/resume replayed the conversation: {said[0]}")


async def keeps_ids(talk: Conversation) -> None:
    """A message's id is the same when it is told again, and whole messages are told before pieces are added."""
    session, before = talk.variables["session"], len(talk.heard)
    id = await talk.prompt()
    prompted: Json = obj((await talk.answer(id)).get("result")).get("messageId")
    await talk.idle()
    first = [update.get("messageId") for update in updates(talk.heard[before:], *MESSAGES)]
    again = updates(await _resume(talk, session, replayFrom={"type": "start"}), *MESSAGES)
    ids = [update.get("messageId") for update in again]
    if prompted not in ids:
        talk.fail(f"the prompt had the id {prompted!r}, and the replay has {ids}")
    if strange := [id for id in ids if id not in first]:
        talk.fail(f"the replay has the message id {strange[0]!r}, which was not told before")


async def tells_state(talk: Conversation) -> None:
    session = talk.variables["session"]
    await talk.turn()
    for more in ({}, {"replayFrom": {"type": "start"}}):
        messages = await _resume(talk, session, **more)
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
    if updates(await _resume(talk, talk.variables["session"], replayFrom={"type": "start"}), "notice"):
        talk.fail("a notice was told again")


async def keeps_unknown(talk: Conversation) -> None:
    """Content of a kind that nobody knows: taken and kept, or refused."""
    text = {"type": "text", "text": talk.settings.prompt("say")}
    if "error" in await talk.answer(await talk.prompt_with([text, HOLOGRAM])):
        raise Skipped("nothing to judge: the agent refuses content that it does not know")
    await talk.idle()
    again = updates(await _resume(talk, talk.variables["session"], replayFrom={"type": "start"}), *MESSAGES[:2])
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
        ends = obj((await talk.answer(id)).get("result"))
    else:
        first = await talk.until(
            lambda m: update_of(m).get("state") == "idle" or m.get("id") == close, "end of the closed turn"
        )
        if first.get("id") == close and "method" not in first:
            talk.fail("session/close was answered before the turn was over")
        ends = update_of(first)
    if ends.get("stopReason") != "cancelled":
        talk.fail(f"the turn of the closed session ended with {ends}")
    if "error" in (answer := await talk.answer(close)):
        talk.fail(f"session/close was answered with {answer['error']}")
    await talk.session()


async def closes_pending(talk: Conversation) -> None:
    """A prompt that waits when the session is closed is given up, or is in the conversation."""
    session = talk.variables["session"]
    await talk.begun("cancel")
    waiting = await talk.prompt("say")
    await talk.call("session/close", {"sessionId": session})
    answer = await talk.answer(waiting)
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


# Servers -------------------------------------------------------------------------------------------------------


class Probe:
    """An MCP server that leaves a mark once it is spoken to."""

    def __init__(self, talk: Conversation) -> None:
        self._mark = Path(talk.cwd) / "acp-check-mark"
        arguments = ["-I", "-S", str(PROBE), str(self._mark)]
        self.server: Object = {"name": "check", "command": sys.executable, "args": arguments, "env": []}
        if talk.version == 2:
            self.server["type"] = "stdio"

    def marked(self) -> bool:
        return self._mark.exists()

    def wipe(self) -> None:
        self._mark.unlink()

    async def reached(self, talk: Conversation) -> bool:
        """Is it spoken to, soon?"""
        with anyio.move_on_after(min(talk.patience, CONNECTS_WITHIN)):
            while not self.marked():
                await talk.listen(0.05)
        return self.marked()


async def connects(talk: Conversation) -> None:
    """An MCP server is started and spoken to, at the latest in the first turn."""
    probe = Probe(talk)
    await talk.session(mcpServers=[probe.server])
    if not await probe.reached(talk):
        await talk.turn()
        if not await probe.reached(talk):
            talk.fail("no word was said to an MCP server over stdio")


async def connects_anew(talk: Conversation) -> None:
    """Servers of an earlier request do not come back when the session is resumed without them."""
    probe = Probe(talk)
    session = await talk.session(mcpServers=[probe.server])
    await talk.turn()
    if not await probe.reached(talk):
        raise Skipped("nothing to judge: no word was said to an MCP server over stdio")
    await talk.call("session/close", {"sessionId": session})
    probe.wipe()
    await _resume(talk, session)
    await talk.turn()
    if probe.marked():
        talk.fail("the session was resumed without servers, and the earlier one was spoken to again")


async def refuses_carrier(talk: Conversation) -> None:
    server = {"type": "_check_pigeon", "name": "one"}
    await talk.refused("session/new", {"cwd": talk.cwd, "mcpServers": [server]}, -32602)


# Options -------------------------------------------------------------------------------------------------------


def _options(talk: Conversation) -> list[Object]:
    rows = objects(talk.variables["opened"].get("configOptions"))
    if not rows:
        raise Skipped("nothing to judge: the session has no options")
    return rows


def _id(talk: Conversation, option: Object) -> str:
    return str(option.get("id" if talk.version == 1 else "configId"))


async def _set(talk: Conversation, option: Object, value: Json) -> Message:
    tag = {"type": "boolean"} if isinstance(value, bool) else {"type": "id"} if talk.version == 2 else {}
    params = {"sessionId": talk.variables["session"], "configId": _id(talk, option), "value": value, **tag}
    return await talk.answer(await talk.ask("session/set_config_option", params))


async def sets_options(talk: Conversation) -> None:
    """Setting an option to what it is answers with all options; setting it to another choice shows that."""
    rows = _options(talk)
    for option in rows:
        answer = await _set(talk, option, option["currentValue"])
        if "error" in answer:
            talk.fail(f"setting {_id(talk, option)} to what it is was answered with {answer['error']}")
        told = {_id(talk, row) for row in objects(answer["result"].get("configOptions"))}
        if missing := {_id(talk, row) for row in rows} - told:
            talk.fail(f"setting {_id(talk, option)} was answered without {sorted(missing)}")
    for option in rows:
        others = [row["value"] for row in choices(option) if row["value"] != option["currentValue"]]
        if option.get("type") == "select" and others:
            answer = await _set(talk, option, others[0])
            told = {
                _id(talk, row): row.get("currentValue")
                for row in objects(obj(answer.get("result")).get("configOptions"))
            }
            if told.get(_id(talk, option)) != others[0]:
                talk.fail(f"setting {_id(talk, option)} to {others[0]!r} was answered with {answer}")
            return


async def refuses_values(talk: Conversation) -> None:
    """A value that is none of the choices is refused, and nothing has changed."""
    rows = [row for row in _options(talk) if row.get("type") == "select"]
    if not rows:
        raise Skipped("nothing to judge: the session has no select")
    option = rows[0]
    answer = await _set(talk, option, "acp-check-no-such-value")
    if obj(answer.get("error")).get("code") != -32602:
        talk.fail(f"a value that is no choice was answered with {answer}, not with -32602")
    told = objects(obj((await _set(talk, option, option["currentValue"]))["result"]).get("configOptions"))
    if [row.get("currentValue") for row in told if _id(talk, row) == _id(talk, option)] != [option["currentValue"]]:
        talk.fail("a value that was refused was set all the same")


async def keeps_modes_in_step(talk: Conversation) -> None:
    """Who has modes and an option of that category shows each change in both."""
    opened: Object = talk.variables["opened"]
    modes = [str(row["id"]) for row in objects(obj(opened.get("modes")).get("availableModes"))]
    rows = [row for row in objects(opened.get("configOptions")) if row.get("category") == "mode"]
    if len(modes) < 2 or not rows:
        raise Skipped("nothing to judge: the session has no two modes, or no option for them")
    option, now = rows[0], str(obj(opened["modes"])["currentModeId"])
    if option.get("currentValue") != now:
        talk.fail(f"the mode is {now!r} and the option {option.get('currentValue')!r}")
    other = next(mode for mode in modes if mode != now)
    before = len(talk.heard)
    await talk.call("session/set_mode", {"sessionId": talk.variables["session"], "modeId": other})
    await talk.listen(HOLD)
    told = [
        row
        for update in updates(talk.heard[before:], "config_option_update")
        for row in objects(update["configOptions"])
    ]
    if [row.get("currentValue") for row in told if _id(talk, row) == _id(talk, option)][-1:] != [other]:
        talk.fail(f"the mode was set to {other!r}, and no update of the options said so")
    before = len(talk.heard)
    await _set(talk, option, now)
    await talk.listen(HOLD)
    if [update.get("currentModeId") for update in updates(talk.heard[before:], "current_mode_update")][-1:] != [now]:
        talk.fail(f"the option was set to {now!r}, and no update of the mode said so")


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
    check("mcp.stdio", "An MCP server is started and spoken to", "088", connects, versions=V1),
    check(
        *("mcp.anew", "MCP servers do not come back by themselves", "071", connects_anew, ADVISORY),
        versions=V2,
        needs={"2": "session.mcp.stdio"},
    ),
    check("mcp.kind", "An MCP server of an unknown kind is refused", "090", refuses_carrier, versions=V2),
    check("config.set", "Setting an option answers with all", "152", sets_options),
    check("config.value", "A value that is no choice is refused", "153", refuses_values),
    check("modes.step", "Modes and their option keep in step", "155", keeps_modes_in_step, versions=V1),
)
