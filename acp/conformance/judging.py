"""What the commands that judge have in common: the options of a report, and the report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .report import as_html, as_json, as_junit, line, summary
from .verdicts import Outcome, conformant


def add_judging_options(parser: argparse.ArgumentParser) -> None:
    """Which checks, for how long, and where the reports go."""
    parser.add_argument("--protocol", type=int, choices=[1, 2], default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--junit", metavar="FILE")
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each wait")
    parser.add_argument("--only", metavar="CHECK", action="append", default=[], help="this check alone; repeatable")


def environment(option: str, pairs: Sequence[str]) -> dict[str, str]:
    """Variables by name, of an option's NAME=VALUE. Raises ValueError."""
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise ValueError(f"{option} takes NAME=VALUE, not {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def tell(outcome: Outcome) -> None:
    """Show what came of a check, as soon as it did."""
    print(line(outcome), flush=True)


def report(outcomes: Sequence[Outcome], options: argparse.Namespace) -> int:
    """Write the reports that the options ask for, and say the verdict; 0 if conformant, 1 if not."""
    for name, text in (
        (options.json, lambda: as_json(outcomes, options.protocol)),
        (options.junit, lambda: as_junit(outcomes)),
        (options.html, lambda: as_html(outcomes, options.protocol)),
    ):
        if name:
            Path(name).write_text(text(), encoding="utf-8")
    print(summary(outcomes))
    return 0 if conformant(outcomes) else 1
