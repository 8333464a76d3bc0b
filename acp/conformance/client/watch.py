"""What is judged of every conversation with a client, whatever it is about: its texts one by one, and their order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from ..schema_check import known, names_below, needs, problems, side, unknown_members
from ..walking import Json, Object, key, members, obj, objects, there

Fault = tuple[str, str]
Key = tuple[str, Json]

WATCHED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "wire.utf8": ("mandatory", "Each line is UTF-8", ("ACP-001",)),
    "wire.purity": ("mandatory", "Each line on the agent's stdin is one message", ("ACP-002", "ACP-004")),
    "wire.envelope": ("mandatory", "Each message is a request, a notification or an answer", ("ACP-008",)),
    "wire.unasked": ("mandatory", "Answers go to requests, one each, id and its type kept", ("ACP-007", "ACP-009")),
    "wire.ids": ("mandatory", "Ids of requests are not null and not used twice at once", ("ACP-018",)),
    "wire.names": ("mandatory", "Methods are those of an agent or begin with an underscore", ("ACP-021",)),
    "wire.first": ("mandatory", "The first request is initialize, and nothing precedes its answer", ("ACP-033",)),
    "wire.schema": ("mandatory", "Params and results fit the schema", ("ACP-161",)),
    "wire.members": ("advisory", "Defined objects have no members of one's own", ("ACP-019",)),
    "wire.capabilities": ("advisory", "Capabilities of one's own are under _meta", ("ACP-022",)),
    "wire.values": ("advisory", "Values of one's own begin with an underscore", ("ACP-023",)),
    "wire.meta": ("mandatory", "_meta is an object or null", ("ACP-020",)),
    "wire.paths": ("mandatory", "Paths are absolute", ("ACP-026", "ACP-086")),
    "wire.error-line": ("advisory", "An error's text is a single line", ("ACP-028",)),
    "wire.gated": ("mandatory", "Only what the agent announced is asked of it", ("ACP-040", "ACP-061", "ACP-080")),
    "wire.logout": ("mandatory", "Logging out is left where the agent cannot", ("ACP-048", "ACP-050")),
    "wire.login": ("mandatory", "Logins are those the agent offered to run itself", ("ACP-047",)),
    "wire.session": ("mandatory", "Requests name a session that was set up", ("ACP-098",)),
    "wire.content": ("mandatory", "Prompts hold what the agent takes", ("ACP-099",)),
    "wire.servers": ("mandatory", "MCP servers are of the kinds the agent connects to", ("ACP-089",)),
    "wire.directories": ("mandatory", "More directories only where announced", ("ACP-080",)),
    "wire.system-prompt": ("mandatory", "A system prompt only where announced", ("ACP-095",)),
    "wire.modes": ("advisory", "Who has options sets no mode", ("ACP-155",)),
    "wire.call-cancel": ("mandatory", "Only calls that can be are cancelled", ("ACP-118",)),
    "wire.permission": ("mandatory", "A permission is answered with an option that was offered", ("ACP-162",)),
}
"""Check → its tier, what it says, what it judges."""
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
CONTENT = {"image": "image", "audio": "audio", "resource": "embeddedContext"}
"""Kind of content → the prompt capability that it needs."""
EXISTING = {f"session/{name}" for name in ("load", "resume", "delete", "fork", "archive", "unarchive", "status")}
"""Methods that may name a session which was not set up in this conversation."""
NULLABLE = {"fs/write_text_file", "terminal/release", "terminal/kill"}
"""Version 1's documents show these answered with null, the schema has an object; either is let pass."""
VALUES = {
    "prompt": ("type", {"text", "image", "audio", "resource_link", "resource"}),
    "outcome": ("outcome", {"selected", "cancelled"}),
}
ACTIONS = {"accept", "decline", "cancel"}


@dataclass(slots=True)
class ClientWatch:
    """Looks at all that passes between a client and the agent that the checker plays.

    `version` is the agent's, and the conversation's once initialize is answered. `excused` counts texts of ours that
    are no messages, each of which may be answered under the null id.
    """

    version: int
    faults: list[Fault] = field(default_factory=list[Fault])
    excused: int = 0
    agent: Object = field(default_factory=dict[str, Json])
    client: Object = field(default_factory=dict[str, Json])
    sessions: set[str] = field(default_factory=set[str])
    with_options: set[str] = field(default_factory=set[str])
    _initialized: bool = False
    _said: list[str] = field(default_factory=list[str])
    _asked: dict[Key, Object] = field(default_factory=dict[Key, Object])
    _open: dict[Key, Object] = field(default_factory=dict[Key, Object])
    _cancellable: set[Key] = field(default_factory=set[Key])

    # What the checker says ---------------------------------------------------------------------------------

    def sent(self, message: Object) -> None:
        """The checker said this message."""
        if "method" in message:
            if "id" in message:
                self._asked[key(message["id"])] = message
            update = obj(obj(message.get("params")).get("update"))
            if there(update, "capabilities.cancel"):
                self._cancellable.add(key(update.get("toolCallId", update.get("terminalId"))))
            return
        asked = self._open.pop(key(message.get("id")), None)
        result = obj(message.get("result"))
        if asked is None or "result" not in message:
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

    def heard(self, text: bytes) -> Object | None:
        """The client said this: the message, or None and a fault if it is none."""
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            return self._blame("wire.utf8", f"{error}: {text[:200]!r}")
        try:
            message: Json = json.loads(decoded)
        except ValueError:
            return self._blame("wire.purity", f"no message: {decoded[:200]}")
        if not isinstance(message, dict) or cast("Object", message).get("jsonrpc") != "2.0":
            return self._blame("wire.purity", f"no message: {decoded[:200]}")
        message = cast("Object", message)
        self.faults += self._judge(message)
        return message

    def _blame(self, check: str, words: str) -> None:
        self.faults.append((check, words))

    def _judge(self, message: Object) -> Iterator[Fault]:
        for path, name, value in members({name: part for name, part in message.items() if name != "error"}):
            if name == "_meta" and not isinstance(value, dict | None):
                yield "wire.meta", f"{path} is {value!r}"
            if name in ("cwd", "additionalDirectories"):
                paths: list[Json] = cast("list[Json]", value) if isinstance(value, list) else [value]
                wrong = [item for item in paths if isinstance(item, str) and not os.path.isabs(item)]
                yield from (("wire.paths", f"{path} is {item!r}") for item in wrong)
        if "method" not in message:
            yield from self._answered(message)
        elif not isinstance(message["method"], str) or "result" in message or "error" in message:
            yield "wire.envelope", f"{message}"
        else:
            yield from self._says(message["method"], message)

    def _says(self, method: str, message: Object) -> Iterator[Fault]:
        kind, params = "Request" if "id" in message else "Notification", message.get("params")
        version = self._version_of(method, params)
        if kind == "Request":
            id: Json = message["id"]
            if not isinstance(id, str | int | float) or isinstance(id, bool) or key(id) in self._open:
                yield "wire.ids", f"{method} has the id {id!r}"
            yield from self._in_order(method)
            self._open[key(id)] = message
        elif not self._initialized and not method.startswith(("$/", "_")):
            yield "wire.first", f"{method} comes before initialize was answered"
        self._said.append(method)
        if known(version, method, kind):
            if side(version, method, kind) not in ("agent", "protocol"):
                yield "wire.names", f"{method} is not for an agent"
        elif not method.startswith(("_", "$/") if kind == "Notification" else "_"):
            yield "wire.names", f"{method} is no {kind.lower()} of version {version}"
        yield from (("wire.schema", f"{method}: {words}") for words in problems(version, method, kind, params))
        unknown = unknown_members(version, method, kind, params)
        if method == "initialize":  # an offer of version 2 may hold version 1's words as well
            unknown = [name for name in unknown if name in unknown_members(3 - version, method, kind, params)]
            yield from self._offers(version, obj(params))
        yield from (("wire.members", f"{method}: {name}") for name in unknown)
        if self._initialized:
            yield from self._allowed(method, obj(params))

    def _version_of(self, method: str, params: Json) -> int:
        asked: Json = obj(params).get("protocolVersion")
        return asked if method == "initialize" and asked in (1, 2) else self.version

    def _in_order(self, method: str) -> Iterator[Fault]:
        requests = [name for name in self._said if not name.startswith(("$", "_")) and name != "session/cancel"]
        if method != "initialize" and not method.startswith("_") and not self._initialized:
            yield "wire.first", f"{method} comes before initialize was answered"
        elif method == "initialize" and requests and (self.version == 1 or set(requests) != {"initialize"}):
            yield "wire.first", f"initialize comes again, after {', '.join(requests)}"

    def _offers(self, version: int, params: Object) -> Iterator[Fault]:
        name = "clientCapabilities" if version == 1 else "capabilities"
        self.client = obj(params.get(name))
        unknown = names_below(version, "ClientCapabilities", self.client)
        yield from (("wire.capabilities", f"{name}{path[1:]}") for path in unknown)

    def _allowed(self, method: str, params: Object) -> Iterator[Fault]:
        """Is this what the agent announced, in a session that there is?"""
        able, session = self.able, params.get("sessionId")
        if method in ("authenticate", "auth/login", "auth/logout", "logout"):
            yield from self._auth(method, params)
        elif (gate := needs(self.version).get(method)) and not there(able, gate):
            yield "wire.gated", f"{method} without {gate}"
        if isinstance(session, str) and session not in self.sessions and method not in EXISTING:
            yield "wire.session", f"{method} for the session {session!r}"
        prompts = able.get("promptCapabilities") if self.version == 1 else obj(able.get("session")).get("prompt")
        for block in objects(params.get("prompt")):
            kind = str(block.get("type"))
            if kind in CONTENT and not there(prompts, CONTENT[kind]):
                yield "wire.content", f"{kind} without {CONTENT[kind]}"
            elif kind not in VALUES["prompt"][1] and not kind.startswith("_"):
                yield "wire.values", f"the content type {kind!r}"
        yield from self._place(able, params)
        if method == "session/set_mode" and str(session) in self.with_options:
            yield "wire.modes", "session/set_mode in a session that has options"
        if method in ("tool_call/cancel", "terminal/cancel"):
            id = params.get("toolCallId", params.get("terminalId"))
            if key(id) not in self._cancellable:
                yield "wire.call-cancel", f"{method} of {id!r}"

    def _auth(self, method: str, params: Object) -> Iterator[Fault]:
        offered = objects(self.agent.get("authMethods"))
        if method in ("logout", "auth/logout"):
            if not (offered if self.version == 2 else there(self.able, "auth.logout")):
                yield "wire.logout", f"{method}, which was not announced"
            return
        id, name = params.get("methodId"), "id" if self.version == 1 else "methodId"
        if not [row for row in offered if row.get(name) == id and row.get("type", "agent") == "agent"]:
            yield "wire.login", f"{method} by {id!r}, of {[row.get(name) for row in offered]}"

    def _place(self, able: Object, params: Object) -> Iterator[Fault]:
        sessions = able.get("sessionCapabilities") if self.version == 1 else able.get("session")
        servers = able.get("mcpCapabilities") if self.version == 1 else obj(sessions).get("mcp")
        for server in objects(params.get("mcpServers")):
            kind = str(server.get("type", "stdio"))
            if not there(servers, kind) and (self.version, kind) != (1, "stdio"):
                yield "wire.servers", f"an MCP server of type {kind}"
        if params.get("additionalDirectories") and not there(sessions, "additionalDirectories"):
            yield "wire.directories", f"{params['additionalDirectories']}"
        if params.get("systemPrompt") is not None and not there(sessions, "systemPrompt"):
            yield "wire.system-prompt", f"{params['systemPrompt']}"

    def _answered(self, message: Object) -> Iterator[Fault]:
        error: Json = message.get("error")
        if "id" not in message or ("result" in message) == ("error" in message):
            yield "wire.envelope", f"{message}"
        elif "error" in message:
            code, words = obj(error).get("code"), obj(error).get("message")
            if type(code) is not int or not isinstance(words, str):
                yield "wire.envelope", f"{error}"
            elif len(words.splitlines()) > 1:
                yield "wire.error-line", f"{words[:200]!r}"
        asked = self._asked.pop(key(message.get("id")), None)
        if asked is None:
            if message.get("id") is None and "error" in message and self.excused > 0:
                self.excused -= 1  # a null id answers what had none to repeat
            else:
                yield "wire.unasked", f"an answer to {message.get('id')!r}"
        elif "result" in message:
            yield from self._result(asked, message["result"])

    def _result(self, asked: Object, result: Json) -> Iterator[Fault]:
        method = asked["method"]
        if result is None and self.version == 1 and method in NULLABLE:
            return
        yield from (("wire.schema", f"{method}: {w}") for w in problems(self.version, method, "Response", result))
        for name in unknown_members(self.version, method, "Response", result):
            yield "wire.members", f"the answer to {method}: {name}"
        outcome, action = obj(obj(result).get("outcome")), obj(result).get("action")
        kind = outcome.get("outcome")
        if method == "session/request_permission" and kind == "selected":
            offered = [option.get("optionId") for option in objects(obj(asked.get("params")).get("options"))]
            if outcome.get("optionId") not in offered:
                yield "wire.permission", f"{outcome.get('optionId')!r} of {offered}"
        for word, defined in ((kind, VALUES["outcome"][1]), (action, ACTIONS)):
            if isinstance(word, str) and word not in defined and not word.startswith("_"):
                yield "wire.values", f"{method} is answered {word!r}"
