"""Which agent a command talks to: one that it starts, ours if none is named, or one on the network."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acp.errors import AcpError
from acp.transports.credentials import add_url_options, headers_of
from acp.transports.remote_url import is_url

from ..launch import CannotStart, own_agent


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """A command line or a URL, and what `connect` has to know to reach it."""

    agent: str | list[str]
    is_own: bool
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    insecure: bool = False


def add_target_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cwd", default=".", metavar="DIR", help="the agent's workspace (default: the current directory)")
    add("--agent", metavar="CMD", help="the command line of an ACP agent (default: our own, `acp agent`)")
    add_url_options(parser)
    add("--verbose", action="store_true", help="show the logs of both sides on stderr")
    own = parser.add_argument_group("of our own agent")
    own.add_argument("--backend", metavar="NAME", help="laguna (default), scripted or MODULE:FUNCTION")
    own.add_argument("--model", metavar="DIR", help="a checkpoint directory (default: the embedded model)")
    own.add_argument(
        "--backend-option", action="append", default=[], metavar="K=V", help="an option of the backend; repeatable"
    )
    own.add_argument("--device", metavar="D", help="cuda, mps or cpu (default: the best there is)")


def refused_options(target: TargetOptions, error: AcpError) -> str | None:
    """What our own agent says of options that it does not take, if that is why it cannot be started."""
    if not target.is_own or not isinstance(error, CannotStart) or "it exited with status 2" not in str(error):
        return None
    found = re.search(r"^\s*acp agent: error: (.+)", str(error), re.MULTILINE)
    return found[1] if found else None


def target_of(given: argparse.Namespace, *arguments: str) -> TargetOptions:
    """The agent that was asked for; `arguments` are for ours. Raises OSError, ValueError."""
    if not os.path.isdir(given.cwd):
        raise ValueError(f"--cwd: no such directory: {given.cwd}")
    is_own = given.agent is None and given.url is None
    return TargetOptions(_agent(given, *arguments), is_own, _headers(given), given.insecure)


def _agent(given: argparse.Namespace, *arguments: str) -> str | list[str]:
    url: str | None = given.url
    own = {"--backend": given.backend, "--model": given.model, "--device": given.device}
    if url is not None:
        if given.agent is not None:
            raise ValueError("give --agent or --url, not both")
        if not is_url(url):
            raise ValueError(f"--url: not a URL of ws, wss, http or https: {url}")
    target: str | None = given.agent if url is None else url
    if target is not None:
        own["--backend-option"] = given.backend_option or None
        if wrong := [name for name, value in own.items() if value is not None]:
            raise ValueError(f"{', '.join(wrong)} is for our own agent; say it in --agent's command")
        return target
    if given.model is not None:
        own["--model"] = _model(given.backend, given.model)
    words = [word for name, value in own.items() if value is not None for word in (name, value)]
    words += [word for option in given.backend_option for word in ("--backend-option", option)]
    return own_agent(*arguments, *words, *(["--verbose"] if given.verbose else []))


def _model(backend: str | None, model: str) -> str:
    """A directory from here, for the agent may be somewhere else; a name, on the hub or at an endpoint, stays one."""
    is_name = len(Path(model).parts) == 2 and not os.path.isabs(model) and not os.path.exists(model)
    return model if is_name or backend == "openai" else os.path.abspath(model)


def _headers(given: argparse.Namespace) -> dict[str, str]:
    """The headers of the request that opens a connection. Raises OSError, ValueError."""
    if given.url is None and (given.header or given.token_file or given.insecure):
        raise ValueError("--header, --token-file and --insecure are for --url")
    return headers_of(given.header, given.token_file)
