"""The agent on stdin and stdout: `acp agent`, `python -m acp_server`.

Messages go through stdout and nothing else does; the log goes to stderr or to a file. The end of stdin,
SIGTERM and SIGINT end every turn, kill every child process and then the agent, with exit status 0.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import anyio

from acp.transports.stdio import stdio_transport

from .agent import Agent, serve
from .backends import NAMES, NamedBackend
from .journal import FileStore, default_directory
from .parts import Unstable
from .permissions import POLICIES
from .store import MemoryStore

CLOSING = 5.0
"""Seconds the model gets to stop when the agent ends."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent; the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        chosen = _options(options.backend_option)
        model = NamedBackend(options.backend, options.model, device=options.device, options=chosen)
    except ValueError as error:
        parser.error(str(error))
    try:
        _log_to(options.log_file, options.verbose)
    except OSError as error:
        parser.error(f"--log-file: {error}")
    name = Path(options.model).name if options.model else options.backend
    store = MemoryStore() if options.sessions == "none" else FileStore(options.sessions or default_directory())
    agent = Agent(model, model_name=name, policy=options.allow, store=store, unstable=options.unstable)
    anyio.run(_run, agent)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="acp agent", description="A coding agent, over ACP on stdin and stdout.")
    parser.add_argument(
        "--backend",
        default="laguna",
        metavar="NAME",
        help=f"{', '.join(NAMES)} or MODULE:FUNCTION (default: %(default)s)",
    )
    parser.add_argument("--model", metavar="DIR", help="checkpoint directory (default: the embedded model)")
    parser.add_argument("--device", metavar="D", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--backend-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the backend's own, such as weights=int8; may be repeated",
    )
    parser.add_argument(
        "--allow", choices=POLICIES, default="ask", help="what goes without asking (default: %(default)s)"
    )
    parser.add_argument(
        "--sessions", metavar="DIR", help="where sessions are kept; none: nowhere (default: the user's state directory)"
    )
    parser.add_argument(
        "--unstable",
        action="append",
        default=[],
        choices=get_args(Unstable),
        help="open a part of the protocol that may still change; may be repeated",
    )
    parser.add_argument("--log-file", metavar="F", help="append the log to a file instead of stderr")
    parser.add_argument("--verbose", action="store_true", help="log more")
    return parser


def _options(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts by name. Raises ValueError."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ValueError(f"--backend-option {text!r} is not NAME=VALUE, or comes twice")
        found[name] = value
    return found


def _log_to(path: str | None, verbose: bool) -> None:
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


async def _run(agent: Agent) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope)
        async with stdio_transport() as transport:
            await serve(agent, transport)
        group.cancel_scope.cancel()
    with anyio.move_on_after(CLOSING, shield=True):
        await agent.model.aclose()


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


if __name__ == "__main__":
    sys.exit(main())
