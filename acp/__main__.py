"""The `acp` command: the one place that knows every package, and imports only the one that is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

COMMANDS = {
    "agent": ("acp_server.__main__", "the agent, on stdin and stdout"),
    "exec": ("acp_client.exec", "one prompt to an agent, without an editor"),
}


def usage() -> str:
    rows = "\n".join(f"  {name:8} {what}" for name, (_, what) in COMMANDS.items())
    return f"usage: acp COMMAND [OPTIONS]\n\n{rows}\n\nacp COMMAND --help says more; acp --version says which."


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    match arguments:
        case [("-h" | "--help"), *_]:
            print(usage())
            return 0
        case ["--version", *_]:
            print(f"acp-laguna {version('acp-laguna')}")
            return 0
        case [name, *rest] if name in COMMANDS:
            return int(import_module(COMMANDS[name][0]).main(rest))
        case [name, *_]:
            print(f"acp: there is no command {name!r}\n\n{usage()}", file=sys.stderr)
        case _:
            print(usage(), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
