"""An MCP server, as a client offers it when it opens a session."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from acp.wire import Wire

Kind = Literal["stdio", "http", "sse", "acp", "unknown"]

SHORTEST_SECRET = 6
"""Characters from which on a value of an environment or a header is kept out of what is said about a server."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What it is called and how it is reached: by a command, a URL, or an id on the connection that we have.

    Its `repr` is fit for a log: arguments, addresses, environment and headers may hold secrets.
    """

    name: str
    kind: Kind
    command: str = field(default="", repr=False)
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    url: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    id: str = field(default="", repr=False)

    def without_secrets(self, text: str) -> str:
        """The text, which may be what the server says of itself, without the values that only it may know."""
        secrets = {value for _, value in (*self.env, *self.headers) if len(value) >= SHORTEST_SECRET}
        # A server may name a token without the word before it (`Bearer …`).
        secrets |= {word for secret in secrets for word in secret.split() if len(word) >= SHORTEST_SECRET}
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        return text


@functools.cache
def mcp_is_installed() -> bool:
    """Whether there is the package that speaks MCP (extra `mcp`)."""
    return importlib.util.find_spec("mcp") is not None


def offers(servers: Iterable[Wire]) -> tuple[Offer, ...]:
    """The offers of a request. In version 1 a server that names no type is started by a command."""
    return tuple(_offer(server.encode()) for server in servers)


def _offer(raw: Mapping[str, Any]) -> Offer:
    said = raw.get("type", "stdio")
    kind: Kind = said if said in get_args(Kind) else "unknown"
    return Offer(
        name=str(raw.get("name", "")),
        kind=kind,
        command=raw.get("command", ""),
        args=tuple(raw.get("args") or ()),
        env=_pairs(raw.get("env")),
        url=raw.get("url", ""),
        headers=_pairs(raw.get("headers")),
        id=raw.get("serverId", ""),
    )


def _pairs(raw: Any) -> tuple[tuple[str, str], ...]:
    return tuple((pair["name"], pair["value"]) for pair in raw or ())
