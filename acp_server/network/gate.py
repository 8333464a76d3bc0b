"""Who may come in from the network: a request to open a connection is judged before anything else is read.

What it keeps out (protocol.md 3.3): a web page of another site that opens a WebSocket to this machine, which no
browser forbids (Origin); a page whose name was rebound to this machine's address (Host); whoever has no token; and
requests that could be read in two ways, with a header twice. A page must be on the list to come in; a program that
is no browser sends no Origin and needs no place on it.

A token stands for a principal, and a session belongs to the principal that made it. Tokens are compared in constant
time, every one of them each time. They come in a header or a sub-protocol, never in a URL, and are not logged.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from acp.transports.remote import Request

PATH = "/acp"
SHORTEST_TOKEN = 16
"""Characters of a token; one that can be guessed is none."""
LARGEST_FILE = 2**20  # bytes
_ONCE = (
    "host",
    "origin",
    "authorization",
    "content-type",
    "content-encoding",
    "acp-connection-id",
    "acp-session-id",
    "acp-protocol-version",
    "last-event-id",
)
"""Headers that are acted on, and that could be read in two ways if they came twice."""
_PRINCIPAL = re.compile(r"[A-Za-z0-9._@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who was let in. `principal` is the name beside the token; empty where there are no tokens, or a nameless one."""

    principal: str
    address: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody was not let in: a status of HTTP and a line for people."""

    status: int
    text: str

    def headers(self) -> dict[str, str]:
        """What else is said to whoever may come in another time, or otherwise."""
        if self.status == 401:
            return {"WWW-Authenticate": 'Bearer realm="acp"'}
        return {"Retry-After": "5"} if self.status in (429, 503) else {}


class Gate:
    """Judges requests. `tokens` has a token for each principal; None lets in everybody who gets that far.

    `names` are the host names by which the server may be called, besides localhost and addresses: a name that an
    attacker rebinds is not among them, and an address cannot be rebound.
    """

    def __init__(
        self, tokens: Mapping[str, str] | None = None, *, origins: Iterable[str] = (), names: Iterable[str] = ()
    ) -> None:
        self._digests = None if tokens is None else {name: _digest(token) for name, token in tokens.items()}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._names = frozenset({"localhost", *(name.lower().rstrip(".") for name in names)})

    def judge(self, request: Request, address: str) -> Visitor | Refusal:
        """Let in or refuse a request that came from an address."""
        return self.refusal(request) or self.admit(request, address)

    def admit(self, request: Request, address: str) -> Visitor | Refusal:
        """Judge by the token alone."""
        if self._digests is None:
            return Visitor("", address)
        principal = self._principal(request.token() or "")
        return Refusal(401, "a bearer token is needed") if principal is None else Visitor(principal, address)

    def refusal(self, request: Request) -> Refusal | None:
        """Why a request is refused whoever sends it: what it asks for, where it comes from, and what it calls us."""
        if request.path.partition("?")[0] != PATH:
            return Refusal(404, f"there is nothing here; the endpoint is {PATH}")
        return self.distrust(request)

    def distrust(self, request: Request) -> Refusal | None:
        """Why a request is refused, whatever it asks for."""
        for name in _ONCE:
            if len(request.all(name)) > 1:
                return Refusal(400, f"the header {name} came more than once")
        hosts, origins = request.all("host"), request.all("origin")
        if not hosts:
            return Refusal(400, "the header host is missing")
        if not self._is_ours(hosts[0]):
            return Refusal(403, "this server does not go by that name (--host lets it)")
        if origins and origins[0].lower() not in self._origins:
            return Refusal(403, "pages of that origin may not connect (--origin lets them)")
        return None

    def _principal(self, token: str) -> str | None:
        given, found = _digest(token), None
        for name, digest in (self._digests or {}).items():
            if hmac.compare_digest(given, digest):
                found = name
        return found

    def _is_ours(self, host: str) -> bool:
        name = _hostname(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def _hostname(host: str) -> str | None:
    """The name or address in a Host header, without the port; None for what is neither."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?", host)
    return None if match is None else (match[1] or match[2]).lower().rstrip(".")


def _digest(token: str) -> bytes:
    # Digests have one length, so that the comparison tells nothing of a token's.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def read_tokens(path: str) -> dict[str, str]:
    """The principals and tokens in a file: `NAME TOKEN` a line, or one line that is a TOKEN. `#` begins a comment.

    Raises OSError, ValueError. No error shows a token.
    """
    data = Path(path).read_bytes()
    if len(data) > LARGEST_FILE:
        raise ValueError(f"it is larger than {LARGEST_FILE} bytes")
    tokens: dict[str, str] = {}
    for number, line in enumerate(data.decode().splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, token = ("", words[0]) if len(words) == 1 else (words[0], words[1])
        if len(words) > 2:
            raise ValueError(f"line {number} is neither NAME TOKEN nor a TOKEN")
        if name and not _PRINCIPAL.fullmatch(name):
            raise ValueError(f"line {number}: a name has letters, digits and . _ @ - only")
        if name in tokens:
            raise ValueError(f"line {number}: " + (f"{name} is there twice" if name else "a second token needs a name"))
        if len(token) < SHORTEST_TOKEN or not token.isascii():
            raise ValueError(f"line {number}: a token has at least {SHORTEST_TOKEN} characters, all of ASCII")
        if token in tokens.values():
            raise ValueError(f"line {number}: this token is another's too")
        tokens[name] = token
    if not tokens:
        raise ValueError("there is no token in it")
    return tokens
