"""What a client may ask that the protocol may still change; the requests are the same in both versions.

Each needs its name in `Host.unstable` and an agent that has announced it; otherwise LocalProtocolError is raised before
a byte is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from acp.activity import hear_state
from acp.pieces import rest
from acp.updates import Json, State

from .surface import Surface

Archived = Literal["exclude", "include", "only"]
"""Which sessions are listed: those that are not archived, all of them, or those that are."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """Whether an agent has a session in memory (`open`) or on its disk (`saved`), and what it does; None: unsaid."""

    status: Literal["open", "saved"]
    state: State | None = None


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """Whether sessions can be opened without logging in first, and the accounts there are, as they are on the wire.

    Accounts are for the user's eyes; they are neither to be logged nor sent elsewhere.
    """

    state: Literal["authenticated", "unauthenticated", "not_required", "unknown"]
    accounts: tuple[Mapping[str, Json], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Provider:
    """Where an agent has its model from. Without an `api_type` and a `base_url` it is disabled."""

    id: str
    supported: tuple[str, ...]
    required: bool
    api_type: str | None = None
    base_url: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


class Drafts:
    """The requests, over a client's connection. Each raises RequestError, ConnectionClosed, LocalProtocolError."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface

    async def archive(self, id: str) -> None:
        await self._ask("session/archive", sessionId=id)

    async def unarchive(self, id: str) -> None:
        await self._ask("session/unarchive", sessionId=id)

    async def status(self, id: str) -> SessionStatus:
        answer = await self._ask("session/status", sessionId=id)
        state: Json = answer.get("state")
        # A status that we do not know is as good as saved (session/status).
        status: Literal["open", "saved"] = "open" if answer["status"] == "open" else "saved"
        return SessionStatus(status, None if state is None else hear_state(state))

    async def set_title(self, id: str, title: str) -> str:
        """The title as the agent has it now."""
        answer = await self._ask("session/set_title", sessionId=id, title=title)
        return str(answer["title"])

    async def auth_status(self) -> AuthStatus:
        return auth_status(await self._ask("auth/status"))

    async def providers(self) -> list[Provider]:
        answer = await self._ask("providers/list")
        return [_provider(raw) for raw in answer["providers"]]

    async def set_provider(self, id: str, api_type: str, base_url: str, headers: Mapping[str, str] | None) -> None:
        given = {} if headers is None else {"headers": dict(headers)}
        await self._ask("providers/set", providerId=id, apiType=api_type, baseUrl=base_url, **given)

    async def disable_provider(self, id: str) -> None:
        await self._ask("providers/disable", providerId=id)

    async def _ask(self, name: str, **params: Json) -> dict[str, Json]:
        method = self._surface.dialect.methods[name]
        return (await self._surface.connection.call(method, method.params.decode(params))).encode()


def auth_status(raw: Mapping[str, Json]) -> AuthStatus:
    """What an answer or a notification says. A state that we do not know is `unknown` (auth/status)."""
    match raw.get("state"):
        case "authenticated" | "unauthenticated" | "not_required" as state:
            return AuthStatus(state, tuple(raw.get("accounts") or ()))
        case _:
            return AuthStatus("unknown", tuple(raw.get("accounts") or ()))


def _provider(raw: Mapping[str, Json]) -> Provider:
    current: Mapping[str, Json] = raw.get("current") or {}
    return Provider(
        raw["providerId"],
        tuple(raw["supported"]),
        raw["required"],
        current.get("apiType"),
        current.get("baseUrl"),
        extra=rest(raw, "providerId", "supported", "required", "current"),
    )
