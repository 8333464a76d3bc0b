"""The terminals that an agent of version 1 may show: the client's own, which it created, and those it was told of."""

from __future__ import annotations

from collections.abc import Iterator

from ..walking import Json, Object, obj, objects
from ..watching import Seen


class TerminalsV1:
    """One conversation's. `in_meta`: the client takes terminals of the agent, announced in a call's `_meta`."""

    def __init__(self, *, in_meta: bool = False) -> None:
        self.in_meta = in_meta
        self._known: dict[str, bool] = {}
        """Terminal id → whether a call may begin to show it."""
        self._shown: set[str] = set()

    def created(self, id: Json) -> None:
        """The client created it."""
        self._known[str(id)] = True

    def released(self, id: Json) -> None:
        """What shows it goes on showing it; nothing begins to."""
        if str(id) in self._known:
            self._known[str(id)] = False

    def call(self, call: Object) -> Iterator[Seen]:
        """Judge what is told of a call, in an update or in a permission request."""
        info = obj(obj(call.get("_meta")).get("terminal_info"))
        if self.in_meta and isinstance(info.get("terminal_id"), str):
            self._known[info["terminal_id"]] = True
        for item in objects(call.get("content")):
            if item.get("type") == "terminal":
                yield "wire.shown-terminals", self._problem(str(call.get("toolCallId")), str(item.get("terminalId")))

    def _problem(self, call: str, id: str) -> str:
        if id not in self._known:
            return f"the call {call!r} shows the terminal {id!r}, which the client does not know"
        if id not in self._shown and not self._known[id]:
            return f"the call {call!r} shows the terminal {id!r}, which was released"
        self._shown.add(id)
        return ""
