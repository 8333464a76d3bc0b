"""`acp check agent [OPTION]... -- COMMAND`: judge an agent by the protocol."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import anyio

from ...command_line import split_command
from ..judging import add_judging_options, environment, report, tell
from .run import CANCEL_PROMPT, Settings, check_agent


def main(argv: Sequence[str] | None = None) -> int:
    """0 if conformant, 1 if not, 2 if the command line makes no sense."""
    words, command = split_command(argv)
    options = _parser().parse_args(words)
    if not command:
        print("acp check agent: give the agent's command after --", file=sys.stderr)
        return 2
    try:
        env = environment("--agent-env", options.agent_env)
    except ValueError as error:
        print(f"acp check agent: {error}", file=sys.stderr)
        return 2
    settings = Settings(
        version=options.protocol,
        timeout=options.timeout,
        cancel_prompt=options.cancel_prompt,
        cwd=options.agent_cwd,
        env=env,
    )
    return report(anyio.run(functools.partial(check_agent, command, settings, only=options.only, tell=tell)), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="acp check agent", description=__doc__)
    add_judging_options(parser)
    parser.add_argument("--cancel-prompt", default=CANCEL_PROMPT, help="a prompt that takes its time")
    parser.add_argument("--agent-cwd", metavar="DIR")
    parser.add_argument("--agent-env", metavar="NAME=VALUE", action="append", default=[])
    return parser
