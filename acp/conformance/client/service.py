"""A check of one thing that a client does for its agent, or is not to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..walking import Object
from .part import Part


@dataclass(frozen=True, slots=True)
class Service:
    """A check of one thing that a client does for an agent."""

    id: str
    title: str
    requirements: tuple[str, ...]
    run: Callable[[Part], Awaitable[None]]
    needs: dict[str, str] | None = None
    unless: dict[str, str] | None = None
    versions: tuple[int, ...] = (1,)
    tier: str = "capability"


def absent(id: str, title: str, gate: dict[str, str], run: Callable[[Part], Awaitable[None]]) -> Service:
    """A check that what was not announced is not done."""
    more: dict[str, Any] = {"unless": gate, "versions": (1, 2), "tier": "mandatory"}
    return Service(id, title, ("ACP-040",), run, **more)


async def refused(part: Part, method: str, params: Object) -> None:
    """A request about the session is answered with an error, or the check fails."""
    await part.refused(method, {"sessionId": part.variables["session"], **params})
