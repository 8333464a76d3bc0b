"""The MCP servers that a client offers for a session."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from acp.wire import Wire

log = logging.getLogger(__name__)


def note(servers: Iterable[Wire]) -> None:
    """MCP servers are accepted, for clients send them unasked; none is connected to yet."""
    for server in servers:
        log.warning("MCP server %r was offered; this agent connects to none yet", server.encode().get("name"))
