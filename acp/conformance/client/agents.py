"""What an agent that the checker plays says of itself."""

from __future__ import annotations

from ..walking import Object

AGENT = {"name": "acp-check", "version": "1"}
BARE: dict[int, Object] = {1: {}, 2: {"session": {}}}
"""What an agent announces that can do nothing more than it has to."""
RICH: dict[int, Object] = {
    1: {
        "loadSession": True,
        "promptCapabilities": {"image": True, "audio": True, "embeddedContext": True},
        "mcpCapabilities": {"http": True, "sse": True, "acp": True},
        "sessionCapabilities": {
            name: {} for name in ("list", "delete", "resume", "close", "additionalDirectories", "status", "title")
        },
        "auth": {"logout": {}, "status": {}},
    },
    2: {
        "session": {
            "prompt": {"image": {}, "audio": {}, "embeddedContext": {}},
            "mcp": {"stdio": {}, "http": {}, "acp": {}},
            "delete": {},
            "additionalDirectories": {},
            "status": {},
            "title": {},
        },
        "auth": {"status": {}},
    },
}
