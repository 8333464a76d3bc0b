"""`acp check agent [OPTION]... -- COMMAND`, `acp check agent --url URL [OPTION]...`: judge an agent by the protocol.

Each check has a fresh process, or a fresh connection. Options named after the official compatibility kit's mean what
they mean there. The prompts are for agents that do what they are told: a check whose prompt does not bring what it
needs says that it had nothing to judge.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import anyio

from ...command_line import missing, split_command
from ...transports.credentials import add_url_options, headers_of
from ..judging import add_judging_options, chosen, conclude, environment, teller
from .checks import checks
from .reach import CLOSE_GRACE, Address, Command, Reach
from .run import check_agent
from .settings import PROMPTS, AgentSettings


def main(argv: Sequence[str] | None = None) -> int:
    """0 if conformant, 1 if not, 2 if the command line makes no sense."""
    words, command = split_command(argv)
    options = _parser().parse_args(words)
    try:
        if problem := missing(command):
            raise ValueError(problem)
        only = chosen(options, checks(options.protocol))
        reach = _reach(options, command)
    except (ValueError, OSError) as error:
        print(f"acp check agent: {error}", file=sys.stderr)
        return 2
    settings = AgentSettings(
        version=options.protocol,
        timeout=options.timeout,
        startup_timeout=options.startup_timeout,
        test_timeout=options.test_timeout,
        prompts={name: text for name in PROMPTS if (text := getattr(options, f"{name}_prompt")) is not None},
        session_cwd=options.session_cwd,
        auth_method=options.auth_method,
        allow_logout=options.allow_logout,
        jobs=options.jobs,
    )
    return conclude(
        anyio.run(functools.partial(check_agent, reach, settings, only=only, tell=teller(options))), options
    )


def _reach(options: argparse.Namespace, command: Sequence[str]) -> Reach:
    if bool(command) == bool(options.url):
        raise ValueError("give the agent's command after --, or --url URL")
    if options.url:
        return Address(options.url, headers_of(options.header, options.token_file), options.insecure)
    return Command(command, options.agent_cwd, environment("--agent-env", options.agent_env), options.close_grace)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp check agent", description=__doc__, formatter_class=raw)
    add_judging_options(parser)
    add = parser.add_argument
    add("--agent-cwd", metavar="DIR", help="where the agent is started (here)")
    add("--session-cwd", metavar="DIR", help="where its sessions work, on its machine (a new directory each time)")
    add("--agent-env", metavar="NAME=VALUE", action="append", default=[], help="a variable for the agent; repeatable")
    add("--close-grace", type=float, default=CLOSE_GRACE, metavar="S", help="seconds to end in, at each step (0.5)")
    add("--auth-method", metavar="ID", help="log in with this method after initialize")
    add("--allow-logout", action="store_true", help="log out where a check asks for it")
    prompts = parser.add_argument_group("prompts")
    for name, (text, what) in PROMPTS.items():
        prompts.add_argument(f"--{name}-prompt", metavar="TEXT", help=f"{what} ({text!r})".replace("%", "%%"))
    add_url_options(parser)
    return parser
