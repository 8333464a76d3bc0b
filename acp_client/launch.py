"""From the name of an agent to a transport: a command line, its words, a URL, or a transport that is there already."""

from __future__ import annotations

import os
import shlex
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from acp.errors import AcpError
from acp.transports import Transport, remote_url
from acp.transports.child import spawn_agent
from acp.transports.cookies import Cookies
from acp.transports.remote import CannotConnect, ClientTransport

Target = str | Sequence[str] | Transport
"""What can be connected to: a command line, a URL of WebSocket or HTTP, a command's words, or a transport."""


class CannotStart(AcpError):
    """The agent could not be started, or did not answer `initialize`."""


@dataclass(frozen=True, slots=True)
class Remote:
    """How to connect to a URL. `tls` replaces the system's trust; `insecure` sends credentials in the clear.

    `cookies` are the server's, which outlive a connection.
    """

    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    tls: ssl.SSLContext | None = None
    insecure: bool = False
    cookies: Cookies = field(default_factory=Cookies)


def own_agent(*arguments: str) -> list[str]:
    """The command that starts this package's agent.

    With -P, for the agent is started in the user's directory and must not import modules from it.
    """
    return [sys.executable, "-P", "-m", "acp_server", *arguments]


async def open_transport(
    target: Target,
    exits: AsyncExitStack,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Transport:
    """The transport to a target that is no URL; a command is started, and ended with `exits`. Raises CannotStart."""
    if not isinstance(target, str | Sequence):
        return target
    argv = _argv(target)
    if cwd is not None:
        _check_directory(cwd)
    try:
        return await exits.enter_async_context(spawn_agent(argv, cwd=cwd, env=env))
    except FileNotFoundError as error:
        raise CannotStart(f"agent command not found: {argv[0]}") from error
    except (OSError, ValueError) as error:
        raise CannotStart(f"the agent cannot be started: {error}") from error


async def open_url(url: str, exits: AsyncExitStack, remote: Remote, *, replaces: Sequence[str] = ()) -> ClientTransport:
    """A connection, closed with `exits`. `replaces` are those that it takes the place of. Raises CannotStart."""
    try:
        opening = remote_url.connect(
            url,
            headers=remote.headers,
            tls=remote.tls,
            insecure=remote.insecure,
            cookies=remote.cookies,
            replaces=replaces,
        )
        return await exits.enter_async_context(opening)
    except (CannotConnect, ValueError) as error:
        raise CannotStart(str(error)) from error


def _argv(target: str | Sequence[str]) -> Sequence[str]:
    if isinstance(target, str):
        try:
            target = shlex.split(target)
        except ValueError as error:
            raise CannotStart(f"the agent command cannot be read ({error}): {target}") from error
    if not target:
        raise CannotStart("the agent command is empty")
    return target


def _check_directory(path: str | os.PathLike[str]) -> None:
    if not os.path.isdir(path):
        raise CannotStart(f"no such directory: {os.fspath(path)}")
