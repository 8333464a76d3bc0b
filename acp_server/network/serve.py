"""`acp serve`: the agent for clients on the network, over WebSocket and Streamable HTTP.

By default only this machine gets in, and of it no web page. Without `--token-file` every user and every program of
this machine does; with it, whoever has a token. Off this machine a token and TLS are asked for, unless `--insecure`.

A session outlives a connection that breaks (`shelter`); one that its client closes, with 1000 or DELETE, ends its
sessions.

SIGTERM and SIGINT end it: nobody new gets in (503), turns that run get some seconds, then every connection is closed
with 1001 and every child process is killed. A second one does not wait for turns, a third not for farewells either; no
signal disturbs what is tidied up after that. Over HTTP a farewell is the last line of each stream of events, and new
requests of a connection are refused as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from ..agent import Agent, serve
from ..command import add_agent_options, add_log_options, agent_of, begin_log, close_agent
from ..shelter import GRACE, Shelter
from .gate import Visitor
from .server import Server
from .serving import Signals, add_server_options, positive, run, run_server, server_of
from .visits import ServedTransport

DESCRIPTION = """\
A coding agent for clients on the network, over ACP on WebSocket or Streamable HTTP. The endpoint is /acp; its URL is
printed on stderr.

By default only this machine gets in, and of it no web page. Without --token-file every user of this machine does. Off
this machine a token file and TLS are asked for, unless --insecure.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp serve", description=DESCRIPTION, formatter_class=raw)
    add_server_options(parser)
    help = "how long a session waits for a client that was lost (default: %(default)g s)"
    parser.add_argument("--grace", type=positive, default=GRACE, metavar="S", help=help)
    add_agent_options(parser)
    add_log_options(parser)
    options = parser.parse_args(argv)
    try:
        agent = agent_of(options)
        talk = AgentTalk(agent)
        server = server_of(options, talk)
        begin_log(options)
    except ValueError as error:
        parser.error(str(error))
    return run(partial(_serve, agent, talk, server, options))


class AgentTalk:
    """What a server does with a connection: serve the agent, and of its sessions those of the visitor."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._shelter: Shelter | None = None

    async def __call__(self, transport: ServedTransport, visitor: Visitor, leaving: anyio.Event) -> None:
        agent = self._agent.belonging_to(visitor.principal, self._shelter)
        await serve(agent, transport, leaving=leaving, was_lost=lambda: transport.was_lost)

    @asynccontextmanager
    async def sheltering(self, grace: float) -> AsyncGenerator[Shelter]:
        """While the block lasts, sessions outlive a connection that was lost by some seconds."""
        async with anyio.create_task_group() as group:
            self._shelter = Shelter(group, grace)
            try:
                yield self._shelter
            finally:
                with anyio.CancelScope(shield=True):
                    await self._shelter.aclose()
                group.cancel_scope.cancel()


async def _serve(agent: Agent, talk: AgentTalk, server: Server, options: argparse.Namespace, signals: Signals) -> int:
    try:
        async with talk.sheltering(options.grace):
            return await run_server(server, options, "acp serve", signals)
    finally:
        await close_agent(agent)


if __name__ == "__main__":
    sys.exit(main())
