"""Every check of an agent: the cases, what is watched, and what data cannot say (order, races, ends)."""

from __future__ import annotations

from ..cases import Case, cases
from . import drafts, openings, options, servers, services, sessions, turns
from .check import AgentCheck
from .watch import WATCHED

ACTIVE = tuple(
    check for part in (openings, turns, sessions, servers, options, services, drafts) for check in part.CHECKS
)


def checks(version: int) -> list[AgentCheck]:
    """What is checked of an agent in a version of the protocol."""
    watched = (AgentCheck(c.id, c.title, c.requirements, c.tier, c.versions) for c in WATCHED)
    every = (*ACTIVE, *map(_told, cases()), *watched)
    return [check for check in every if version in check.versions]


def _told(case: Case) -> AgentCheck:
    return AgentCheck(
        *(case.id, case.description, case.requirements, case.tier, case.protocol, case.open, case.needs), run=case.play
    )
