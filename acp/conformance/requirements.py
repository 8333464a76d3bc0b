"""The requirements that are judged, read from `spec/requirements`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .facts import read


@dataclass(frozen=True, slots=True)
class Requirement:
    """One duty of one side or of both; `unobservable` says why no wire can show it, where none can.

    `unseen` says the same of one side's part in a duty of both: side → reason.
    """

    id: str
    who: str
    level: str
    versions: tuple[int, ...]
    text: str
    gate: str | None
    page: str
    aliases: tuple[str, ...]
    stage: str = "stable"
    unobservable: str | None = None
    unseen: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def sides(self) -> tuple[str, ...]:
        """Whose duty it is."""
        return ("agent", "client") if self.who == "both" else (self.who,)


def requirements(version: int) -> dict[str, Requirement]:
    """Every requirement of a version of the protocol, by its id."""
    rows: list[dict[str, Any]] = read("requirements", f"v{version}.json")
    found: dict[str, Requirement] = {}
    for row in rows:
        lists: dict[str, Any] = {key: tuple(row[key]) for key in ("versions", "aliases")}
        found[row["id"]] = Requirement(**(row | lists))
    return found
