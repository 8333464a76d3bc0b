"""Checks of how a client begins a conversation: versions, capabilities, logins, sessions."""

from __future__ import annotations

from ..schema_check import problems
from ..side import Gone, Message, Skipped
from ..walking import Json, obj, objects
from .agents import BARE, RICH
from .part import Part

HOLD = 0.3
"""Seconds that the agent waits with an answer, to see what comes before it."""
NEWEST = 65535  # the largest version there can be


def _goes_on(message: Message) -> bool:
    return "method" in message and "id" in message and message["method"] != "initialize"


async def waits(part: Part) -> None:
    request = await part.greeting()
    await part.silence(HOLD, _goes_on, "this came before initialize was answered")
    await part.answer_with(request, part.hello())
    await part.session()


async def newer(part: Part) -> None:
    await part.answer_with(await part.greeting(), part.hello() | {"protocolVersion": NEWEST})
    await part.silence(HOLD, _goes_on, f"the client goes on in version {NEWEST}")


async def leaves(part: Part) -> None:
    """There is nothing to go on with."""
    await part.answer_with(await part.greeting(), part.hello() | {"protocolVersion": NEWEST})
    try:
        await part.until(lambda message: False, f"end of a client that does not speak version {NEWEST}")
    except Gone:
        return


async def older(part: Part) -> None:
    """Version 0 is spoken by nobody; in place of version 2 a client may be content with 1."""
    request = await part.greeting()
    older, part.version = part.version - 1, 1
    part.announce = BARE[1]
    await part.answer_with(request, part.hello() | {"protocolVersion": older})
    if older == 0:
        await part.silence(HOLD, _goes_on, "the client goes on in version 0")
        return
    try:
        setup = await part.request("session/new")
    except Gone:
        return
    if faults := problems(1, "session/new", "Request", setup.get("params")):
        part.fail(f"the agent speaks version 1, and {faults[0]}")


async def refused(part: Part) -> None:
    await part.refuse(await part.greeting(), -32603, "Not today")
    await part.silence(HOLD, _goes_on, "the client goes on though initialize failed")


async def bare(part: Part) -> None:
    """Only what an answer to initialize must hold."""
    hello = part.hello()
    keep = ("protocolVersion",) if part.version == 1 else ("protocolVersion", "info", "capabilities")
    await part.answer_with(await part.greeting(), {name: hello[name] for name in keep})
    await part.session()


async def rich(part: Part) -> None:
    part.announce = RICH[part.version] | {"_meta": {"check": {"custom": True}}, "checkOfTomorrow": {"deep": [1]}}
    await part.initialize(_meta={"check": 1}, checkOfTomorrow=True)
    await part.session()


async def malformed(part: Part) -> None:
    """Optional members of wrong types, which the schema forgives."""
    name = "agentInfo" if part.version == 1 else "authMethods"
    part.announce = part.announce | ({"promptCapabilities": "all"} if part.version == 1 else {"auth": 7})
    await part.initialize(**{name: 5}, _meta={})
    await part.session()


async def login(part: Part) -> None:
    """An agent that has to be logged in to, in a way of its own or in one that only a terminal has."""
    name = "id" if part.version == 1 else "methodId"
    kind: Message = {} if part.version == 1 else {"type": "agent"}
    methods: list[Message] = [{name: "check-login", "name": "Check", **kind}]
    request = await part.greeting()
    if part.announced("auth.terminal"):
        methods.append({name: "check-terminal", "name": "Check", "type": "terminal"})
    await part.answer_with(request, part.hello(authMethods=methods))
    await part.refuse(await part.request("session/new"), -32000, "Authentication required")
    asked = ("authenticate", "auth/login")
    try:
        message = await part.until(lambda m: "method" in m, "login")
    except Gone:
        return
    if message.get("method") == "session/prompt":
        part.fail("a prompt came though no session was set up")
    if message.get("method") not in asked:
        return
    if obj(message.get("params")).get("methodId") != "check-login":
        part.fail(f"the client logs in by {obj(message.get('params')).get('methodId')!r}")
    await part.answer_with(message, {})


async def options(part: Part) -> None:
    """A session that has options, and in version 1 modes for those who know no options."""
    choices = [{"value": "a", "name": "A"}, {"value": "b", "name": "B"}]
    name = "id" if part.version == 1 else "configId"
    kinds = {"select": {"currentValue": "a", "options": choices}, "boolean": {"currentValue": True}}
    if part.version == 2:
        kinds["_check"] = {}
    rows = [
        {name: f"check-{kind}", "name": kind, "type": kind, "category": "_check", **more}
        for kind, more in kinds.items()
        if kind != "boolean" or part.version == 2 or part.announced("session.configOptions.boolean")
    ]
    part.opened = {"configOptions": rows}
    if part.version == 1:
        modes = [{"id": id, "name": id} for id in ("a", "b")]
        part.opened["modes"] = {"currentModeId": "a", "availableModes": modes}
    await part.session()
    await part.turn()
    await part.alive()


async def pages(part: Part) -> None:
    """A list comes in pages; a cursor goes back as it was given, and none when there is no more."""
    await part.initialize()
    given: list[Json] = [None]
    asked: list[Json] = []

    async def page(request: Message) -> None:
        asked.append(obj(request.get("params")).get("cursor"))
        if asked[-1] not in given:
            part.fail(f"the client asks for the cursor {asked[-1]!r}, of {given[1:]}")
        given.append(f"check / {len(given)}")
        rows = [{"sessionId": f"check-old-{len(given)}", "cwd": part.variables["elsewhere"]}]
        await part.answer_with(request, {"sessions": rows} | ({"nextCursor": given[-1]} if len(asked) == 1 else {}))

    part.on("session/list", page)
    await part.session()
    await part.turn()
    if not asked:
        raise Skipped("nothing to judge: the client lists no sessions")


async def open_elsewhere(part: Part) -> None:
    """A session that is open at the agent is not one that this client may prompt in."""
    await part.initialize()
    told: list[str] = []

    async def status(request: Message) -> None:
        told.append(str(obj(request.get("params")).get("sessionId")))
        await part.answer_with(request, {"status": "open"})

    part.on("session/status", status)
    ways = ("session/new", "session/load", "session/resume", "session/prompt")
    request = await part.until(lambda m: m.get("method") in ways and "id" in m, "session")
    if not told:
        raise Skipped("nothing to judge: the client asks for no session's status")
    if request["method"] == "session/prompt":
        part.fail(f"the client prompts in {obj(request.get('params')).get('sessionId')!r}, which it did not set up")
    await part.open_session(request)


async def mcp_messages(part: Part) -> None:
    """A server that the client gives is asked through the connection: the answer has its answer inside."""
    await part.initialize()
    ways = ("session/new", "session/load", "session/resume")
    request = await part.until(lambda m: m.get("method") in ways and "id" in m, "session")
    servers = [row for row in objects(obj(request.get("params")).get("mcpServers")) if row.get("type") == "acp"]
    await part.open_session(request)
    if not servers:
        raise Skipped("nothing to judge: the client gives no MCP server over ACP")
    await part.turn()
    params = {"serverId": servers[0].get("serverId"), "requestId": "check-mcp", "method": "tools/list"}
    result = obj(await part.call("mcp/message", params))
    if ("result" in result) == ("error" in result):
        part.fail(f"an MCP message was answered with {result}, which holds not one of result and error")
    await part.refused("mcp/message", {**params, "serverId": "check-no-such-server"})


async def early_replay(part: Part) -> None:
    """A loaded session's updates come before the answer."""
    await part.initialize()
    ways = ("session/load", "session/resume", "session/new")
    request = await part.until(lambda m: m.get("method") in ways, "session")
    if request["method"] != "session/load":
        raise Skipped("the client loads no session")
    part.variables["session"] = obj(request.get("params")).get("sessionId")
    await part.say("What was said before.")
    await part.answer_with(request, {})
    await part.alive()


async def closes(part: Part) -> None:
    """The answer that a closed session is unknown is as good as none."""
    seen: list[Message] = []

    async def refuse(request: Message) -> None:
        seen.append(request)
        await part.refuse(request, -32002, "Resource not found")

    part.on("session/close", refuse)
    await part.finish(part.patience)
    if not seen:
        raise Skipped("the client closes no session")
    if part.player and await part.player.ended(part.patience) and part.player.returncode:
        part.fail(f"the client failed when a session that it closed was unknown; {part.epitaph()}")
