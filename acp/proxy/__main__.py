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
from ..tasks import task_group
from ..transports import Transport
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
    except CannotStart as error:
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


class CannotStart(Exception):
    """A component could not be started."""


async def _run(commands: Sequence[Sequence[str]]) -> int:
    """Run the chain until its client, a component or a signal ends it; the exit status. Raises CannotStart."""
    names = [f"proxy {n} ({words[0]})" for n, words in enumerate(commands[:-1], 1)] + ["the agent"]
    why: str | None = None
    async with task_group(cancel_at_end=True) as group:
        group.start_soon(stop_on_signal, group.cancel_scope)
        # Inside the group and not beside it: what is entered in a scope must be left in it.
        async with AsyncExitStack() as exits:
            components = [(name, await _start(name, words, exits)) for name, words in zip(names, commands, strict=True)]
            client = await exits.enter_async_context(stdio_transport())
            why = await conduct(client, components)
    return 0 if why is None else 1  # a signal ends it well, too


async def _start(name: str, words: Sequence[str], exits: AsyncExitStack) -> Transport:
    """A component, which ends with `exits`. Raises CannotStart."""
    try:
        return await exits.enter_async_context(spawn_agent(words))
    except (OSError, ValueError) as error:
        raise CannotStart(f"{name} cannot be started: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
