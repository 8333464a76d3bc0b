"""Checks of the MCP servers that a session is given."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from ..side import Skipped
from ..walking import Object
from .check import check
from .conversation import Conversation
from .sessions import resume
from .turns import V1, V2

PROBE = Path(__file__).with_name("mcp_probe.py")
CONNECTS_WITHIN = 5.0
"""Seconds that an agent gets to connect to an MCP server, at most."""


class Probe:
    """An MCP server that leaves a mark once it is spoken to."""

    def __init__(self, talk: Conversation) -> None:
        self._mark = Path(talk.cwd) / "acp-check-mark"
        arguments = ["-I", "-S", str(PROBE), str(self._mark)]
        self.server: Object = {"name": "check", "command": sys.executable, "args": arguments, "env": []}
        if talk.version == 2:
            self.server["type"] = "stdio"

    def marked(self) -> bool:
        return self._mark.exists()

    def wipe(self) -> None:
        self._mark.unlink()

    async def reached(self, talk: Conversation) -> bool:
        """Is it spoken to, soon?"""
        with anyio.move_on_after(min(talk.patience, CONNECTS_WITHIN)):
            while not self.marked():
                await talk.listen(0.05)
        return self.marked()


async def connects(talk: Conversation) -> None:
    """An MCP server is started and spoken to, at the latest in the first turn."""
    probe = Probe(talk)
    await talk.session(mcpServers=[probe.server])
    if not await probe.reached(talk):
        await talk.turn()
        if not await probe.reached(talk):
            talk.fail("no word was said to an MCP server over stdio")


async def connects_anew(talk: Conversation) -> None:
    """Servers of an earlier request do not come back when the session is resumed without them."""
    probe = Probe(talk)
    session = await talk.session(mcpServers=[probe.server])
    await talk.turn()
    if not await probe.reached(talk):
        raise Skipped("nothing to judge: no word was said to an MCP server over stdio")
    await talk.call("session/close", {"sessionId": session})
    probe.wipe()
    await resume(talk, session)
    await talk.turn()
    if probe.marked():
        talk.fail("the session was resumed without servers, and the earlier one was spoken to again")


async def refuses_carrier(talk: Conversation) -> None:
    server = {"type": "_check_pigeon", "name": "one"}
    await talk.refused("session/new", {"cwd": talk.cwd, "mcpServers": [server]}, -32602)


CHECKS = (
    check("mcp.stdio", "An MCP server is started and spoken to", "088", connects, versions=V1),
    check(
        *("mcp.anew", "MCP servers do not come back by themselves", "071", connects_anew, "advisory"),
        versions=V2,
        needs={"2": "session.mcp.stdio"},
    ),
    check("mcp.kind", "An MCP server of an unknown kind is refused", "090", refuses_carrier, versions=V2),
)
