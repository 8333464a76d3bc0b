"""`acp check proxy [OPTION]... -- COMMAND`: judge a proxy; the checker is the conductor that it runs under.

What a proxy is made to change is its own affair: the checks are of what it does not know, which passes as it is, and of
initialize, versions, order and cancelling.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import anyio

from ...command_line import missing, split_command
from ..agent.reach import Command
from ..judging import add_judging_options, chosen, conclude, teller
from .checks import proxy_checks
from .run import ProxySettings, check_proxy


def main(argv: Sequence[str] | None = None) -> int:
    """0 if conformant, 1 if not, 2 if the command line makes no sense."""
    words, command = split_command(argv)
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp check proxy", description=__doc__, formatter_class=raw)
    add_judging_options(parser)
    options = parser.parse_args(words)
    try:
        if not command:
            raise ValueError("give the proxy's command after --")
        if problem := missing(command):
            raise ValueError(problem)
        only = chosen(options, proxy_checks(options.protocol))
    except ValueError as error:
        print(f"acp check proxy: {error}", file=sys.stderr)
        return 2
    settings = ProxySettings(
        options.protocol, options.timeout, options.startup_timeout, options.test_timeout, options.jobs
    )
    run = functools.partial(check_proxy, Command(command), settings, only=only, tell=teller(options))
    return conclude(anyio.run(run), options)
