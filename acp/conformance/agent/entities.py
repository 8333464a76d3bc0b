"""What an agent of version 2 keeps telling of by an id: messages, tool calls, terminals, plans, background work."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..walking import Json, Object, obj, objects
from ..watching import Seen
from .values import diffs

OVER = {"completed", "failed", "cancelled"}
MESSAGES = {kind + rest: kind for kind in ("user_message", "agent_message", "agent_thought") for rest in ("", "_chunk")}


@dataclass(slots=True)
class Entities:
    """What one session has told of."""

    messages: dict[str, str] = field(default_factory=dict[str, str])
    """Message id → whose message it is."""
    calls: dict[str, Object] = field(default_factory=dict[str, Object])
    """Tool call id → its name and status, as last told."""
    terminals: dict[str, Object] = field(default_factory=dict[str, Object])
    background: set[tuple[str, str]] | None = None
    """What the last state update listed; None while none has listed anything."""

    def told(self, update: Object) -> Iterator[Seen]:
        """Judge an update."""
        kind = str(update.get("sessionUpdate"))
        if kind in MESSAGES:
            yield from self._message(MESSAGES[kind], update)
        elif kind == "tool_call_update":
            yield from self.call(update)
        elif kind == "tool_call_content_chunk":
            yield from diffs([update.get("content")])
        elif kind in ("terminal_update", "terminal_output_chunk"):
            yield from self._terminal(kind, update)
        elif kind == "plan_update":
            plan = obj(update.get("plan"))
            uri = str(plan.get("uri", "file:"))
            fits = isinstance(plan.get("planId"), str) and plan["planId"] and ":" in uri
            yield "wire.plans", "" if fits else f"{plan}"
        elif kind == "state_update" and isinstance(update.get("background"), list):
            yield from self._background(update["background"])
        elif kind == "state_update" and self.background is not None:
            yield "wire.background", "a state update leaves out the background work that earlier ones listed"

    def _message(self, whose: str, update: Object) -> Iterator[Seen]:
        id: Json = update.get("messageId")
        if not isinstance(id, str) or not id:
            yield "wire.message-ids", f"{update.get('sessionUpdate')} has the message id {id!r}"
            return
        before = self.messages.setdefault(id, whose)
        words = f"the id {id!r} is that of a {before} and of a {whose}" if before != whose else ""
        yield "wire.message-ids", words

    def call(self, update: Object) -> Iterator[Seen]:
        """Judge what is told of a tool call, in an update or in a permission request."""
        id, known = str(update.get("toolCallId")), str(update.get("toolCallId")) in self.calls
        call = self.calls.setdefault(id, {})
        if not known:
            yield "wire.calls", "" if update.get("title") else f"{id!r} is first told of without a title"
        if call.get("name") and update.get("name") not in (None, call["name"]):
            yield "wire.calls", f"{id!r} was {call['name']!r} and is {update['name']!r}"
        call |= {name: update[name] for name in ("name", "status", "capabilities") if update.get(name)}
        yield from diffs(update.get("content"))

    def _terminal(self, kind: str, update: Object) -> Iterator[Seen]:
        id = str(update.get("terminalId"))
        if kind == "terminal_output_chunk":
            words = _base64(update.get("data"))
            yield "wire.terminals", words or ("" if id in self.terminals else f"{id!r} has output and was not told of")
            return
        terminal = self.terminals.setdefault(id, {})
        command: Json = update.get("command")
        again = command and terminal.get("exitStatus") and command != terminal.get("command")
        words = f"{id!r} has ended, and is another command's now" if again else ""
        if update.get("output") is not None:
            words = words or _base64(obj(update["output"]).get("data"))
        terminal |= {name: update[name] for name in ("command", "exitStatus", "capabilities") if update.get(name)}
        yield "wire.terminals", words

    def _background(self, rows: Json) -> Iterator[Seen]:
        listed: list[tuple[str, str]] = []
        for row in objects(rows):
            kind = str(row.get("type"))
            id = str(row.get("terminalId") or row.get("toolCallId") or row.get("sessionId"))
            known = {"terminal": self.terminals, "tool_call": self.calls}.get(kind)
            listed.append((kind, id))
            yield (
                "wire.background",
                f"the {kind} {id!r} was not told of" if known is not None and id not in known else "",
            )
        if len(set(listed)) < len(listed):
            yield "wire.background", f"one piece of work is listed twice: {listed}"
        for kind, id in (self.background or set[tuple[str, str]]()) - set(listed):
            if kind == "terminal":
                ended = bool(self.terminals.get(id, {}).get("exitStatus"))
            else:
                ended = kind != "tool_call" or self.calls.get(id, {}).get("status") in OVER
            yield "wire.background", "" if ended else f"the {kind} {id!r} is listed no more, and its end was not told"
        self.background = set(listed)
        yield "wire.background", ""


def _base64(data: Json) -> str:
    try:
        base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        return f"{str(data)[:80]!r} is not base64 by itself"
    return ""
