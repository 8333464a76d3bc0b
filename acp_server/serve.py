"""`acp serve`: the agent for clients on the network, over WebSocket.

By default only this machine gets in, and of it no web page. Without `--token-file` every user and every program of
this machine does; with it, whoever has a token. Off this machine a token and TLS are asked for, unless `--insecure`.

SIGTERM and SIGINT end it: no more connections, turns that run get some seconds, then every connection is closed with
1001 and every child process is killed. A second one does not wait.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import anyio

from acp.transports.websocket import WebSocketTransport

from .agent import Agent, serve
from .command import add_agent_options, add_log_options, agent_of, begin_log, close_model
from .gate import Visitor
from .serving import add_server_options, run_server, server_of
from .websocket_server import Talk, WebSocketServer

DESCRIPTION = """\
A coding agent for clients on the network, over ACP on WebSocket. The endpoint is /acp; its URL is printed on stderr.

By default only this machine gets in, and of it no web page. Without --token-file every user of this machine does. Off
this machine a token file and TLS are asked for, unless --insecure.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp serve", description=DESCRIPTION, formatter_class=raw)
    add_server_options(parser)
    add_agent_options(parser)
    add_log_options(parser)
    options = parser.parse_args(argv)
    try:
        agent = agent_of(options)
        server = server_of(options, talk_of(agent))
        begin_log(options)
    except ValueError as error:
        parser.error(str(error))
    return anyio.run(_run, agent, server, options)


def talk_of(agent: Agent) -> Talk:
    """What a server does with a connection: serve the agent, and of its sessions those of the visitor."""

    async def talk(transport: WebSocketTransport, visitor: Visitor, leaving: anyio.Event) -> None:
        await serve(agent.belonging_to(visitor.principal), transport, leaving=leaving)

    return talk


async def _run(agent: Agent, server: WebSocketServer, options: argparse.Namespace) -> int:
    try:
        return await run_server(server, options, "acp serve")
    finally:
        await close_model(agent)


if __name__ == "__main__":
    sys.exit(main())
