"""`acp check agent [OPTION]... -- COMMAND`: judge an agent by the protocol.

`acp check client` judges a client, `acp check explore` looks for conversations that an agent does not bear, and
`acp check replay` plays one again.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Sequence

import anyio

from ..command_line import split_command
from .judging import add_judging_options, environment, report, tell
from .run import CANCEL_PROMPT, Settings, check_agent

OTHERS = {"client": ".client_command", "replay": ".replay", "explore": ".explore"}
"""What else is checked, and by which module: it is imported when it is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 if conformant, 1 if not, 2 if the command line makes no sense."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in OTHERS:
        return importlib.import_module(OTHERS[arguments[0]], __package__).main(arguments[1:])
    words, command = split_command(arguments)
    options = _parser().parse_args(words)
    if not command:
        print("acp check: give the agent's command after --", file=sys.stderr)
        return 2
    try:
        env = environment("--agent-env", options.agent_env)
    except ValueError as error:
        print(f"acp check: {error}", file=sys.stderr)
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
    parser = argparse.ArgumentParser(prog="acp check", description=__doc__)
    parser.add_argument("side", choices=["agent"])
    add_judging_options(parser)
    parser.add_argument("--cancel-prompt", default=CANCEL_PROMPT, help="a prompt that takes its time")
    parser.add_argument("--agent-cwd", metavar="DIR")
    parser.add_argument("--agent-env", metavar="NAME=VALUE", action="append", default=[])
    return parser


if __name__ == "__main__":
    sys.exit(main())
