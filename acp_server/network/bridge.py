"""`acp bridge`: stdio on one side, WebSocket or Streamable HTTP on the other. Texts pass untouched.

`acp bridge -- COMMAND` serves any agent that speaks on stdin and stdout, a fresh process for each connection: the same
gate and the same limits as `acp serve`. The process ends with its connection, and its connection with it: with 1000
when it ended well, with 1011 when it did not. What it says on stderr stays in this machine's log.

`acp bridge --url URL` is an agent on stdin and stdout, for an editor, that is somewhere else.

A bridge does not know what it passes: the sessions are the agent's, principals are told apart by their processes only,
and on SIGTERM connections are closed at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial

import anyio

from acp.command_line import missing, split_command
from acp.signals import stop_on_signal
from acp.transports import Transport
from acp.transports.child import spawn_agent
from acp.transports.credentials import add_url_options, headers_of
from acp.transports.relay import relay
from acp.transports.remote import CannotConnect, ClientTransport
from acp.transports.remote_url import connect
from acp.transports.stdio import stdio_transport

from ..command import add_log_options, begin_log
from .gate import Visitor
from .serving import add_server_options, run, run_server, server_of
from .visits import ServedTransport, Talk

log = logging.getLogger(__name__)

USAGE = """acp bridge [OPTION]... -- COMMAND...
       acp bridge --url URL [OPTION]..."""
DESCRIPTION = """\
Join stdio and the network: serve a stdio agent to the network, a process for each connection; or, with --url, be a
stdio agent in front of one on the network.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bridge; the exit status."""
    ours, command = split_command(argv)
    if any(word == "--url" or word.startswith("--url=") for word in ours):
        return _to_network(ours, command)
    return _from_network(ours, command)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog="acp bridge", description=DESCRIPTION, formatter_class=raw, usage=USAGE)


# A stdio agent for the network -----------------------------------------------------------------------------


def _from_network(arguments: Sequence[str], command: Sequence[str]) -> int:
    parser = _parser()
    add_server_options(parser)
    add_log_options(parser)
    options = parser.parse_args(arguments)
    if not command:
        parser.error("give -- COMMAND, or --url URL")
    if problem := missing(command):
        parser.error(problem)
    try:
        server = server_of(options, talk_of(command))
        begin_log(options)
    except ValueError as error:
        parser.error(str(error))
    return run(partial(run_server, server, options, "acp bridge"))


def talk_of(command: Sequence[str]) -> Talk:
    """What a server does with a connection: join it to a process of its own."""

    async def talk(transport: ServedTransport, visitor: Visitor, leaving: anyio.Event) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_leave, leaving, group.cancel_scope)
            try:
                async with spawn_agent(command) as child:
                    if await relay(transport, child) is child:
                        transport.farewell = 1000, "the agent ended"
                        if (code := child.process.returncode) != 0:
                            transport.farewell = 1011, f"the agent ended with status {code}"
                            log.warning("the agent of %s ended: %s", visitor.address, child.epitaph())
                        await transport.aclose()
            except (OSError, ValueError) as error:
                log.error("the agent cannot be started: %s", error)
                transport.farewell = 1011, "the agent cannot be started"
            group.cancel_scope.cancel()

    return talk


async def _leave(leaving: anyio.Event, scope: anyio.CancelScope) -> None:
    await leaving.wait()
    scope.cancel()


# A stdio agent that is elsewhere -----------------------------------------------------------------------------


def _to_network(arguments: Sequence[str], command: Sequence[str]) -> int:
    parser = _parser()
    add_url_options(parser)
    add_log_options(parser)
    options = parser.parse_args(arguments)
    if command:
        parser.error("give -- COMMAND or --url URL, not both")
    try:
        headers = headers_of(options.header, options.token_file)
        begin_log(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return anyio.run(_join, options, headers)


async def _join(options: argparse.Namespace, headers: dict[str, str]) -> int:
    status = 0
    async with anyio.create_task_group() as group:
        group.start_soon(stop_on_signal, group.cancel_scope)
        try:
            async with connect(options.url, headers=headers, insecure=options.insecure) as remote:
                async with stdio_transport() as here:
                    status = await _between(here, remote)
        except (CannotConnect, ValueError) as error:
            print(f"acp bridge: {error}", file=sys.stderr, flush=True)
            status = 1
        group.cancel_scope.cancel()
    return status


async def _between(here: Transport, remote: ClientTransport) -> int:
    """Pass texts between an editor and a server; the exit status."""
    if await relay(here, remote) is here or remote.ended_well:
        return 0
    print(f"acp bridge: {remote.epitaph() or 'the connection ended'}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
