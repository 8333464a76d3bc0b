"""The official SDKs' clients drive `acp agent` through a whole session without one schema violation.

The peers live outside our environment: `ACP_PEER_PYTHON` names the Python of a virtual environment with
`agent-client-protocol`, `ACP_PEER_NODE` a folder with `node_modules/@agentclientprotocol/sdk`. `.ci/run`
makes both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
INTEROP = ROOT / "interop"
SCHEMA = ROOT.parent / "shared" / "spec" / "v1" / "schema.json"


def python_peer() -> list[str]:
    python = os.environ.get("ACP_PEER_PYTHON")
    if not python:
        pytest.skip("ACP_PEER_PYTHON is not set: run .ci/run to test against the official Python SDK")
    return [python, str(INTEROP / "python_client.py")]


def typescript_peer() -> list[str]:
    folder = os.environ.get("ACP_PEER_NODE")
    if not folder:
        pytest.skip("ACP_PEER_NODE is not set: run .ci/run to test against the official TypeScript SDK")
    script = Path(folder) / "typescript_client.mjs"  # Node resolves packages from where the script lies
    shutil.copyfile(INTEROP / "typescript_client.mjs", script)
    return [shutil.which("node") or "node", str(script)]


@pytest.mark.parametrize("peer", [python_peer, typescript_peer], ids=["python-0.12.1", "typescript-2.4.0"])
def test_an_official_client_edits_with_permission_and_cancels(peer: Any, tmp_path: Path) -> None:
    command = peer()
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    log = tmp_path / "agent.jsonl"
    agent = [sys.executable, str(INTEROP / "tee.py"), str(log)]
    agent += [sys.executable, "-m", "acp_server", "--backend", "scripted"]

    done = subprocess.run([*command, str(workspace), *agent], capture_output=True, text=True, timeout=60, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["version"] == 1
    assert seen["edit"] == "end_turn"
    assert seen["cancel"] == "cancelled"
    assert (workspace / "note.txt").read_text() == "hello"
    [permission] = seen["permissions"]
    assert "note.txt" in permission["title"]
    assert permission["content"] == ["diff"]
    assert {"allow_once", "allow_always", "reject_once"} <= set(permission["options"])
    assert {"tool_call", "tool_call_update", "agent_message_chunk"} <= set(seen["updates"])
    assert "invalid" not in done.stderr.lower()
    assert schema_violations(log) == []


def schema_violations(log: Path) -> list[str]:
    """Every line the agent wrote, against the official schema's definition of what it is."""
    if not SCHEMA.exists():
        return []
    document = json.loads(SCHEMA.read_text())
    methods = {
        (definition["x-method"], name.endswith(("Request", "Notification"))): name
        for name, definition in document["$defs"].items()
        if "x-method" in definition
    }
    answers = iter(["initialize", "session/new", "session/prompt", "session/prompt"])
    found: list[str] = []
    for line in log.read_text().splitlines():
        message = json.loads(line)
        if "method" in message:
            name, value = methods[message["method"], True], message["params"]
        else:
            assert "error" not in message, message
            name, value = methods[next(answers), False], message["result"]
        validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": document["$defs"]})
        found += [f"{name}: {error.message}" for error in validator.iter_errors(value)]
    return found
