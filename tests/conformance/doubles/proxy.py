"""A proxy that passes everything, with at most the one defect that is named; without any I/O.

It knows nothing of the packages that it tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
DEFECTS = {
    "answers-first": "init.first",
    "own-version": "init.version",
    "hides-refusal": "init.refused",
    "own-sessions": "turn.tour",
    "drops-nulls": "pass.on",
    "own-errors": "pass.on",
    "known-updates": "pass.back",
    "reorders": "pass.order",
    "swallows-cancel": "pass.cancel",
    "unwrapped": "wire.wrapping",
    "wraps-cancel": "wire.hop",
}
"""A defect, and the check that catches it."""


class Proxy:
    """What it hears with `feed`, it answers to `put`."""

    def __init__(self, defect: str, put: Callable[[bytes], None]) -> None:
        self.defect, self.put = defect, put
        self.rest = b""
        self.last = 0
        self.routes: dict[int, Message] = {}
        """Our id → the request that it carries on."""
        self.held: list[Message] = []

    def say(self, message: Message) -> None:
        if self.defect == "reorders" and message.get("method") == "_check/count":
            self.held.append(message)
            if len(self.held) < 2:
                return
            for each in reversed(self.held):
                self.put(json.dumps({"jsonrpc": "2.0", **each}).encode() + b"\n")
            self.held = []
            return
        self.put(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.receive(json.loads(line))

    def end(self) -> bool:
        return True

    def receive(self, message: Message) -> None:
        method: Any = message.get("method")
        params: Any = message.get("params")
        if method is None:
            self.answered(self.routes.pop(message["id"]), message)
        elif method == "$/cancel_request":
            self.cancel(message["params"]["requestId"])
        elif method == "proxy/successor":
            self.on(message, {"method": params["method"], "params": params.get("params")})
        else:
            name = "initialize" if method == "proxy/initialize" else method
            if method == "proxy/initialize" and self.defect == "answers-first":
                self.say({"id": message["id"], "result": {"protocolVersion": params["protocolVersion"]}})
            self.on(message, {"method": "proxy/successor", "params": {"method": name, "params": params}})

    def on(self, message: Message, outer: Message) -> None:
        """Carry a message on to the other side."""
        update = (outer["params"] or {}).get("update", {})
        if self.defect == "known-updates" and update.get("sessionUpdate") == "_check_kind":
            return
        if self.defect == "drops-nulls":
            outer = json.loads(json.dumps(outer).replace(", null", ""))
        if (
            self.defect == "unwrapped"
            and outer["method"] == "proxy/successor"
            and "_check" in outer["params"]["method"]
        ):
            del outer["params"]["method"]
        if "id" in message:
            self.last += 1
            self.routes[self.last] = message
            outer["id"] = self.last
        self.say(outer)

    def answered(self, asked: Message, answer: Message) -> None:
        first = asked["method"] == "proxy/initialize"
        if first and self.defect == "answers-first":
            return
        back = {name: answer[name] for name in ("result", "error") if name in answer}
        if first and self.defect == "own-version":
            back["result"]["protocolVersion"] = asked["params"]["protocolVersion"]
        if first and self.defect == "hides-refusal" and "error" in back:
            back = {"result": {"protocolVersion": asked["params"]["protocolVersion"]}}
        if "error" in back and self.defect == "own-errors":
            back = {"error": {"code": -32603, "message": "the agent failed"}}
        if "sessionId" in (back.get("result") or {}) and self.defect == "own-sessions":
            back["result"]["sessionId"] = "mine"
        self.say({"id": asked["id"], **back})

    def cancel(self, id: Any) -> None:
        ours = next((mine for mine, asked in self.routes.items() if asked["id"] == id), None)
        if ours is None or self.defect == "swallows-cancel":
            return
        cancel = {"method": "$/cancel_request", "params": {"requestId": ours}}
        if self.defect == "wraps-cancel":
            self.say({"method": "proxy/successor", "params": cancel})
        self.say(cancel)
