"""What the commands that run an agent have in common: its options, its log, and how it is made of them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import anyio
import anyio.to_thread

from acp.unstable import Unstable

from .agent import Agent
from .backends import NAMES, NamedBackend
from .parts import NOT_OURS
from .permissions import POLICIES
from .storage.opening import FORMS, open_store
from .storage.tables import LEASE

if TYPE_CHECKING:
    from .openai.routed import RoutedBackend

CLOSING = 5.0
"""Seconds that the model, and then the store, get to stop when the agent ends."""


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
        "--sessions",
        "--store",
        metavar="STORE",
        help=f"where sessions are kept: {FORMS} (default: the user's state directory)",
    )
    parser.add_argument(
        "--lease",
        type=_lease,
        default=LEASE,
        metavar="S",
        help="of a database that several processes share: seconds until the sessions of one that died go to another"
        " (default: %(default)g)",
    )
    parser.add_argument(
        "--unstable",
        action="append",
        default=[],
        choices=[name for name in get_args(Unstable) if name not in NOT_OURS],
        help="open a part of the protocol that may still change; may be repeated",
    )


def add_log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-file", metavar="F", help="append the log to a file instead of stderr")
    parser.add_argument("--verbose", action="store_true", help="log more")


def agent_of(options: argparse.Namespace) -> Agent:
    """The agent that the options say. Raises ValueError."""
    chosen = _backend_options(options.backend_option)
    providers: RoutedBackend | None = None
    if "providers" in options.unstable:
        model = providers = _routed(options, chosen)
    else:
        model = NamedBackend(options.backend, options.model, device=options.device, options=chosen)
        model.check()
    name = Path(options.model).name if options.model else options.backend
    try:
        store = open_store(options.sessions, lease=options.lease)
    except ValueError as error:
        raise ValueError(f"--sessions: {error}") from error
    return Agent(
        model, model_name=name, policy=options.allow, store=store, providers=providers, unstable=options.unstable
    )


def _routed(options: argparse.Namespace, chosen: dict[str, str]) -> RoutedBackend:
    """A model at an endpoint that the client may choose; without one, it has to. Raises ValueError."""
    if options.backend != "openai":
        raise ValueError("--unstable providers: only the backend openai has its model somewhere else")
    try:
        from .openai.endpoint import Endpoint, endpoint_of
        from .openai.routed import RoutedBackend
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; install acp-laguna[openai]") from error
    if "base_url" in chosen or "POOLSIDE_STANDALONE_BASE_URL" in os.environ:
        return RoutedBackend(endpoint_of(**{"model": options.model, **chosen}))
    if chosen:
        raise ValueError(f"--backend-option {', '.join(chosen)} needs base_url")
    return RoutedBackend(None, patience=Endpoint("http://127.0.0.1", options.model))


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
    for library in ("httpx2", "httpcore2", "mcp"):  # they log addresses and messages, and secrets may be in either
        logging.getLogger(library).setLevel(logging.WARNING)


def _lease(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"not a number of seconds from 1 to 3600: {text}")
    return seconds


async def close_agent(agent: Agent) -> None:
    """Stop the model, and let go of what the store holds."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(CLOSING):
            await agent.model.aclose()
        with anyio.move_on_after(CLOSING):
            await anyio.to_thread.run_sync(agent.store.close, abandon_on_cancel=True)
