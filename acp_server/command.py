"""What the commands that run an agent have in common: its options, its log, and how it is made of them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import anyio

from .agent import Agent
from .backends import NAMES, NamedBackend
from .parts import Unstable
from .permissions import POLICIES
from .storage.journal import FileStore, default_directory
from .storage.memory import MemoryStore

CLOSING = 5.0
"""Seconds the model gets to stop when the agent ends."""


def add_agent_options(parser: argparse.ArgumentParser) -> None:
    """What an agent is made of."""
    parser.add_argument(
        "--backend",
        default="laguna",
        metavar="NAME",
        help=f"{', '.join(NAMES)} or MODULE:FUNCTION (default: %(default)s)",
    )
    parser.add_argument(
        "--model", metavar="DIR", help="checkpoint directory, or an endpoint's model (default: the embedded model)"
    )
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


def add_log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-file", metavar="F", help="append the log to a file instead of stderr")
    parser.add_argument("--verbose", action="store_true", help="log more")


def agent_of(options: argparse.Namespace) -> Agent:
    """The agent that the options say. Raises ValueError."""
    chosen = _backend_options(options.backend_option)
    model = NamedBackend(options.backend, options.model, device=options.device, options=chosen)
    name = Path(options.model).name if options.model else options.backend
    store = MemoryStore() if options.sessions == "none" else FileStore(options.sessions or default_directory())
    return Agent(model, model_name=name, policy=options.allow, store=store, unstable=options.unstable)


def _backend_options(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts by name. Raises ValueError."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ValueError(f"--backend-option {text!r} is not NAME=VALUE, or comes twice")
        found[name] = value
    return found


def begin_log(options: argparse.Namespace) -> None:
    """Log where the options say. Raises ValueError."""
    try:
        path: str | None = options.log_file
        handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler(sys.stderr)
    except OSError as error:
        raise ValueError(f"--log-file: {error}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.INFO, handlers=[handler])


async def close_model(agent: Agent) -> None:
    with anyio.move_on_after(CLOSING, shield=True):
        await agent.model.aclose()
