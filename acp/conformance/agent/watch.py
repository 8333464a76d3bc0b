"""What is judged of every conversation, whatever it is about: the agent's texts one by one, and their order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from ..schema_check import known, problems, unknown_members
from ..walking import key as key_of
from ..walking import members, objects

Json = Any
Fault = tuple[str, str]

WATCHED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "wire.utf8": ("mandatory", "Each line is UTF-8", ("ACP-001",)),
    "wire.purity": ("mandatory", "Each line on stdout is one message", ("ACP-002", "ACP-003")),
    "wire.envelope": ("mandatory", "Each message is a request, a notification or an answer", ("ACP-008",)),
    "wire.unasked": ("mandatory", "Answers go to requests, one each, id and its type kept", ("ACP-007", "ACP-009")),
    "wire.ids": ("mandatory", "Ids of requests are not null and not used twice at once", ("ACP-018",)),
    "wire.names": ("mandatory", "Methods are defined or begin with an underscore", ("ACP-021",)),
    "wire.schema": ("mandatory", "Params and results fit the schema", ("ACP-105",)),
    "wire.members": ("advisory", "Defined objects have no members of one's own", ("ACP-019",)),
    "wire.meta": ("mandatory", "_meta is an object or null", ("ACP-020",)),
    "wire.paths": ("mandatory", "Paths are absolute", ("ACP-026",)),
    "wire.error-line": ("advisory", "An error's text is a single line", ("ACP-028",)),
    "wire.session": ("mandatory", "Updates name a session that there is", ("ACP-105",)),
    "wire.late": ("mandatory", "Nothing of a turn comes after its end", ("ACP-129", "ACP-133")),
    "wire.call-order": ("mandatory", "A tool call is announced before it is updated", ("ACP-114",)),
    "wire.ungated": ("mandatory", "Only what the client announced is asked of it", ("ACP-138", "ACP-143", "ACP-040")),
    "wire.options": ("mandatory", "A permission request offers something", ("ACP-134",)),
    "wire.config": ("mandatory", "A select has one of its choices, and these differ", ("ACP-151",)),
    "wire.auth-ids": ("mandatory", "Ids of authentication methods differ", ("ACP-051",)),
    "wire.commands": ("mandatory", "Names of commands are words, given once", ("ACP-157",)),
}
"""Check → its tier, what it says, what it judges."""
TURN_UPDATES = {"agent_message_chunk", "agent_thought_chunk", "tool_call", "tool_call_update", "plan", "plan_update"}
GATED = ("fs/", "terminal/", "elicitation/")


@dataclass(slots=True)
class Watch:
    """Looks at all that passes between a client that announced nothing and an agent."""

    version: int
    faults: list[Fault] = field(default_factory=list[Fault])
    sessions: set[str] = field(default_factory=set[str])
    prompting: set[str] = field(default_factory=set[str])
    _asked: dict[tuple[str, Json], dict[str, Json]] = field(default_factory=dict[tuple[str, Json], dict[str, Json]])
    _open: set[tuple[str, Json]] = field(default_factory=set[tuple[str, Json]])
    _calls: set[tuple[str, Json]] = field(default_factory=set[tuple[str, Json]])

    def sent(self, message: Json) -> None:
        """The checker said this; what is no message it said on purpose."""
        if not isinstance(message, dict) or "method" not in message:
            if isinstance(message, dict) and "id" in message:
                self._open.discard(key_of(cast("dict[str, Json]", message)["id"]))
            return
        message = cast("dict[str, Json]", message)
        if "id" in message:
            self._asked[key_of(message["id"])] = message
        params: Json = message.get("params")
        if isinstance(params, dict) and isinstance(session := cast("dict[str, Json]", params).get("sessionId"), str):
            if message["method"] == "session/prompt":
                self.prompting.add(session)
            elif message["method"] in ("session/load", "session/resume"):
                self.sessions.add(session)
                self.prompting.add(session)  # a replay is a turn's worth of updates, and ends with the answer

    def heard(self, text: bytes) -> dict[str, Json] | None:
        """The agent said this: the message, or None and a fault if it is none."""
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            return self._blame("wire.utf8", f"{error}: {text[:120]!r}")
        try:
            message: Json = json.loads(decoded)
        except ValueError:
            return self._blame("wire.purity", f"no message: {decoded[:200]}")
        if not isinstance(message, dict) or cast("dict[str, Json]", message).get("jsonrpc") != "2.0":
            return self._blame("wire.purity", f"no message: {decoded[:200]}")
        message = cast("dict[str, Json]", message)
        self.faults += self._judge(message)
        return message

    def _blame(self, check: str, words: str) -> None:
        self.faults.append((check, words))

    def _judge(self, message: dict[str, Json]) -> Iterator[Fault]:
        for path, key, value in members({name: part for name, part in message.items() if name != "error"}):
            if key == "_meta" and not isinstance(value, dict | None):
                yield "wire.meta", f"{path} is {value!r}"
            free = "rawInput" in path or "rawOutput" in path
            if key in ("path", "cwd") and not free and isinstance(value, str) and not os.path.isabs(value):
                yield "wire.paths", f"{path} is {value!r}"
            if key == "configOptions" and isinstance(value, list):
                yield from _config(cast("list[Json]", value))
        if "method" in message:
            yield from self._said(message)
        else:
            yield from self._answered(message)

    def _said(self, message: dict[str, Json]) -> Iterator[Fault]:
        method, params = message["method"], message.get("params")
        if not isinstance(method, str) or "result" in message or "error" in message:
            yield "wire.envelope", f"{message}"
            return
        kind = "Request" if "id" in message else "Notification"
        if kind == "Request":
            if message["id"] is None or key_of(message["id"]) in self._open:
                yield "wire.ids", f"{method} has the id {message['id']!r}"
            self._open.add(key_of(message["id"]))
        if not known(self.version, method, kind) and not method.startswith(("_", "$/")):
            yield "wire.names", f"{method} is no {kind.lower()} of version {self.version}"
        if method.startswith(GATED):
            yield "wire.ungated", f"{method} was asked of a client that announced nothing"
        yield from (("wire.schema", f"{method}: {words}") for words in problems(self.version, method, kind, params))
        for name in unknown_members(self.version, method, kind, params):
            yield "wire.members", f"{method}: {name}"
        if isinstance(params, dict):
            params = cast("dict[str, Json]", params)
            if method == "session/update" and isinstance(params.get("update"), dict):
                yield from self._updated(params.get("sessionId"), params["update"])
            if method == "session/request_permission" and not params.get("options"):
                yield "wire.options", "a permission request without an option"

    def _updated(self, session: Json, update: dict[str, Json]) -> Iterator[Fault]:
        kind, call = update.get("sessionUpdate"), (str(session), update.get("toolCallId"))
        if session not in self.sessions:
            # session/new may tell of its session before it answers; only turns tell what turns tell.
            if kind in TURN_UPDATES:
                yield "wire.session", f"{kind} for the session {session!r}"
        elif self.version == 1 and kind in TURN_UPDATES and session not in self.prompting:
            yield "wire.late", f"{kind} while no turn runs"
        if self.version == 1 and kind == "tool_call_update" and call not in self._calls:
            yield "wire.call-order", f"{call[1]!r} is updated and was not announced"
        if kind == "tool_call":
            self._calls.add(call)
        if kind == "available_commands_update":
            commands = objects(update.get("availableCommands"))
            names = [str(command.get("name")) for command in commands]
            if len(set(names)) < len(names) or any(not n or "/" in n or len(n.split()) != 1 for n in names):
                yield "wire.commands", f"{names}"

    def _answered(self, message: dict[str, Json]) -> Iterator[Fault]:
        error: Json = message.get("error")
        if "id" not in message or ("result" in message) == ("error" in message):
            yield "wire.envelope", f"{message}"
        elif "error" in message:
            code, words = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if type(code) is not int or not isinstance(words, str):  # pyright: ignore[reportUnknownArgumentType]
                yield "wire.envelope", f"{error}"
            elif len(words.splitlines()) > 1:
                yield "wire.error-line", f"{words[:200]!r}"
        asked = self._asked.pop(key_of(message.get("id")), None)
        if asked is None:
            if message.get("id") is not None:  # a null id answers what had none to repeat
                yield "wire.unasked", f"an answer to {message['id']!r}"
            return
        method, params, result = asked["method"], asked.get("params"), message.get("result")
        if method in ("session/prompt", "session/load", "session/resume") and isinstance(params, dict):
            self.prompting.discard(cast("dict[str, Json]", params)["sessionId"])
        if "result" not in message:
            return
        if method == "initialize" and isinstance(result, dict):
            chosen: Json = cast("dict[str, Json]", result).get("protocolVersion")
            self.version = chosen if chosen in (1, 2) else self.version  # an agent may choose another than was asked
        yield from (("wire.schema", f"{method}: {w}") for w in problems(self.version, method, "Response", result))
        for name in unknown_members(self.version, method, "Response", result):
            yield "wire.members", f"the answer to {method}: {name}"
        if isinstance(result, dict):
            result = cast("dict[str, Json]", result)
            if isinstance(session := result.get("sessionId"), str):
                self.sessions.add(session)
            ids = [str(row.get("id") or row.get("methodId")) for row in objects(result.get("authMethods"))]
            if len(set(ids)) < len(ids):
                yield "wire.auth-ids", f"{ids}"


def _config(options: list[Json]) -> Iterator[Fault]:
    for option in options:
        if not isinstance(option, dict) or cast("dict[str, Json]", option).get("type") != "select":
            continue
        option = cast("dict[str, Json]", option)
        rows: list[dict[str, Json]] = []
        for row in objects(option.get("options")):
            rows += objects(row["options"]) if "options" in row else [row]
        values = [row.get("value") for row in rows]
        if option.get("currentValue") not in values or len(set(values)) < len(values):
            yield "wire.config", f"{option.get('id')}: {option.get('currentValue')!r} of {values}"
