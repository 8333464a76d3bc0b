"""What the transports over a network have in common: headers, limits, how they end, and who asks for a connection."""

from __future__ import annotations

import base64
import ipaddress
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import AcpError
from . import Transport
from .lines import LONGEST_LINE

CONNECTION_ID = "Acp-Connection-Id"
SESSION_ID = "Acp-Session-Id"
PROTOCOL_VERSION = "Acp-Protocol-Version"
REPLACES = "Acp-Laguna-Replaces"
"""Header of ours beside `initialize` over HTTP: the connections that the client had and lost."""
FAREWELL = "Acp-Laguna-Farewell"
"""Header of ours beside DELETE: the code that a WebSocket would be closed with. After 1001 sessions wait."""
SUBPROTOCOL = "acp"
"""What a server answers to a client of WebSocket that offers sub-protocols, this one among them."""
TOKEN_SUBPROTOCOL = "acp-bearer."
"""Begins the sub-protocol by which a browser, which can set no header, says its token: base64url, no padding."""

HEARTBEAT = 20.0
"""Seconds of silence before a sign of life, and again before the peer is given up."""
STALL = 60.0
"""Seconds that a peer may take no byte that we have for it."""
OPENING = 30.0
"""Seconds that connecting and its handshake may take."""

_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_OURS = {"host", "upgrade", "connection", "content-length", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost: bytes of a message, seconds of silence and of stalling."""

    message: int = LONGEST_LINE
    heartbeat: float = HEARTBEAT
    stall: float = STALL


class CannotConnect(AcpError):
    """There is no connection to a server. `status` is the server's, None where it never answered."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class RemoteTransport(Transport, Protocol):
    """A transport that the network can take away."""

    @property
    def was_lost(self) -> bool:
        """Of a connection that ended: whether nobody meant it to, or the peer was only going away."""
        ...


class ClientTransport(RemoteTransport, Protocol):
    """A client's transport to a server. `farewell` is the code and the reason of the end that we say."""

    farewell: tuple[int, str]

    @property
    def connection_id(self) -> str | None:
        """What the server calls this connection, if it says so."""
        ...

    @property
    def ended_well(self) -> bool:
        """Of a connection that ended: whether the server said that all is done."""
        ...

    @property
    def is_final(self) -> bool:
        """Of a connection that ended: whether another one would end alike."""
        ...

    @property
    def refusal(self) -> CannotConnect | None:
        """Why there never was a connection, where that turned out later than at the opening."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for, as it came. Header names are in lower case."""

    path: str
    headers: Sequence[tuple[str, str]]
    method: str = "GET"

    def all(self, name: str) -> list[str]:
        """The values of a header, in order; a name may come more than once, and whoever cares has to look."""
        return [value for key, value in self.headers if key == name]

    def listed(self, name: str) -> list[str]:
        """The values of a header that is a list."""
        return [word.strip() for value in self.all(name) for word in value.split(",") if word.strip()]

    def offered(self) -> list[str]:
        """The sub-protocols that the client offers."""
        return self.listed("sec-websocket-protocol")

    def token(self) -> str | None:
        """The bearer token, from the one place where it is said: a header, or a sub-protocol. None for none or more."""
        said = [v[7:].strip() for v in self.all("authorization") if v[:7].lower() == "bearer "]
        others = len(self.all("authorization")) - len(said)
        for word in self.offered():
            if word.startswith(TOKEN_SUBPROTOCOL):
                said.append(_decoded(word.removeprefix(TOKEN_SUBPROTOCOL)))
        return said[0] if len(said) == 1 and not others else None


def _decoded(word: str) -> str:
    try:
        return base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode()
    except ValueError:
        return ""


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that an application wants to send, names in lower case. Raises ValueError for what cannot be sent."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"not a header that can be set: {name!r}")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name} has characters that no header can have")
    return {name.lower(): value for name, value in headers.items()}


def check_credentials(headers: Mapping[str, str], host: str, *, secure: bool, insecure: bool) -> None:
    """Raise ValueError where credentials would go to another machine in the clear and nobody has said they may."""
    if not (secure or insecure or is_loopback(host)) and {"authorization", "cookie"} & set(headers):
        raise ValueError(f"credentials would go to {host} in the clear: use TLS, or say that this is wanted")


def keep_silent(*libraries: str) -> None:
    """Have libraries log no headers, which hold tokens, wherever somebody turned debugging on."""
    for name in libraries:
        logging.getLogger(name).setLevel(logging.WARNING)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
