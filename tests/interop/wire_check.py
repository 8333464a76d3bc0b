"""What both sides said, as `interop/tee.py` kept it, against the official schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec"


def violations(log: Path, version: int) -> list[str]:
    """Every message that does not fit the definition of what it is, and who sent it; nothing without the schemas."""
    path = SPEC / f"v{version}" / "schema.unstable.json"
    if not path.exists():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    kinds = ("Request", "Notification", "Response")
    names: dict[tuple[str, str], str] = {}
    for name, definition in document["$defs"].items():
        if "x-method" in definition and name.endswith(kinds):
            names[definition["x-method"], next(kind for kind in kinds if name.endswith(kind))] = name
    asked: dict[tuple[str, Any], str] = {}
    found: list[str] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        who, message = row["from"], json.loads(row["text"])
        other = "agent" if who == "client" else "client"
        if "method" in message:
            kind = "Request" if "id" in message else "Notification"
            method, value = message["method"], message.get("params")
            asked[who, message.get("id")] = method
        else:
            kind, method, value = "Response", asked.pop((other, message["id"])), message.get("result")
        if "error" in message:
            continue
        name = names.get((method, kind))
        if name is None:
            found.append(f"{who}: {method} is no {kind}")
            continue
        validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": document["$defs"]})
        found += [f"{who}: {name}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]
    return found
