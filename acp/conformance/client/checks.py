"""Every check of a client: the cases, what is watched, and what data cannot say (order, bytes, ends, services)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..cases import cases
from ..verdicts import Check
from . import openings, turns
from .part import Part
from .questions import QUESTIONS, icons
from .service import Service
from .services import SERVICES
from .watch import WATCHED

ClientRun = Callable[[Part], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ClientCheck(Check):
    """Something that a client does or does not.

    It is run only where the client announced what it `needs` and did not announce what is under `unless`.
    """

    unless: dict[str, str] | None = None
    rich: bool = False


def _check(
    id: str,
    title: str,
    duties: str,
    run: ClientRun,
    tier: str = "mandatory",
    *,
    open: str = "turn",
    versions: tuple[int, ...] = (1, 2),
    rich: bool = False,
) -> ClientCheck:
    requirements = tuple(f"ACP-{number}" for number in duties.split())
    return ClientCheck(id, title, requirements, tier, versions, open, run=run, rich=rich)


_first = functools.partial(_check, open="nothing")
"""A check that holds the conversation from its first message on."""
ACTIVE = (
    _check("turn.tour", "The client sets up a session and prompts in it", "033 098", turns.tour),
    _first("init.waits", "Nothing comes before initialize is answered", "033", openings.waits),
    _first("init.newer", "A version that was not asked for is not gone on with", "035", openings.newer),
    _first("init.leaves", "Who does not speak the version leaves", "039", openings.leaves, "advisory"),
    _first("init.older", "An older version is spoken as it is, or not at all", "035", openings.older),
    _first("init.refused", "After a failed initialize nothing goes on", "033", openings.refused),
    _first("init.bare", "An agent that announces nothing will do", "040 041", openings.bare),
    _first("init.rich", "An agent that announces all and more will do", "041", openings.rich),
    _first("init.malformed", "Malformed optional members count as absent", "025", openings.malformed, "advisory"),
    _first("auth.login", "Logins go the offered way, prompts wait for a session", "047 098", openings.login),
    _first(
        *("load.early", "Updates come before a loaded session is answered", "064", openings.early_replay, "capability"),
        versions=(1,),
        rich=True,
    ),
    _check(
        "session.options",
        "A session may have options, of any category",
        "155 156",
        openings.options,
        open="initialized",
    ),
    _first("list.pages", "Lists come in pages", "082", openings.pages, rich=True),
    _first("status.open", "An open session is not an attached one", "093", openings.open_elsewhere, rich=True),
    _first("mcp.message", "MCP messages are answered inside", "159", openings.mcp_messages, "capability", rich=True),
    _check("turn.state", "An unknown state ends no turn", "108", turns.unknown_state, versions=(2,)),
    _check("icons.http", "Icons are not loaded over HTTP", "158", icons, versions=(2,)),
    _check("auth.lost", "A lost login is survived", "055", turns.logged_out, "advisory", open="session"),
    _check(
        *("close.unknown", "A closed session may be unknown", "077", openings.closes, "advisory"),
        rich=True,
        versions=(2,),
    ),
    _check("rpc.big", "A message of 8 MiB passes", "002", turns.big, "advisory"),
    _check("rpc.split", "A character's bytes may come one by one", "001 007", turns.split),
    _check("rpc.joined", "Two messages may come in one piece", "002", turns.joined),
    _check("rpc.stderr", "The agent's stderr is read", "005", turns.noise, "advisory"),
    _check("turn.error", "An error in answer to a prompt is survived", "013", turns.failing, open="session"),
    _check("permission.answered", "A permission is answered", "162", turns.permission),
    _check("permission.withdrawn", "A withdrawn question is answered cancelled", "136 029", turns.withdrawn),
    _check("cancel.permission", "Cancelling answers open questions", "126", turns.cancels),
    _check("cancel.late", "Updates after a cancel are taken", "130", turns.late),
    _check("end.dies", "A client whose agent dies in a turn ends", "163", turns.dies, "advisory"),
    _first("end.early", "A client whose agent dies at once ends", "163", turns.dies_early, "advisory"),
)


def _service(service: Service) -> ClientCheck:
    return ClientCheck(
        *(service.id, service.title, service.requirements, service.tier),
        versions=service.versions,
        open="turn",
        needs=service.needs,
        run=service.run,
        unless=service.unless,
    )


def client_checks(version: int) -> list[ClientCheck]:
    """What is checked of a client in a version of the protocol."""
    watched = (ClientCheck(c.id, c.title, c.requirements, c.tier, c.versions) for c in WATCHED)
    told = (
        ClientCheck(c.id, c.description, c.requirements, c.tier, c.protocol, c.open, c.needs, run=c.play)
        for c in cases("client")
    )
    services = (_service(service) for service in (*SERVICES, *QUESTIONS))
    return [check for check in (*ACTIVE, *told, *services, *watched) if version in check.versions]
