"""What both sides said, as `interop/tee.py` kept it, against the official schema."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("Request", "Notification", "Response")


@dataclass
class Judged:
    """What a log holds: `said` is what was judged, as `client: session/new`, an update by its kind too."""

    violations: list[str] = field(default_factory=list[str])
    said: set[str] = field(default_factory=set[str])
    messages: int = 0


def judged(log: Path, version: int) -> Judged:
    """Every message that does not fit the definition of what it is, and who sent it."""
    defs = json.loads(_schema(version).read_text(encoding="utf-8"))["$defs"]
    names: dict[tuple[str, str], str] = {}
    for name, definition in defs.items():
        if "x-method" in definition and name.endswith(KINDS):
            names[definition["x-method"], next(kind for kind in KINDS if name.endswith(kind))] = name
    asked: dict[tuple[str, Any], str] = {}
    found = Judged()
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        who, message = row["from"], json.loads(row["text"])
        found.messages += 1
        found.violations += [f"{who}: {problem}: {row['text'][:300]}" for problem in _envelope(message)]
        other = "agent" if who == "client" else "client"
        if "method" in message:
            kind = "Request" if "id" in message else "Notification"
            method, value = message["method"], message.get("params")
            if kind == "Request":
                asked[who, message["id"]] = method
        elif (other, message.get("id")) in asked:
            kind, method, value = "Response", asked.pop((other, message["id"])), message.get("result")
        else:
            found.violations.append(f"{who}: an answer to nothing: {row['text'][:300]}")
            continue
        found.said.add(f"{who}: {_said(method, kind, value)}")
        name = "Error" if "error" in message else names.get((method, kind))
        if name is None:
            found.violations.append(f"{who}: {method} is no {kind}")
            continue
        validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": defs})
        for error in validator.iter_errors(message.get("error", value)):
            found.violations.append(f"{who}: {name}: {error.json_path}: {error.message[:300]}")
    return found


def violations(log: Path, version: int) -> list[str]:
    return judged(log, version).violations


def _schema(version: int) -> Path:
    """The official file where it is at hand, else the same facts as we keep them."""
    official = ROOT.parent / "shared" / "spec" / f"v{version}" / "schema.unstable.json"
    return official if official.exists() else ROOT / "spec" / f"v{version}" / "schema.json"


def _envelope(message: Any) -> list[str]:
    """What is wrong with a message by JSON-RPC."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return ["no message of JSON-RPC 2.0"]
    given = {key for key in ("method", "result", "error") if key in message}
    allowed = {"jsonrpc", "id", "params"} if "method" in given else {"jsonrpc", "id"}
    return [*(["not one of a call, a result and an error"] if len(given) != 1 else [])] + [
        f"{key} at the root" for key in message.keys() - given - allowed
    ]


def _said(method: str, kind: str, value: Any) -> str:
    if method == "session/update":
        return f"{value['update']['sessionUpdate']}"
    return f"{method} answered" if kind == "Response" else method
