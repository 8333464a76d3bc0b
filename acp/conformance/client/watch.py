"""What is judged of every conversation with a client: its texts one by one, and their order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast

from ..schema_check import names_below, needs, unknown_members
from ..verdicts import Check
from ..walking import Json, Object, key, members, obj, objects, there
from ..watching import Key, Seen, Watch


def _watched(id: str, title: str, duties: str, tier: str = "mandatory", versions: tuple[int, ...] = (1, 2)) -> Check:
    return Check(id, title, tuple(f"ACP-{number}" for number in duties.split()), tier, versions)


WATCHED = (
    _watched("wire.utf8", "Each line is UTF-8", "001"),
    _watched("wire.purity", "Each line on the agent's stdin is one message", "002 004"),
    _watched("wire.envelope", "Each message is a request, a notification or an answer", "008"),
    _watched("wire.unasked", "Answers go to requests, one each, id and its type kept", "007 009"),
    _watched("wire.ids", "Ids of requests are not null and not used twice at once", "018"),
    _watched("wire.names", "Methods are those of an agent or begin with an underscore", "021"),
    _watched("wire.first", "The first request is initialize, and nothing precedes its answer", "033"),
    _watched("wire.schema", "Params and results fit the schema", "161"),
    _watched("wire.members", "Defined objects have no members of one's own", "019", "advisory"),
    _watched("wire.capabilities", "Capabilities of one's own are under _meta", "022", "advisory"),
    _watched("wire.values", "Values of one's own begin with an underscore", "023", "advisory", (2,)),
    _watched("wire.meta", "_meta is an object or null", "020"),
    _watched("wire.paths", "Paths are absolute", "026 086"),
    _watched("wire.error-line", "An error's text is a single line", "028", "advisory"),
    _watched("wire.gated", "Only what the agent announced is asked of it", "040 061 080"),
    _watched("wire.logout", "Logging out is left where the agent cannot", "048 050"),
    _watched("wire.login", "Logins are those the agent offered to run itself", "047"),
    _watched("wire.session", "Requests name a session that was set up", "098"),
    _watched("wire.content", "Prompts hold what the agent takes", "099"),
    _watched("wire.servers", "MCP servers are of the kinds the agent connects to", "089"),
    _watched("wire.directories", "More directories only where announced", "080"),
    _watched("wire.system-prompt", "A system prompt only where announced", "095"),
    _watched("wire.modes", "Who has options sets no mode", "155", "advisory", (1,)),
    _watched("wire.call-cancel", "Only calls that can be are cancelled", "118", versions=(2,)),
    _watched("wire.permission", "A permission is answered with an option that was offered", "162"),
)
"""Checks of all conversations; none has a run of its own."""
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "wire.envelope": ("rpc.custom-method",),
    "wire.unasked": ("rpc.unknown-method", "rpc.unknown-notification"),
    "wire.ids": ("rpc.custom-method",),
    "wire.schema": ("turn.tour", "permission.answered"),
    "wire.values": ("turn.tour", "permission.answered", "elicit.form"),
    "wire.error-line": ("rpc.unknown-method",),
    "wire.login": ("auth.login",),
    "wire.modes": ("session.options",),
    "wire.permission": ("permission.answered",),
}
"""Checks whose conversations show what is watched, where the tour does not: what is played where it alone is asked."""
LOGINS = ("authenticate", "auth/login", "auth/logout", "logout")
CONTENT = {"image": "image", "audio": "audio", "resource": "embeddedContext"}
"""Kind of content → the prompt capability that it needs."""
EXISTING = {f"session/{name}" for name in ("load", "resume", "delete", "fork", "archive", "unarchive", "status")}
"""Methods that may name a session which was not set up in this conversation."""
VALUES = {
    "prompt": ("type", {"text", "image", "audio", "resource_link", "resource"}),
    "outcome": ("outcome", {"selected", "cancelled"}),
}
ACTIONS = {"accept", "decline", "cancel"}


class ClientWatch(Watch):
    """Looks at all that passes between a client and the agent that the checker plays."""

    them = "client"

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.agent: Object = {}
        self.client: Object = {}
        self.hello: Object = {}
        """The params of its initialize."""
        self.sessions: set[str] = set()
        self.with_options: set[str] = set()
        self._initialized = False
        self._said: list[str] = []
        self._cancellable: set[Key] = set()

    def for_whom(self) -> str:
        return "agent"

    # What the checker says ---------------------------------------------------------------------------------

    def we_say(self, method: str, message: Object) -> None:
        update = obj(obj(message.get("params")).get("update"))
        if there(update, "capabilities.cancel"):
            self._cancellable.add(key(update.get("toolCallId", update.get("terminalId"))))

    def we_answer(self, asked: Object, message: Object) -> None:
        result = obj(message.get("result"))
        if "result" not in message:
            return
        params = obj(asked.get("params"))
        if asked["method"] == "initialize":
            self._initialized, self.agent = True, result
            self.version = result["protocolVersion"] if result.get("protocolVersion") in (1, 2) else self.version
        session = result.get("sessionId", params.get("sessionId"))
        if isinstance(session, str) and asked["method"].startswith("session/"):
            self.sessions.add(session)
            if result.get("configOptions"):
                self.with_options.add(session)

    @property
    def able(self) -> Object:
        """The agent's capabilities."""
        return obj(self.agent.get("agentCapabilities" if self.version == 1 else "capabilities"))

    # What the client says ----------------------------------------------------------------------------------

    def version_of(self, method: str, params: Json) -> int:
        asked: Json = obj(params).get("protocolVersion")
        return asked if method == "initialize" and asked in (1, 2) else self.version

    def unknown(self, version: int, method: str, kind: str, value: Json) -> list[str]:
        found = unknown_members(version, method, kind, value)
        if method == "initialize":  # an offer of version 2 may hold version 1's words as well
            found = [name for name in found if name in unknown_members(3 - version, method, kind, value)]
        return found

    def they_say(self, method: str, message: Object) -> Iterator[Seen]:
        yield from self._paths(message)
        params = obj(message.get("params"))
        if "id" in message:
            yield from self._in_order(method)
        elif not method.startswith(("$/", "_")):
            yield "wire.first", "" if self._initialized else f"{method} comes before initialize was answered"
        self._said.append(method)
        if method == "initialize":
            yield from self._offers(self.version_of(method, params), params)
        if self._initialized:
            yield from self._allowed(method, params)

    def _paths(self, message: Object) -> Iterator[Seen]:
        for at, name, value in members(message.get("params")):
            if name in ("cwd", "additionalDirectories"):
                paths: list[Json] = cast("list[Json]", value) if isinstance(value, list) else [value]
                wrong = [item for item in paths if isinstance(item, str) and not os.path.isabs(item)]
                yield "wire.paths", f"{at} is {wrong[0]!r}" if wrong else ""

    def _in_order(self, method: str) -> Iterator[Seen]:
        requests = [name for name in self._said if not name.startswith(("$", "_")) and name != "session/cancel"]
        words = ""
        if method != "initialize" and not method.startswith("_") and not self._initialized:
            words = f"{method} comes before initialize was answered"
        elif method == "initialize" and requests and (self.version == 1 or set(requests) != {"initialize"}):
            words = f"initialize comes again, after {', '.join(requests)}"
        yield "wire.first", words

    def _offers(self, version: int, params: Object) -> Iterator[Seen]:
        self.hello = params
        name = "clientCapabilities" if version == 1 else "capabilities"
        self.client = obj(params.get(name))
        unknown = names_below(version, "ClientCapabilities", self.client)
        yield "wire.capabilities", ", ".join(f"{name}{path[1:]}" for path in unknown)

    def _allowed(self, method: str, params: Object) -> Iterator[Seen]:
        """Is this what the agent announced, in a session that there is?"""
        able, session = self.able, params.get("sessionId")
        gate = needs(self.version).get(method)
        if method in LOGINS:
            yield from self._auth(method, params)
        else:
            yield "wire.gated", f"{method} without {gate}" if gate and not there(able, gate) else ""
            yield "wire.logout", ""
        if isinstance(session, str) and method not in EXISTING:
            yield "wire.session", "" if session in self.sessions else f"{method} for the session {session!r}"
        prompts = able.get("promptCapabilities") if self.version == 1 else obj(able.get("session")).get("prompt")
        for block in objects(params.get("prompt")):
            kind = str(block.get("type"))
            fits = kind not in CONTENT or there(prompts, CONTENT[kind])
            yield "wire.content", "" if fits else f"{kind} without {CONTENT[kind]}"
            fits = kind in VALUES["prompt"][1] or kind.startswith("_")
            yield "wire.values", "" if fits else f"the content type {kind!r}"
        if method.startswith("session/"):
            yield from self._place(able, params)
            yield "wire.call-cancel", ""
        if str(session) in self.with_options:
            yield "wire.modes", "session/set_mode in a session that has options" if method == "session/set_mode" else ""
        if method in ("tool_call/cancel", "terminal/cancel"):
            id = params.get("toolCallId", params.get("terminalId"))
            yield "wire.call-cancel", "" if key(id) in self._cancellable else f"{method} of {id!r}"

    def _auth(self, method: str, params: Object) -> Iterator[Seen]:
        offered = objects(self.agent.get("authMethods"))
        if method in ("logout", "auth/logout"):
            able = offered if self.version == 2 else there(self.able, "auth.logout")
            yield "wire.logout", "" if able else f"{method}, which was not announced"
            return
        id, name = params.get("methodId"), "id" if self.version == 1 else "methodId"
        fits = [row for row in offered if row.get(name) == id and row.get("type", "agent") == "agent"]
        yield "wire.login", "" if fits else f"{method} by {id!r}, of {[row.get(name) for row in offered]}"

    def _place(self, able: Object, params: Object) -> Iterator[Seen]:
        sessions = able.get("sessionCapabilities") if self.version == 1 else able.get("session")
        servers = able.get("mcpCapabilities") if self.version == 1 else obj(sessions).get("mcp")
        wrong = [
            kind
            for server in objects(params.get("mcpServers"))
            if not there(servers, kind := str(server.get("type", "stdio"))) and (self.version, kind) != (1, "stdio")
        ]
        yield "wire.servers", f"an MCP server of type {wrong[0]}" if wrong else ""
        for name, id in (("additionalDirectories", "wire.directories"), ("systemPrompt", "wire.system-prompt")):
            yield id, f"{params[name]}" if params.get(name) and not there(sessions, name) else ""

    def they_answer(self, asked: Object, message: Object) -> Iterator[Seen]:
        method, result = asked["method"], message.get("result")
        outcome, action = obj(obj(result).get("outcome")), obj(result).get("action")
        kind = outcome.get("outcome")
        if method == "session/request_permission" and kind == "selected":
            offered = [option.get("optionId") for option in objects(obj(asked.get("params")).get("options"))]
            fits = outcome.get("optionId") in offered
            yield "wire.permission", "" if fits else f"{outcome.get('optionId')!r} of {offered}"
        for word, defined in ((kind, VALUES["outcome"][1]), (action, ACTIONS)):
            if isinstance(word, str):
                fits = word in defined or word.startswith("_")
                yield "wire.values", "" if fits else f"{method} is answered {word!r}"
