"""What the commands that serve the network have in common: their options, and how a server is run to its end."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import anyio

from acp.signals import end_on_signal, stop_signals
from acp.transports.lines import LONGEST_LINE
from acp.transports.remote import HEARTBEAT, STALL, Limits

from .admission import add_admission_options, address_of, admission_of
from .server import Door, Server, ServerLimits
from .visits import Talk

DEFAULT = "127.0.0.1:8765"
DRAIN = 10.0
"""Seconds that turns get to end when the server is stopped."""

Signals = AsyncIterator[signal.Signals]
"""SIGTERM and SIGINT, as they come."""


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Where to listen, who may come in, and what it may cost."""
    add, limits = parser.add_argument, ServerLimits()
    add("--ws", metavar="HOST:PORT", help=f"where to listen for WebSocket; port 0 is any (default: {DEFAULT})")
    add("--http", metavar="HOST:PORT", help="where to listen for Streamable HTTP, and WebSocket too (the extra `http`)")
    add_admission_options(parser)
    add("--max-connections", type=_count, default=limits.connections, metavar="N", help="in all (default: %(default)s)")
    add("--max-per-address", type=_count, default=limits.per_address, metavar="N", help="(default: %(default)s)")
    add("--max-message", type=_count, default=LONGEST_LINE, metavar="BYTES", help="(default: %(default)s)")
    add("--opening", type=positive, default=limits.opening, metavar="S", help="for a request (default: %(default)g s)")
    add("--heartbeat", type=positive, default=HEARTBEAT, metavar="S", help="between pings (default: %(default)g s)")
    add("--stall", type=positive, default=STALL, metavar="S", help="for one who does not read (default: %(default)g s)")
    add("--drain", type=positive, default=DRAIN, metavar="S", help="for turns, when stopped (default: %(default)g s)")


def server_of(options: argparse.Namespace, talk: Talk) -> Server:
    """The server that the options say. Raises ValueError with what is wrong with them."""
    hosts = [host for host, _, _ in _addresses(options)]
    if options.http is not None:
        http_door()
    gate, tls = admission_of(options, hosts)
    connection = Limits(options.max_message, options.heartbeat, options.stall)
    limits = ServerLimits(options.max_connections, options.max_per_address, options.opening, connection)
    return Server(talk, gate, limits=limits, tls=tls)


def http_door() -> Door:
    """What is spoken at `--http`. Raises ValueError where the extra is not installed."""
    try:
        from .http_door import HttpDoor
    except ModuleNotFoundError as error:
        raise ValueError(f"--http: install acp-laguna[http]: {error}") from error
    return HttpDoor()


def _addresses(options: argparse.Namespace) -> list[tuple[str, int, bool]]:
    """Where to listen, and whether for HTTP. Raises ValueError."""
    ws, http = options.ws, options.http
    ways = [("--ws", ws or DEFAULT)] if ws or not http else []
    return [(*address_of(way, text), way == "--http") for way, text in [*ways, *([("--http", http)] if http else [])]]


def run(serve: Callable[[Signals], Awaitable[int]]) -> int:
    """Run what serves, which hears of SIGTERM and SIGINT until it has tidied up; the exit status.

    What Python tidies up after that nobody has to wait for: a signal then ends the process as it would have ended.
    """

    async def hearing() -> int:
        with stop_signals() as signals:  # one for all of them: between two, a signal would kill the process
            status = await serve(signals)
        end_on_signal(status)
        return status

    return anyio.run(hearing)


async def run_server(server: Server, options: argparse.Namespace, name: str, signals: Signals) -> int:
    """Serve until SIGTERM or SIGINT. A second one does not wait for turns, a third for nobody. The exit status."""
    async with anyio.create_task_group() as group:
        for host, port, is_http in _addresses(options):
            try:
                url = await group.start(server.serve, host, port, http_door() if is_http else None)
            except OSError as error:
                print(f"{name}: cannot listen on {host}:{port}: {error}", file=sys.stderr, flush=True)
                group.cancel_scope.cancel()
                return 1
            print(f"{name}: {url}", file=sys.stderr, flush=True)
        await anext(signals)
        group.start_soon(_end, partial(server.drain, options.drain), group.cancel_scope)
        await anext(signals)
        group.start_soon(_end, server.cut, group.cancel_scope)
        await anext(signals)
        group.cancel_scope.cancel()
    return 0


async def _end(how: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
    await how()
    scope.cancel()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a positive number: {text}")
    return int(text)


def positive(text: str) -> float:
    """Seconds, as an option says them."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"not a positive number of seconds: {text}")
    return value
