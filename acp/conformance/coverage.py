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

    def line(self) -> str:
        duty = self.requirement
        found = [f"{side}: {' '.join(ids)}" for side in SIDES if (ids := getattr(self, side))]
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


def counts() -> tuple[int, int, int]:
    """Over both versions: requirements, those that are judged, those that no wire shows."""
    rows = {row.requirement.id: row for version in (1, 2) for row in coverage(version)}
    judged = {row.requirement.id for version in (1, 2) for row in coverage(version) if row.judged}
    return len(rows), len(judged), sum(row.requirement.unobservable is not None for row in rows.values())


def main(argv: Sequence[str] | None = None) -> int:
    """0 if every requirement that can be seen is judged, 1 if not."""
    parser = argparse.ArgumentParser(prog="acp check coverage", description=__doc__)
    parser.add_argument("--protocol", type=int, choices=[1, 2], action="append", help="of this version; default: both")
    parser.add_argument("--missing", action="store_true", help="only what is not judged")
    options = parser.parse_args(argv)
    missing = False
    for version in options.protocol or (1, 2):
        rows = coverage(version)
        judged = sum(row.judged for row in rows)
        print(f"Version {version}: {len(rows)} requirements, {judged} judged, {len(rows) - judged} not\n")
        for row in rows:
            if not (options.missing and row.judged):
                print(row.line())
        print()
        missing |= any(not row.judged and not row.requirement.unobservable for row in rows)
    every, judged, unseen = counts()
    print(f"Both versions: {every} requirements, {judged} judged, {unseen} that no wire shows")
    return 1 if missing else 0
