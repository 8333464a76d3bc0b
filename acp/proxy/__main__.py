"""`acp conductor [--proxy COMMAND]... -- AGENT [ARGUMENT]...`: a chain of proxies, as one agent on stdin and stdout."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio

from ..command_line import split_command
from ..signals import stop_on_signal
from ..transports.child import spawn_agent
from ..transports.stdio import stdio_transport
from .conductor import conduct


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chain; 0 when the client ended it, 1 when a component did."""
    words, agent = split_command(argv)
    parser = _parser()
    options = parser.parse_args(words)
    if not agent:
        parser.error("give the agent's command after --")
    try:
        commands = [*map(shlex.split, options.proxy), agent]
    except ValueError as error:
        parser.error(f"--proxy: {error}")
    if not all(commands):
        parser.error("--proxy: the command is empty")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return anyio.run(_run, commands)
    except OSError as error:
        print(f"acp conductor: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="acp conductor",
        usage="acp conductor [--proxy COMMAND]... -- AGENT [ARGUMENT]...",
        description="An agent behind a chain of proxies; to the client the whole chain is one agent.",
    )
    parser.add_argument(
        "--proxy", metavar="COMMAND", action="append", default=[], help="a proxy's command; the first is the client's"
    )
    return parser


async def _run(commands: Sequence[Sequence[str]]) -> int:
    names = [f"proxy {n} ({words[0]})" for n, words in enumerate(commands[:-1], 1)] + ["the agent"]
    async with AsyncExitStack() as exits, anyio.create_task_group() as group:
        group.start_soon(stop_on_signal, group.cancel_scope)
        components = [
            (name, await exits.enter_async_context(spawn_agent(words)))
            for name, words in zip(names, commands, strict=True)
        ]
        client = await exits.enter_async_context(stdio_transport())
        why = await conduct(client, components)
        group.cancel_scope.cancel()
        return 0 if why is None else 1
    return 0  # a signal ended it


if __name__ == "__main__":
    sys.exit(main())
