"""Which terminals a call of version 1 may show, message by message: the doubles show the plain cases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from acp.conformance.agent.watch import AgentWatch

CHECK = "wire.shown-terminals"
SHOWS = [{"type": "terminal", "terminalId": "t1"}]
INFO = {"terminal_info": {"terminal_id": "t1"}}


class Talk:
    """A conversation, with what its calls were found to show wrongly."""

    def __init__(self, capabilities: dict[str, Any]) -> None:
        self.watch = AgentWatch(1)
        params = {"protocolVersion": 1, "clientCapabilities": capabilities}
        self.watch.sent({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})

    def said(self, method: str, params: dict[str, Any], id: int | None = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": {"sessionId": "s", **params}}
        self.watch.heard(json.dumps(message if id is None else message | {"id": id}).encode())

    def call(self, kind: str = "tool_call", **more: Any) -> None:
        self.said("session/update", {"update": {"sessionUpdate": kind, "toolCallId": "c", "title": "Call", **more}})

    def create(self) -> None:
        self.said("terminal/create", {"command": "true"}, id=7)
        self.watch.sent({"jsonrpc": "2.0", "id": 7, "result": {"terminalId": "t1"}})

    def release(self) -> None:
        self.said("terminal/release", {"terminalId": "t1"}, id=8)

    @property
    def faults(self) -> list[str]:
        return [words for id, words in self.watch.faults if id == CHECK]


def test_a_terminal_that_was_created_is_shown_before_it_is_released_and_after() -> None:
    talk = Talk({"terminal": True})
    talk.create()
    talk.call(content=SHOWS)
    talk.release()
    talk.call("tool_call_update", content=SHOWS)
    assert talk.faults == []
    assert CHECK in talk.watch.judged


def test_a_terminal_is_not_shown_first_when_it_is_released() -> None:
    talk = Talk({"terminal": True})
    talk.create()
    talk.release()
    talk.call(content=SHOWS)
    assert talk.faults == ["the call 'c' shows the terminal 't1', which was released"]


@pytest.mark.parametrize("takes", [True, False])
def test_a_terminal_in_meta_is_known_to_clients_that_take_it_so(takes: bool) -> None:
    talk = Talk({"_meta": {"terminal_output": takes}})
    talk.call(_meta=INFO, content=SHOWS)
    talk.said("session/request_permission", {"options": [], "toolCall": {"toolCallId": "c", "content": SHOWS}}, id=9)
    assert bool(talk.faults) is not takes
    assert CHECK in talk.watch.judged
