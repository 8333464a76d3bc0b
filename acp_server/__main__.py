"""The agent on stdin and stdout: `acp agent`, `python -m acp_server`.

Messages go through stdout and nothing else does; the log goes to stderr or to a file. The end of stdin,
SIGTERM and SIGINT end every turn, kill every child process and then the agent, with exit status 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import anyio

from acp.signals import stop_on_signal
from acp.transports.stdio import stdio_transport

from .agent import Agent, serve
from .command import add_agent_options, add_log_options, agent_of, begin_log, close_agent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; the exit status."""
    parser = argparse.ArgumentParser(prog="acp agent", description="A coding agent, over ACP on stdin and stdout.")
    add_agent_options(parser)
    add_log_options(parser)
    options = parser.parse_args(argv)
    try:
        agent = agent_of(options)
        begin_log(options)
    except ValueError as error:
        parser.error(str(error))
    anyio.run(_run, agent)
    return 0


async def _run(agent: Agent) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(stop_on_signal, group.cancel_scope)
        async with stdio_transport() as transport:
            await serve(agent.alone(), transport)
        group.cancel_scope.cancel()
    await close_agent(agent)


if __name__ == "__main__":
    sys.exit(main())
