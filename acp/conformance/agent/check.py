"""A check of an agent that has a conversation of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..verdicts import Check
from .conversation import Conversation

Run = Callable[[Conversation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AgentCheck(Check):
    """Something that an agent does or does not.

    In a `rich` check the client announces and does all that a client can. `carriers` are those that it makes sense
    over; none means all.
    """

    rich: bool = False
    carriers: tuple[str, ...] = ()


def check(
    id: str,
    title: str,
    duties: str,
    run: Run,
    tier: str = "mandatory",
    *,
    versions: tuple[int, ...] = (1, 2),
    open: str = "session",
    needs: dict[str, str] | None = None,
    rich: bool = False,
    carriers: tuple[str, ...] = (),
) -> AgentCheck:
    """A check that judges requirements, given by their numbers."""
    requirements = tuple(f"ACP-{number}" for number in duties.split())
    return AgentCheck(id, title, requirements, tier, versions, open, needs, run, rich, carriers)


def session_needs(name: str) -> dict[str, str]:
    """The capability of sessions by which each version announces something."""
    return {"1": f"sessionCapabilities.{name}", "2": f"session.{name}"}
