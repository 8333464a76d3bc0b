"""An MCP server over stdio that leaves a mark once it is spoken to: `mcp_probe.py MARK`. It has no tools.

It imports nothing but the standard library, so that it starts at once under any Python.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SERVER = {"name": "acp-check", "version": "1"}


def answer(method: str, params: Any) -> dict[str, Any]:
    match method:
        case "initialize":
            version = params.get("protocolVersion", "2025-06-18")
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": SERVER}}
        case "tools/list":
            return {"result": {"tools": []}}
        case "ping":
            return {"result": {}}
        case _:
            return {"error": {"code": -32601, "message": "Method not found"}}


def main() -> None:
    for line in sys.stdin:
        Path(sys.argv[1]).touch()
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and "id" in message and "method" in message:
            told = answer(message["method"], message.get("params") or {})  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **told}), flush=True)


if __name__ == "__main__":
    main()
