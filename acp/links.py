"""Addresses that an agent asks the user to visit: which may be shown at all, and what to say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import parse_qsl, urlsplit

LONGEST_LINK = 8192

_PRINTABLE = re.compile(r"[!-~]*")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SECRETS = frozenset(
    ("access_token", "refresh_token", "id_token", "client_secret", "password", "passwd", "api_key", "apikey")
)


class BadLink(ValueError):
    """The address may not be visited at an agent's request; the message says why, without what is secret in it."""


@dataclass(frozen=True, slots=True)
class Link:
    """An address as it would be opened, in ASCII: what is shown is what is visited.

    `warnings` say what a user may overlook in it, a sentence each.
    """

    url: str
    host: str
    warnings: tuple[str, ...] = ()


def parse_link(text: str) -> Link:
    """Judge an address as a browser would read it. Raises BadLink.

    It must be https, or http to this machine, must name a host in the one way on which browsers and we agree, and
    have no credentials in it.
    """
    if len(text) > LONGEST_LINK:
        raise BadLink(f"it is longer than {LONGEST_LINK} characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadLink("it is malformed") from error
    netloc = parts.netloc
    start = f"{parts.scheme}://{netloc}"
    # What Python strips or mends, a browser may read as another host.
    if not netloc or parts.scheme not in ("https", "http") or not text.lower().startswith(start.lower()):
        raise BadLink("it is no https address with a host")
    rest = text[len(start) :]
    if _PRINTABLE.fullmatch(rest) is None or "\\" in text or "%" in netloc:
        raise BadLink("it has characters in it that no address has")
    if "@" in netloc:
        raise BadLink("it has credentials in it")
    if any(name.lower() in _SECRETS for part in (parts.query, parts.fragment) for name, _ in _parameters(part)):
        raise BadLink("it has credentials in it")
    written = (parts.hostname or "").lower()
    host = _ascii(written)
    address = _address(host)
    if parts.scheme != "https" and not _is_here(host, address):
        raise BadLink("it is not https")
    shown = f"[{host}]" if isinstance(address, IPv6Address) else host
    url = f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{rest}"
    return Link(url, shown, tuple(_warnings(host, address)))


def _parameters(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True)
    except ValueError as error:
        raise BadLink("it is malformed") from error


def _ascii(host: str) -> str:
    """The host as it is looked up."""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise BadLink("its host is no name") from error


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    # Browsers read 0x7f.1 and 2130706433 as addresses too; nobody who means well writes them.
    if _HOST.fullmatch(host) is None or len(host) > 253 or _NUMERIC.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise BadLink("its host is no name")
    return None


def _is_here(host: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _warnings(host: str, address: IPv4Address | IPv6Address | None) -> list[str]:
    if address is not None:
        return [] if address.is_loopback else [f"{host} is a number, not a name: it does not tell whose site this is."]
    if not any(label.startswith("xn--") for label in host.split(".")):
        return []
    try:
        reads = host.encode("ascii").decode("idna")
    except UnicodeError:
        reads = host
    return [f"The site's name has letters that may look like others: {host} reads as {reads}."]
