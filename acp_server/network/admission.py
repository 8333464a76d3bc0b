"""Who may come in, as command lines say it: of every command that listens."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Sequence

from acp.transports.remote import is_loopback

from .gate import Gate, read_tokens


def add_admission_options(parser: argparse.ArgumentParser) -> None:
    """Tokens, TLS, and the names and pages that are trusted."""
    add = parser.add_argument
    add("--token-file", metavar="F", help="who may come in: a TOKEN, or a line NAME TOKEN for each principal")
    add("--tls-cert", metavar="C", help="serve over TLS with this certificate chain, PEM")
    add("--tls-key", metavar="K", help="the key of the certificate, PEM")
    add("--origin", action="append", default=[], metavar="O", help="web pages of this origin may connect; repeatable")
    add("--host", action="append", default=[], metavar="NAME", help="a name that clients call it by; repeatable")
    add("--insecure", action="store_true", help="off this machine too, without TLS or without tokens")


def admission_of(options: argparse.Namespace, hosts: Sequence[str]) -> tuple[Gate, ssl.SSLContext | None]:
    """The gate of a server that listens on `hosts`, and its TLS.

    Raises ValueError for what does not go together, and for what would let the network in unasked.
    """
    try:
        tokens = None if options.token_file is None else read_tokens(options.token_file)
    except (OSError, ValueError) as error:
        raise ValueError(f"--token-file: {error}") from None
    if (options.tls_cert is None) != (options.tls_key is None):
        raise ValueError("--tls-cert and --tls-key belong together")
    tls = None if options.tls_cert is None else _tls(options.tls_cert, options.tls_key)
    others = [host for host in hosts if not is_loopback(host)]
    for host in [] if options.insecure else others:
        if tls is None:
            raise ValueError(f"{host} is not this machine alone: give --tls-cert and --tls-key, or say --insecure")
        if tokens is None:
            raise ValueError(f"{host} is not this machine alone: give --token-file, or say --insecure")
    return Gate(tokens, origins=options.origin, names=[*options.host, *others]), tls


def address_of(option: str, text: str) -> tuple[str, int]:
    """The host and the port that an option says. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{option}: not HOST:PORT: {text}")
    return host, int(port)


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ValueError(f"--tls-cert, --tls-key: {error}") from None
    return context
