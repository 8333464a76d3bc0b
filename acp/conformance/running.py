"""Runs checks: those that hold a conversation, and then those that are watched in all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

import anyio

from ..tasks import task_group
from .side import CheckFailed, Skipped
from .verdicts import Check, Outcome, Sightings

C = TypeVar("C", bound=Check)
Judged = tuple[str, str]
"""A verdict and the words for it."""
Tell = Callable[[Outcome], None]
"""Hears of each outcome as soon as it is known."""


def silent(outcome: Outcome) -> None:
    """Tell nobody."""


async def run_checks(
    every: Sequence[C],
    run: Callable[[C], Awaitable[Outcome]],
    seen: Sightings,
    *,
    only: Collection[str],
    shown_by: Mapping[str, Sequence[str]],
    jobs: int,
    tell: Tell,
) -> tuple[Outcome, ...]:
    """What comes of the checks that `only` names, all if it names none; so many run at once, and add to what is `seen`.

    Where none of them holds a conversation, those are held that show what is watched: `shown_by`, or a tour.
    """
    chosen = [check for check in every if not only or check.id in only]
    active = [check for check in chosen if check.run is not None]
    if not active:
        shows = {id for check in chosen for id in shown_by.get(check.id, ("turn.tour",))}
        active = [check for check in every if check.id in shows]
    found = dict[str, Outcome]()
    limit = anyio.CapacityLimiter(jobs)

    async def one(check: C) -> None:
        async with limit:
            outcome = await run(check)
        if check in chosen:
            found[check.id] = outcome
            tell(outcome)

    async with task_group() as group:
        for check in active:
            group.start_soon(one, check)
    for check in chosen:
        if check.run is None:
            found[check.id] = outcome = seen.outcome(check)
            tell(outcome)
    return tuple(found[check.id] for check in chosen)


async def judged(hold: Callable[[], Awaitable[None]]) -> Judged:
    """What comes of holding a conversation."""
    try:
        await hold()
    except Skipped as reason:
        return "skip", str(reason)
    except CheckFailed as failure:
        return "fail", str(failure)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return "fail", f"an answer has another shape than it should: {error!r}"
    return "pass", ""
