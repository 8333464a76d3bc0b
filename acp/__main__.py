"""The `acp` command: a table of subcommands, each imported by name when it is called.

The only place that knows every part of the house; nothing else in `acp` imports upward. It reads no configuration
and sets nothing global, and what was not asked for is not imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import cast

COMMANDS: Mapping[str, tuple[str, str]] = {
    "agent": ("acp_server.__main__:main", "a coding agent, on stdin and stdout"),
    "exec": ("acp_client.cli.exec:main", "give an agent one prompt and watch what it does"),
    "chat": ("acp_client.chat.command:main", "talk with an agent in the terminal"),
    "conductor": ("acp.proxy.__main__:main", "an agent behind a chain of proxies, on stdin and stdout"),
    "check": ("acp.conformance.__main__:main", "judge an agent by the protocol"),
    "serve": ("acp_server.network.serve:main", "our agent for clients on the network, over WebSocket"),
    "bridge": ("acp_server.network.bridge:main", "a stdio agent for the network, or an agent of the network on stdio"),
}
"""Subcommand → where it is, as module:function, and what it is."""

USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(_help(), file=sys.stderr)
        return USAGE
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        print(f"acp {_version()}")
        return 0
    if name not in COMMANDS:
        print(f"acp: no command {name!r}; it is one of {', '.join(COMMANDS)}", file=sys.stderr)
        return USAGE
    module, _, function = COMMANDS[name][0].partition(":")
    try:
        command = cast("Callable[[Sequence[str]], int]", getattr(importlib.import_module(module), function))
        return command(rest)
    except KeyboardInterrupt:
        return 130


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: acp COMMAND [OPTION]...",
            "",
            "The Agent Client Protocol on the command line.",
            "",
            *lines,
            "",
            "acp COMMAND --help says more of one; acp --version says which version this is.",
        ]
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("acp-laguna")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
