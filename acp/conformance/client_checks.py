"""Every check of a client: the cases, what is watched, and what data cannot say (order, bytes, ends, cancelling)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio

from .cases import cases
from .checks import Check
from .client_services import SERVICES, Service
from .client_watch import WATCHED
from .part import ALIVE, BARE, RICH, Gone, Message, Part, Skipped
from .schema_check import problems
from .walking import Json, key, obj

ClientRun = Callable[[Part], Awaitable[None]]
BIG = 8 * 2**20  # characters of one message
NOISE = 2**20  # bytes on stderr, more than any pipe holds
HOLD = 0.3
"""Seconds that the agent waits with an answer, to see what comes before it."""
NEWEST = 65535  # the largest version there can be


@dataclass(frozen=True, slots=True)
class ClientCheck(Check):
    """Something that a client does or does not; `part` is None for what is watched in all conversations.

    It is run only where the client announced what it `needs` and did not announce what is under `unless`.
    """

    part: ClientRun | None = None
    unless: dict[str, str] | None = None
    rich: bool = False


async def tour(part: Part) -> None:
    """A turn that ends by itself."""
    await part.say("Hello. ")
    await part.say("Good bye.")
    await part.end_turn()


# How a conversation begins -------------------------------------------------------------------------------------


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


# Bytes ---------------------------------------------------------------------------------------------------------


async def big(part: Part) -> None:
    await part.say("x" * BIG)
    await part.alive()


async def split(part: Part) -> None:
    """One character's bytes arrive one by one."""
    id = "ключ-é-語-😀"
    rest = part.encoded({"id": id, "method": ALIVE, "params": {}}) + b"\n"
    part.note(rest)
    with part.living():
        while rest:
            cut = next((n + 1 for n, byte in enumerate(rest) if byte >= 0x80), len(rest))
            await part.wire.write_apart(rest[:cut])
            rest = rest[cut:]
    await part.answer(id)


async def joined(part: Part) -> None:
    """Two messages in one piece."""
    ids = {"check-1", "check-2"}
    data = b"".join(part.encoded({"id": id, "method": ALIVE, "params": {}}) + b"\n" for id in sorted(ids))
    part.note(data)
    with part.living():
        await part.wire.write(data)
    while ids:
        ids.discard((await part.until(lambda m: m.get("id") in ids, "answer")).get("id"))


async def noise(part: Part) -> None:
    """An agent that logs much on stderr."""
    with anyio.move_on_after(part.patience), part.living():
        await part.wire.complain((b"a line of the agent's log" * 4 + b"\n") * (NOISE // 101))
        await part.alive()
        return
    part.fail(f"{NOISE} bytes on the agent's stderr were not read within {part.patience:g} s")


# Turns ---------------------------------------------------------------------------------------------------------


async def failing(part: Part) -> None:
    """The prompt is answered with an error."""
    await part.refuse(await part.request("session/prompt"), -32603, "The model is out")
    try:
        await part.alive()
    except Gone:
        ended = part.player is not None and await part.player.ended(part.patience)
        if ended and part.player and (part.player.returncode or 0) < 0:
            part.fail(f"an error in answer to a prompt ended the client; {part.epitaph()}")


async def permission(part: Part) -> None:
    result: Json = await part.call("session/request_permission", part.permission())
    outcome = obj(obj(result).get("outcome"))
    if outcome.get("outcome") == "cancelled":
        return
    if outcome.get("outcome") != "selected" or outcome.get("optionId") not in ("check-allow_once", "check-reject_once"):
        part.fail(f"the answer {result} is none of the options")


async def withdrawn(part: Part) -> None:
    """The agent withdraws its question. Who answers at once may have chosen before."""
    id = await part.ask("session/request_permission", part.permission("Wait for the user"))
    await part.send({"method": "$/cancel_request", "params": {"requestId": id}})
    answer = await part.answer(id)
    if "error" in answer:
        if part.version == 2 or obj(answer["error"]).get("code") != -32800:
            part.fail(f"the withdrawn question was answered with {answer['error']}")
        return
    outcome = obj(obj(answer["result"]).get("outcome")).get("outcome")
    if outcome == "selected":
        raise Skipped("the client answered at once")
    if outcome != "cancelled":
        part.fail(f"the withdrawn question was answered with {answer['result']}")


async def _cancelled(part: Part) -> None:
    """Have the client cancel its turn."""
    await part.alive()  # it is in the turn, and listens
    await part.say("Working.")
    if part.player and part.interrupts and not part.cancelled:
        part.player.interrupt()
    try:
        if not part.cancelled:
            await part.until(lambda m: part.cancelled, "session/cancel")
    except Gone:
        raise Skipped("the client ends when it is interrupted, without session/cancel") from None


async def cancels(part: Part) -> None:
    """Open questions are answered `cancelled` when the client cancels."""
    id = await part.ask("session/request_permission", part.permission("Wait for the user"))
    await _cancelled(part)
    before = key(id) in part.passed
    answer = await part.answer(id)
    outcome = obj(obj(answer.get("result")).get("outcome")).get("outcome")
    with suppress(Gone):
        await part.end_turn("cancelled")
    if before and outcome == "selected":
        raise Skipped("the client answered at once")
    if outcome != "cancelled":
        part.fail(f"the turn was cancelled, and the open question was answered with {answer}")


async def late(part: Part) -> None:
    """What comes after the client has cancelled is taken."""
    await _cancelled(part)
    kind = "tool_call" if part.version == 1 else "tool_call_update"
    await part.update(sessionUpdate=kind, toolCallId="check-late", title="Late", status="in_progress")
    await part.update(sessionUpdate="tool_call_update", toolCallId="check-late", status="completed")
    await part.say("Late.")
    await part.alive()
    await part.end_turn("cancelled")


async def dies(part: Part) -> None:
    await part.wire.exit(7)
    await _left(part)


async def dies_early(part: Part) -> None:
    await part.greeting()
    await part.wire.exit(7)
    await _left(part)


async def _left(part: Part) -> None:
    if part.player is None:
        raise Skipped("nobody sees how the client ends")
    if not await part.player.ended(part.patience):
        part.fail(f"the agent has gone, and the client still runs {part.patience:g} s later")


def _check(
    id: str,
    title: str,
    duties: str,
    run: ClientRun,
    tier: str = "mandatory",
    *,
    open: str = "turn",
    versions: tuple[int, ...] = (1, 2),
    rich: bool = False,
) -> ClientCheck:
    requirements = tuple(f"ACP-{number}" for number in duties.split())
    return ClientCheck(id, title, requirements, tier, versions, open, part=run, rich=rich)


ACTIVE = (
    _check("turn.tour", "The client sets up a session and prompts in it", "033 098", tour),
    _check("init.waits", "Nothing comes before initialize is answered", "033", waits, open="nothing"),
    _check("init.newer", "A version that was not asked for is not gone on with", "035", newer, open="nothing"),
    _check("init.older", "An older version is spoken as it is, or not at all", "035", older, open="nothing"),
    _check("init.refused", "After a failed initialize nothing goes on", "033", refused, open="nothing"),
    _check("init.bare", "An agent that announces nothing will do", "040 041", bare, open="nothing"),
    _check("init.rich", "An agent that announces all and more will do", "041", rich, open="nothing"),
    _check(
        "init.malformed", "Malformed optional members count as absent", "025", malformed, "advisory", open="nothing"
    ),
    _check("auth.login", "Logins go the offered way, and prompts wait for a session", "047 098", login, open="nothing"),
    _check(
        *("load.early", "Updates come before a loaded session is answered", "064", early_replay, "capability"),
        open="nothing",
        versions=(1,),
        rich=True,
    ),
    _check("session.options", "A session may have options", "155", options, open="initialized"),
    _check("close.unknown", "A closed session may be unknown", "077", closes, "advisory", rich=True),
    _check("rpc.big", "A message of 8 MiB passes", "002", big, "advisory"),
    _check("rpc.split", "A character's bytes may come one by one", "001 007", split),
    _check("rpc.joined", "Two messages may come in one piece", "002", joined),
    _check("rpc.stderr", "The agent's stderr is read", "005", noise, "advisory"),
    _check("turn.error", "An error in answer to a prompt is survived", "013", failing, open="session"),
    _check("permission.answered", "A permission is answered", "162", permission),
    _check("permission.withdrawn", "A withdrawn question is answered cancelled", "136 029", withdrawn),
    _check("cancel.permission", "Cancelling answers open questions", "126", cancels),
    _check("cancel.late", "Updates after a cancel are taken", "130", late),
    _check("end.dies", "A client whose agent dies in a turn ends", "163", dies, "advisory"),
    _check("end.early", "A client whose agent dies at once ends", "163", dies_early, "advisory", open="nothing"),
)


def _service(service: Service) -> ClientCheck:
    return ClientCheck(
        *(service.id, service.title, service.requirements, service.tier),
        versions=service.versions,
        open="turn",
        needs=service.needs,
        part=service.run,
        unless=service.unless,
    )


def client_checks(version: int) -> list[ClientCheck]:
    """What is checked of a client in a version of the protocol."""
    watched = (ClientCheck(id, title, duties, tier) for id, (tier, title, duties) in WATCHED.items())
    told = (
        ClientCheck(c.id, c.description, c.requirements, c.tier, c.protocol, c.open, c.needs, part=c.play)
        for c in cases("client")
    )
    services = (_service(service) for service in SERVICES)
    return [check for check in (*ACTIVE, *told, *services, *watched) if version in check.versions]
