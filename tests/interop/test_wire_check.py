"""The judge of the wire: what fits has no violations, and each fault is found and blamed on its sender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wire_check import judged

NEW = {"id": 1, "method": "session/new", "params": {"cwd": "/w", "mcpServers": []}}
MADE = {"id": 1, "result": {"sessionId": "s"}}


def log(folder: Path, *rows: tuple[str, Any]) -> Path:
    path = folder / "wire.jsonl"
    lines = [json.dumps({"from": who, "text": json.dumps({"jsonrpc": "2.0"} | message)}) for who, message in rows]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_what_fits_is_counted_and_not_blamed(version: int, tmp_path: Path) -> None:
    content = {"type": "text", "text": "x"}
    update = {"sessionUpdate": "agent_message_chunk", "content": content, "messageId": "m"}
    told = {"method": "session/update", "params": {"sessionId": "s", "update": update}}
    found = judged(log(tmp_path, ("client", NEW), ("agent", MADE), ("agent", told)), version)
    assert (found.violations, found.messages) == ([], 3)
    assert found.said == {"client: session/new", "agent: session/new answered", "agent: agent_message_chunk"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("client", NEW | {"params": {"mcpServers": []}}), "client: NewSessionRequest: $: 'cwd' is a required"),
        (("client", NEW | {"method": "session/none"}), "client: session/none is no Request"),
        (("client", NEW | {"sessionId": "s"}), "client: sessionId at the root"),
        (("client", NEW | {"jsonrpc": "1.0"}), "client: no message of JSON-RPC 2.0"),
        (("agent", MADE | {"error": {"code": 1, "message": "x"}}), "agent: not one of a call, a result and an error"),
        (("agent", {"id": 0, "result": {"sessionId": 5}}), "agent: NewSessionResponse: $.sessionId: 5 is not"),
        (("agent", {"id": 0, "error": {"code": "x", "message": "x"}}), "agent: Error: $.code"),
        (("agent", {"id": 7, "result": {}}), "agent: an answer to nothing"),
    ],
)
def test_each_fault_is_blamed_on_its_sender(row: tuple[str, Any], words: str, tmp_path: Path) -> None:
    rows = [("client", NEW | {"id": 0}), ("client", NEW), row]
    found = judged(log(tmp_path, *rows), 1).violations
    assert any(violation.startswith(words) for violation in found), found
