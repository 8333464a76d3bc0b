"""The `acp check` command: a table of what can be checked, each imported by name when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

COMMANDS: Mapping[str, tuple[str, str]] = {
    "agent": (".agent.command", "judge an agent: a client is played to it"),
    "client": (".client.command", "judge a client: an agent is played to it"),
    "proxy": (".proxy.command", "judge a proxy: a conductor is played to it"),
    "coverage": (".coverage", "say which requirements are judged by which checks"),
    "explore": (".exploring.explore", "look for the shortest conversation that an agent does not bear"),
    "fuzz": (".exploring.fuzz", "throw mutated lines at an agent"),
    "replay": (".replay", "hold one scripted conversation, and show it"),
}
"""Subcommand → the module that has its `main`, and what it does."""
USAGE = 2
EXTRA = ("jsonschema", "hypothesis")
"""What the extra `check` installs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand: 0 if all is well with what was checked, 1 if not, 2 if the command line makes no sense."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        print(_help(), file=sys.stderr)
        return USAGE
    try:
        module = importlib.import_module(COMMANDS[arguments[0]][0], __package__)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(f"acp check needs {error.name}: pip install 'acp-laguna[check]'", file=sys.stderr)
        return USAGE
    return module.main(arguments[1:])


def _help() -> str:
    rows = [f"  {name:<8}  {what}" for name, (_, what) in COMMANDS.items()]
    lines = ["usage: acp check WHAT [OPTION]... -- COMMAND", "", "Judge agents and clients by the protocol.", "", *rows]
    return "\n".join([*lines, "", "acp check WHAT --help says more of one."])


if __name__ == "__main__":
    sys.exit(main())
