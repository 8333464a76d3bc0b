"""`acp check coverage [--protocol N] [--missing]`: which requirement is judged by which checks, and which by none."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from .agent.checks import checks
from .client.checks import client_checks
from .proxy.checks import proxy_checks
from .requirements import Requirement, requirements

SIDES = ("agent", "client", "proxy")


@dataclass(frozen=True, slots=True)
class Coverage:
    """The checks of each side that judge a requirement in a version of the protocol."""

    requirement: Requirement
    agent: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    proxy: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        return bool(self.agent or self.client or self.proxy)

    def of(self, side: str) -> tuple[str, ...]:
        return getattr(self, side)

    @property
    def missing(self) -> bool:
        """Is there a side whose duty it is, at which it is not judged, without a reason?"""
        duty = self.requirement
        return not duty.unobservable and not all(self.of(side) or side in duty.unseen for side in duty.sides)

    def line(self) -> str:
        duty = self.requirement
        found = [f"{side}: {' '.join(ids)}" for side in SIDES if (ids := self.of(side))]
        found += [f"not the {side}: {reason}" for side, reason in duty.unseen.items()]
        none = f"not observable: {duty.unobservable}" if duty.unobservable else "NOT JUDGED"
        told = "; ".join(found) or none
        return f"{duty.id}  {duty.level:<6}  {duty.who:<6}  {duty.text}\n           {told}"


def coverage(version: int) -> list[Coverage]:
    """Each requirement of a version, with what judges it."""
    every = {"agent": checks(version), "client": client_checks(version), "proxy": proxy_checks(version)}
    return [
        Coverage(duty, **{side: tuple(c.id for c in found if id in c.requirements) for side, found in every.items()})
        for id, duty in requirements(version).items()
    ]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requirements there are, are judged, and no wire shows; of those that bind both sides, at how many."""

    every: int
    judged: int
    unseen: int
    both: int
    one_side: int

    def line(self) -> str:
        return (
            f"{self.every} requirements, {self.judged} judged, {self.unseen} that no wire shows; {self.both} bind both "
            f"sides and are judged, at {self.one_side} of them one side's part is not to be seen"
        )


def counts(*versions: int) -> Counts:
    """Over some versions of the protocol."""
    rows: dict[str, list[Coverage]] = {}
    for row in (row for version in versions for row in coverage(version)):
        rows.setdefault(row.requirement.id, []).append(row)
    judged = {id: found for id, found in rows.items() if any(row.judged for row in found)}
    both = [found for found in judged.values() if found[0].requirement.who == "both"]
    one_side = [found for found in both if any(row.requirement.unseen for row in found)]
    unseen = sum(found[0].requirement.unobservable is not None for found in rows.values())
    return Counts(len(rows), len(judged), unseen, len(both), len(one_side))


def main(argv: Sequence[str] | None = None) -> int:
    """0 if every requirement that can be seen is judged, 1 if not."""
    parser = argparse.ArgumentParser(prog="acp check coverage", description=__doc__)
    parser.add_argument("--protocol", type=int, choices=[1, 2], action="append", help="of this version; default: both")
    parser.add_argument("--missing", action="store_true", help="only what is not judged and could be")
    options = parser.parse_args(argv)
    missing = False
    for version in options.protocol or (1, 2):
        rows = coverage(version)
        print(f"Version {version}: {counts(version).line()}\n")
        for row in rows:
            if row.missing or not options.missing:
                print(row.line())
        print()
        missing |= any(row.missing for row in rows)
    print(f"Both versions: {counts(1, 2).line()}")
    return 1 if missing else 0
