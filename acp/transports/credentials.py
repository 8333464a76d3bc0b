"""Headers and tokens for a server, from a command line. What goes wrong is said without showing a value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

LARGEST_TOKEN = 2**16  # characters


def add_url_options(parser: argparse.ArgumentParser) -> None:
    """Where an agent on the network is, and what opens its door."""
    add = parser.add_argument
    add("--url", metavar="URL", help="an agent on the network: ws://…, wss://…, http://… or https://…")
    add("--header", action="append", default=[], metavar="K=V", help="a header of the request to it; repeatable")
    add("--token-file", metavar="F", help="the file whose content is the bearer token for it")
    add("--insecure", action="store_true", help="send credentials in the clear to another machine, without TLS")


def headers_of(given: Sequence[str], token_file: str | None) -> dict[str, str]:
    """The headers that the options say. Raises OSError, ValueError."""
    headers: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError("--header: not K=V")
        headers[name.strip()] = value.strip()
    if token_file is not None:
        if any(name.lower() == "authorization" for name in headers):
            raise ValueError("give the token by --header or by --token-file, not both")
        with open(token_file, encoding="utf-8") as file:
            words = file.read(LARGEST_TOKEN).split()
        if len(words) != 1:
            raise ValueError("--token-file: the file does not hold one token")
        headers["Authorization"] = f"Bearer {words[0]}"
    return headers
