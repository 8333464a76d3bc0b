"""`acp check client [OPTION]... -- COMMAND`: judge a client by the protocol.

COMMAND starts the client and has it prompt once. In it, {agent} stands for the command line of the agent that the
checker plays, as one word ({agent:words}: as words of their own), and {cwd} for the directory the client is started in.

`acp check client --serve SOCKET` waits for an editor instead: give it the agent's command line that is printed, and
talk to the agent. A prompt that names a check plays it, `all` plays all; the verdict comes when the editor ends it.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import anyio

from ...command_line import missing, split_command
from ..judging import add_judging_options, chosen, conclude, environment, teller
from .checks import client_checks
from .run import check_client
from .serve import serve
from .settings import ClientSettings
from .stage import Command, with_agent


def main(argv: Sequence[str] | None = None) -> int:
    """0 if conformant, 1 if not, 2 if the command line makes no sense."""
    words, command = split_command(argv)
    options = _parser().parse_args(words)
    if bool(command) == bool(options.serve):
        return _wrong("give the client's command after --, or --serve SOCKET")
    settings = ClientSettings(
        version=options.protocol,
        timeout=options.timeout,
        startup_timeout=options.startup_timeout,
        test_timeout=options.test_timeout,
        linger=options.linger,
        cwd=options.cwd,
        turn=options.turn,
        interrupt=not options.no_interrupt,
        jobs=options.jobs,
    )
    tell = teller(options)
    try:
        only = chosen(options, client_checks(options.protocol))
        if options.serve:
            run = functools.partial(serve, options.serve, settings, functools.partial(print, flush=True), tell=tell)
        else:
            with_agent(command, [], "")  # for its complaint
            if problem := missing(command):
                raise ValueError(problem)
            reach = Command(command, environment("--env", options.env), options.says)
            run = functools.partial(check_client, reach, settings, only=only, tell=tell)
        return conclude(anyio.run(run), options)
    except (ValueError, OSError) as error:
        return _wrong(str(error))


def _wrong(words: str) -> int:
    print(f"acp check client: {words}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp check client", description=__doc__, formatter_class=raw)
    add_judging_options(parser)
    parser.add_argument("--linger", type=float, default=1.0, help="seconds that a client is heard after its turn")
    parser.add_argument("--cwd", metavar="DIR", help="where to start the client (default: a new directory each time)")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--says", metavar="TEXT", help="what is written to the client's stdin, which is left open then")
    parser.add_argument("--turn", type=int, default=1, metavar="N", help="the checks are about the client's Nth prompt")
    parser.add_argument("--no-interrupt", action="store_true", help="it cancels by itself, without SIGINT")
    parser.add_argument("--serve", metavar="SOCKET", help="wait for an editor")
    return parser
