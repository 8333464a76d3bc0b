"""Checks of how a conversation begins: versions, capabilities, bytes, logins."""

from __future__ import annotations

from ..side import ALIVE, Skipped
from ..walking import Json, Object, obj, objects
from .check import check
from .conversation import Conversation

BIG = 8 * 2**20  # characters of one message
STRANGE = "ключ-é-語-😀"
"""An id whose bytes are not its characters."""
STDIO = ("stdio",)
NETWORK = ("websocket", "http")


# Versions and capabilities -------------------------------------------------------------------------------------


async def repeats(talk: Conversation) -> None:
    """Once something else was asked, what was agreed on stays."""
    await talk.session()
    await talk.refused("initialize", talk.greeting(), -32600)
    await talk.session()


async def rich(talk: Conversation) -> None:
    """A client that can do all there is, and something that nobody knows yet."""
    talk.announce = {**talk.announce, "_meta": {"check": {"custom": True}}}
    await talk.initialize(_meta={"check": 1})
    await talk.session(_meta={"check": 2})
    await talk.turn()


async def malformed(talk: Conversation) -> None:
    """Optional members of wrong types, which the schema forgives."""
    talk.announce = {"fs": 7, "elicitation": "all", "auth": [], "_meta": 5}
    await talk.initialize(**({"clientInfo": 5} if talk.version == 1 else {}))
    await talk.session(mcpServers=None)
    text = {"type": "text", "text": talk.settings.prompt("say"), "annotations": "none", "_meta": 5}
    await talk.end_of_turn(await talk.prompt_with([text]))


async def anew(talk: Conversation) -> None:
    """On the network a connection is what a process is on stdio: what was agreed on ends with it."""
    async with talk.another() as other:
        await other.refused("session/new", {"cwd": other.cwd, "mcpServers": []})
        await other.initialize()
        await other.session()
    await talk.alive()


# Bytes ---------------------------------------------------------------------------------------------------------


async def big(talk: Conversation) -> None:
    await talk.answer(await talk.ask(ALIVE, {"text": "x" * BIG}))


async def split(talk: Conversation) -> None:
    """One character's bytes arrive one by one."""
    rest = talk.encoded({"id": STRANGE, "method": ALIVE, "params": {}}) + b"\n"
    talk.note(rest.strip(), talk.us)
    with talk.living():
        while rest:
            cut = next((n + 1 for n, byte in enumerate(rest) if byte >= 0x80), len(rest))
            await talk.line.write(rest[:cut])
            rest = rest[cut:]
    await talk.answer(STRANGE)


async def joined(talk: Conversation) -> None:
    """Two messages in one piece."""
    ids = {"check-1", "check-2"}
    data = b"".join(talk.encoded({"id": id, "method": ALIVE, "params": {}}) + b"\n" for id in sorted(ids))
    talk.note(data.strip(), talk.us)
    with talk.living():
        await talk.line.write(data)
    while ids:
        ids.discard((await talk.until(lambda m: m.get("id") in ids, "answer")).get("id"))


async def ends(talk: Conversation) -> None:
    await talk.line.hang_up()
    if not await talk.line.ended(talk.patience):
        talk.fail(f"the agent still runs {talk.patience:g} s after its stdin ended")


async def meta_is_no_argument(talk: Conversation) -> None:
    """Names in _meta that are those of parameters, as they are on the wire and as a program may call them."""
    elsewhere = talk.variables["elsewhere"]
    first, second = (
        await talk.session(),
        await talk.session(_meta={"cwd": elsewhere, "mcp_servers": 5, "mcpServers": 5}),
    )
    stolen: Object = {"session_id": second, "sessionId": second, "prompt": [], "cwd": elsewhere}
    before = len(talk.heard)
    await talk.end_of_turn(await talk.prompt("say", session=first, _meta=stolen))
    for message in talk.heard[before:]:
        kind = str(obj(obj(message.get("params")).get("update")).get("sessionUpdate"))
        if obj(message.get("params")).get("sessionId") == second and ("message" in kind or "state" in kind):
            talk.fail(f"_meta named another session than sessionId did, and the turn was held there: {message}")


# Logins --------------------------------------------------------------------------------------------------------


async def _greeted(talk: Conversation) -> list[Object]:
    """The methods of authentication that are offered; nobody is logged in."""
    talk.hello = obj(await talk.call("initialize", talk.greeting()))
    return objects(talk.hello.get("authMethods"))


async def logs_in(talk: Conversation) -> None:
    """Where a login is needed session/new says so, and works after it."""
    methods = await _greeted(talk)
    answer = await talk.answer(await talk.ask("session/new", {"cwd": talk.cwd, "mcpServers": []}))
    if "error" not in answer:
        raise Skipped("nothing to judge: the agent asks for no login")
    if answer["error"].get("code") != -32000:
        talk.fail(f"session/new was answered with {answer['error']}, not with -32000")
    if not methods:
        talk.fail("the agent asks for a login and offers none")
    if talk.settings.auth_method is None:
        raise Skipped("give --auth-method, to log in with")
    await talk.log_in(talk.settings.auth_method)
    await talk.session()


async def has_logins(talk: Conversation) -> None:
    """Who offers methods of authentication knows the methods that use them."""
    if not await _greeted(talk):
        raise Skipped("the agent offers no login")
    error = await talk.refused("auth/login", {"methodId": "acp-check-no-such-method"})
    if error.get("code") == -32601:
        talk.fail("authMethods are offered, and auth/login is not known")
    if not talk.settings.allow_logout:
        return
    answer = await talk.answer(await talk.ask("auth/logout", {}))
    if obj(answer.get("error")).get("code") == -32601:
        talk.fail("authMethods are offered, and auth/logout is not known")


async def tells_login(talk: Conversation) -> None:
    """Whether a login is needed can be asked without one."""
    await _greeted(talk)
    if not talk.announced("auth.status"):
        raise Skipped("the agent does not announce auth.status")
    state: Json = obj(await talk.call("auth/status", {})).get("state")
    if not isinstance(state, str) or not state:
        talk.fail(f"auth/status tells the state {state!r}")


CHECKS = (
    check("init.repeat", "What was agreed on stays", "045", repeats, open="initialized", versions=(2,)),
    check("init.rich", "A client may be able to do everything", "041", rich, open="nothing", rich=True),
    check("init.malformed", "Malformed optional members count as absent", "025", malformed, "advisory", open="nothing"),
    check("carrier.anew", "A new connection begins anew", "006", anew, carriers=NETWORK),
    check("rpc.big", "A message of 8 MiB passes", "002", big, "advisory", open="initialized"),
    check("rpc.split", "A character's bytes may come one by one", "001 007", split, open="initialized", carriers=STDIO),
    check("rpc.joined", "Two messages may come in one piece", "002", joined, open="initialized", carriers=STDIO),
    check("rpc.meta", "_meta takes the place of no argument", "020", meta_is_no_argument, open="initialized"),
    check("end.stdin", "The agent ends with its stdin", "027", ends, "advisory", carriers=STDIO),
    check("auth.needed", "A needed login is asked for, and helps", "054", logs_in, "capability", open="nothing"),
    check("auth.methods", "Who offers logins has them", "049", has_logins, "capability", open="nothing", versions=(2,)),
    check("auth.status", "The login can be asked about without one", "056", tells_login, "capability", open="nothing"),
)
