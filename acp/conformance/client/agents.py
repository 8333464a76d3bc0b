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
        "mcpCapabilities": {"http": True, "sse": True},
        "sessionCapabilities": {name: {} for name in ("list", "delete", "resume", "close", "additionalDirectories")},
        "auth": {"logout": {}},
    },
    2: {
        "session": {
            "prompt": {"image": {}, "audio": {}, "embeddedContext": {}},
            "mcp": {"stdio": {}, "http": {}},
            "delete": {},
            "additionalDirectories": {},
        }
    },
}
