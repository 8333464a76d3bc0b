"""Checks of what is unstable in the protocol, each where the agent announces it."""

from __future__ import annotations

from ..side import Skipped
from ..walking import Object, obj
from .check import check, session_needs
from .conversation import Conversation
from .sessions import NONE, listed
from .turns import HOLD


async def archives(talk: Conversation) -> None:
    """An archived session's turn is cancelled, and it is listed only where the archive is asked for."""
    session = talk.variables["session"]
    await talk.turn()
    id = await talk.begun("cancel")
    archive = await talk.ask("session/archive", {"sessionId": session})
    reason = await talk.end_of_turn(id)
    if reason != "cancelled":
        talk.fail(f"the turn of the archived session ended with {reason}")
    if "error" in (answer := await talk.answer(archive)):
        talk.fail(f"session/archive was answered with {answer['error']}")
    for filter, there in ((None, False), ("exclude", False), ("include", True), ("only", True)):
        rows = await listed(talk, **({} if filter is None else {"archived": filter}))
        if (session in rows) != there:
            talk.fail(f"with archived {filter} the archived session is {'listed' if not there else 'not listed'}")
        if silent := [id for id, row in rows.items() if not isinstance(row.get("archived"), bool)]:
            talk.fail(f"the list does not say whether {silent[0]!r} is archived")
    await talk.call("session/archive", {"sessionId": session})
    await talk.call("session/unarchive", {"sessionId": session})
    if session not in await listed(talk):
        talk.fail("the session was taken out of the archive, and is not listed")


async def refuses_archive(talk: Conversation) -> None:
    await talk.refused("session/archive", {"sessionId": NONE}, -32002)
    await talk.refused("session/list", {"archived": "_check_filter"}, -32602)


async def asks_status(talk: Conversation) -> None:
    """Asking changes nothing: a session that nobody resumed here is still to be resumed."""
    session = talk.variables["session"]
    await talk.turn()
    before = await listed(talk) if talk.can("list") else {}
    for _ in range(2):
        if not (told := obj(await talk.call("session/status", {"sessionId": session}))).get("status"):
            talk.fail(f"session/status was answered with {told}")
    if talk.can("list") and await listed(talk) != before:
        talk.fail("asking for the status changed what is listed")
    error = await talk.refused("session/status", {"sessionId": NONE}, -32002)
    if obj(error.get("data")).get("sessionId") != NONE:
        talk.fail(f"the error of an unknown session does not name it: {error}")


async def keeps_title(talk: Conversation) -> None:
    """A title is there once it is confirmed, and a turn does not replace it."""
    session, title = talk.variables["session"], "acp-check title"
    await talk.turn()
    await talk.call("session/set_title", {"sessionId": session, "title": title})
    if not talk.can("list"):
        raise Skipped("nothing to judge: the agent lists no sessions")
    for when in ("once it was set", "after another turn"):
        if (found := obj((await listed(talk)).get(session)).get("title")) != title:
            talk.fail(f"{when} the session's title is {found!r}, not {title!r}")
        await talk.turn()
        await talk.listen(HOLD)
    await talk.refused("session/set_title", {"sessionId": NONE, "title": title}, -32002)


async def refuses_prompts(talk: Conversation) -> None:
    """What an agent cannot apply of a system prompt is an error."""
    text = [{"type": "text", "text": "Be brief."}]
    await talk.session(systemPrompt={"mode": "append", "content": text})
    params: Object = {"cwd": talk.cwd, "mcpServers": []}
    wrong = [("_check_mode", text), ("append", [{"type": "_check_hologram"}])]
    gate = "sessionCapabilities.systemPrompt" if talk.version == 1 else "session.systemPrompt"
    if not talk.announced(f"{gate}.mode.override"):
        wrong.append(("override", text))
    for mode, content in wrong:
        await talk.refused("session/new", {**params, "systemPrompt": {"mode": mode, "content": content}})


async def carries_mcp(talk: Conversation) -> None:
    """A server that the client gives is spoken to through the connection."""
    server = {"type": "acp", "name": "check", "serverId": "check-server"}
    await talk.session(mcpServers=[server])
    await talk.turn()
    if not [method for method, _ in talk.editor.asked if method == "mcp/message"]:
        talk.fail("no word was said to an MCP server over ACP")


CAPABILITY = "capability"
CHECKS = (
    check(
        *("archive.hides", "Archiving cancels and hides", "091", archives, CAPABILITY), needs=session_needs("archive")
    ),
    check(
        *("archive.refuses", "What cannot be archived or asked for is refused", "091", refuses_archive, CAPABILITY),
        needs=session_needs("archive"),
    ),
    check(
        *("status.asks", "Asking for the status changes nothing", "092", asks_status, CAPABILITY),
        needs=session_needs("status"),
    ),
    check("title.keeps", "A title that was set stays", "094", keeps_title, CAPABILITY, needs=session_needs("title")),
    check(
        *("prompt.system", "A system prompt is applied or refused", "095", refuses_prompts, CAPABILITY),
        needs=session_needs("systemPrompt"),
    ),
    check(
        *("mcp.acp", "An MCP server of the client's is spoken to", "159", carries_mcp, CAPABILITY),
        needs={"1": "mcpCapabilities.acp", "2": "session.mcp.acp"},
        rich=True,
    ),
)
