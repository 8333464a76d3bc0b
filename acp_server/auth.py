"""Who may use the agent: a part that an agent has or has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from acp.updates import Json


@dataclass(frozen=True, slots=True)
class AuthMethod:
    """A way to log in that the agent runs itself. `extra` is sent on as it is, `_meta` say."""

    id: str
    name: str
    description: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


class Auth(Protocol):
    """Logging in and out. While nobody is logged in, sessions are refused with -32000."""

    @property
    def methods(self) -> Sequence[AuthMethod]:
        """The ways to log in, at least one; their ids differ."""
        ...

    @property
    def logged_in(self) -> bool: ...

    async def login(self, method_id: str) -> None:
        """Log in by one of `methods`. Raises RequestError when it fails."""
        ...

    async def logout(self) -> None: ...


@runtime_checkable
class WithAccounts(Protocol):
    """What an `Auth` may have besides: the accounts that `auth/status` shows (unstable)."""

    @property
    def accounts(self) -> Sequence[Mapping[str, Json]]:
        """Each has a `label`; display words only."""
        ...
