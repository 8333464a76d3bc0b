"""What the client that the checker plays does for an agent: files, terminals, forms, permissions, and MCP over ACP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from ..walking import Json, Object, obj, objects

BARE: dict[int, Object] = {1: {}, 2: {}}
"""What a client announces that can do nothing more than it has to."""
RICH: dict[int, Object] = {
    1: {
        "fs": {"readTextFile": True, "writeTextFile": True},
        "terminal": True,
        "auth": {"terminal": True},
        "session": {"compaction": {}, "notices": {}, "configOptions": {"boolean": {}}},
        "elicitation": {"form": {}, "url": {}},
        "subagents": {},
        "plan": {},
    },
    2: {"auth": {"terminal": {}}, "elicitation": {"form": {}, "url": {}}},
}
"""What a client announces that can do all there is."""
NOTHING_SUCH = (-32002, "Resource not found")
OUTPUT = "acp-check\n"
"""What every command prints in the terminals that are played."""


class Refused(Exception):
    """The editor answers with an error: a code and a text."""


@dataclass(slots=True)
class Editor:
    """Answers what an agent asks of its client.

    `permit` chooses an outcome for a permission request, `fill` an answer to a form or an address. Nothing is run and
    nothing is written: files are those that the agent wrote through us, and every command prints the same.
    """

    permit: Callable[[Object], Object]
    fill: Callable[[Object], Object]
    files: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[tuple[str, Object]] = field(default_factory=list[tuple[str, Object]])
    """The methods that were called, with their params."""
    terminals: set[str] = field(default_factory=set[str])
    """Those that were created and not released."""

    def answer(self, method: str, params: Object) -> Json:
        """The result. Raises Refused."""
        self.asked.append((method, params))
        match method:
            case "session/request_permission":
                return {"outcome": self.permit(params)}
            case "elicitation/create":
                return self.fill(params)
            case "fs/read_text_file":
                return {"content": self._read(params)}
            case "fs/write_text_file":
                self.files[str(params.get("path"))] = str(params.get("content"))
                return {}
            case "terminal/create":
                id = f"check-terminal-{len(self.asked)}"
                self.terminals.add(id)
                return {"terminalId": id}
            case "mcp/message":
                return self._mcp(params)
            case _ if method.startswith("terminal/"):
                return self._terminal(method.partition("/")[2], str(params.get("terminalId")))
            case _:
                raise Refused(-32601, "Method not found")

    def _read(self, params: Object) -> str:
        try:
            lines = self.files[str(params.get("path"))].splitlines(keepends=True)
        except KeyError:
            raise Refused(*NOTHING_SUCH) from None
        start, limit = params.get("line") or 1, params.get("limit")
        return "".join(lines[start - 1 :][:limit])

    def _terminal(self, what: str, id: str) -> Object:
        if id not in self.terminals:
            raise Refused(*NOTHING_SUCH)
        if what == "release":
            self.terminals.discard(id)
        if what == "output":
            return {"output": OUTPUT, "truncated": False, "exitStatus": {"exitCode": 0}}
        return {"exitCode": 0} if what == "wait_for_exit" else {}

    def _mcp(self, params: Object) -> Object:
        """A server with no tools."""
        match params.get("method"):
            case "initialize":
                version: Json = obj(params.get("params")).get("protocolVersion", "2025-06-18")
                server = {"name": "acp-check", "version": "1"}
                return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}}
            case "tools/list":
                return {"result": {"tools": []}}
            case method:
                return {"error": {"code": -32601, "message": f"{method} is not for this server"}}


# Permissions -------------------------------------------------------------------------------------------------------


def dismissed(params: Object) -> Object:
    """The user chose nothing."""
    return {"outcome": "cancelled"}


def allowed(params: Object) -> Object:
    """The first option that allows."""
    return _first(params, "allow")


def rejected(params: Object) -> Object:
    """The first option that rejects; where there is none, no choice."""
    return _first(params, "reject")


def never_offered(params: Object) -> Object:
    """An option that the agent did not offer."""
    return {"outcome": "selected", "optionId": "acp-check-never-offered"}


def of_tomorrow(params: Object) -> Object:
    """An outcome that no version knows yet."""
    return {"outcome": "_check_outcome", "optionId": _first(params, "allow").get("optionId")}


def _first(params: Object, kind: str) -> Object:
    for option in objects(params.get("options")):
        if str(option.get("kind")).startswith(kind):
            return {"outcome": "selected", "optionId": option.get("optionId")}
    return dismissed(params)


# Forms -------------------------------------------------------------------------------------------------------------


def declined(params: Object) -> Object:
    return {"action": "decline"}


def closed(params: Object) -> Object:
    return {"action": "cancel"}


def unheard_of(params: Object) -> Object:
    return {"action": "_check_action"}


def filled(params: Object) -> Object:
    """Accept: each field gets its default, or the least that fits it; an address is visited."""
    if params.get("mode") == "url":
        return {"action": "accept"}
    fields = obj(obj(params.get("requestedSchema")).get("properties"))
    return {"action": "accept", "content": {name: _value(obj(row)) for name, row in fields.items()}}


def _value(field: Object) -> Json:
    if field.get("default") is not None:
        return field["default"]
    if choices := field.get("enum") or [row.get("const") for row in objects(field.get("oneOf"))]:
        return cast("list[Json]", choices)[0]
    match field.get("type"):
        case "boolean":
            return False
        case "integer" | "number":
            return field.get("minimum") or 0
        case "array":
            return []
        case _:
            return "check".ljust(field.get("minLength") or 0, "x")[: field.get("maxLength") or None]
