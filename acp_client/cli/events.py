"""A run as JSON, one event a line, UTF-8.

Every event has `schema_version` (1) and `type`. An update's type is its `sessionUpdate`, and `update` is the update as
version 1 says it, whatever version the agent speaks. Beside those there are `session`, first, with what the agent is;
`permission`, with the request and the answer (an option's id, or null for none); and `result`, always last.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, BinaryIO

from acp.dialect import DIALECTS
from acp.json_text import dumps
from acp.updates import ToolCallUpdate, Update

from ..host.host import PermissionRequest
from ..surface import AgentInfo
from .result import Result

SCHEMA_VERSION = 1


class EventLog:
    """A view of a run that writes its events."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def event(self, type: str, **values: Any) -> None:
        self._out.write(dumps({"schema_version": SCHEMA_VERSION, "type": type, **values}) + b"\n")
        self._out.flush()

    def started(self, agent: AgentInfo, session_id: str, cwd: str) -> None:
        about = {"name": agent.name, "title": agent.title, "version": agent.release}
        self.event("session", session_id=session_id, cwd=cwd, agent=about, protocol_version=agent.version)

    def update(self, update: Update) -> None:
        for wire in DIALECTS[1].encode(update):
            body = wire.encode()
            self.event(str(body["sessionUpdate"]), update=body)

    def answered(self, request: PermissionRequest, answer: str | None) -> None:
        call = request.call
        change = ToolCallUpdate(call.id, call.title, call.kind, content=call.content, raw_input=call.raw_input)
        [wire] = DIALECTS[1].encode(change)
        options = [{"optionId": option.id, "name": option.name, "kind": option.kind} for option in request.options]
        body = wire.encode()
        body.pop("sessionUpdate")
        self.event("permission", tool_call=body, options=options, answer=answer)

    def finished(self, result: Result) -> None:
        self.event(
            "result",
            exit_code=int(result.exit),
            status=result.exit.status,
            stop_reason=result.stop_reason,
            text=result.text,
            usage=asdict(result.usage) if result.usage else None,
            seconds=round(result.seconds, 3),
            tokens_per_second=result.tokens_per_second,
            error=result.error,
        )
