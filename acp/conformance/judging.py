"""What the commands that judge have in common: the options of a report, and the report."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from .report import as_html, as_json, as_junit, line, summary
from .verdicts import Check, Outcome, Report


def add_judging_options(parser: argparse.ArgumentParser) -> None:
    """Which checks, for how long, and where the reports go."""
    add = parser.add_argument
    add("--protocol", "--protocol-version", type=int, choices=[1, 2], default=1, help="the version to judge by")
    add("--json", "--report-json", metavar="FILE")
    add("--junit", metavar="FILE")
    add("--html", metavar="FILE", help="one page for a browser, which needs nothing else")
    add("--timeout", type=_seconds, default=10.0, metavar="S", help="seconds for each wait (10)")
    add("--startup-timeout", type=_seconds, metavar="S", help="seconds for the first message (as --timeout)")
    add("--test-timeout", type=_seconds, metavar="S", help="seconds for a check (three times the longer of the two)")
    add("--jobs", type=_count, default=1, metavar="N", help="checks that run at once (1)")
    add("--only", metavar="CHECK", action="append", default=[], help="this check alone; repeatable")
    add("-k", metavar="WORD", dest="word", default="", help="only checks whose id has this in it")
    add("-q", "--quiet", action="store_true", help="say nothing of checks that passed or had nothing to judge")


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("seconds are more than 0")
    return seconds


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def chosen(options: argparse.Namespace, checks: Sequence[Check]) -> list[str]:
    """The checks that the options name; none where they name none. Raises ValueError for one that there is not."""
    ids = [check.id for check in checks]
    if unknown := [id for id in options.only if id not in ids]:
        raise ValueError(f"there is no check {unknown[0]!r} in version {options.protocol}; they are {', '.join(ids)}")
    found = [id for id in ids if options.word in id] if options.word else []
    if options.word and not found:
        raise ValueError(f"no check has {options.word!r} in its id")
    return [*options.only, *found]


def environment(option: str, pairs: Sequence[str]) -> dict[str, str]:
    """Variables by name, of an option's NAME=VALUE. Raises ValueError."""
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise ValueError(f"{option} takes NAME=VALUE, not {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def teller(options: argparse.Namespace) -> Callable[[Outcome], None]:
    """Shows what came of a check, as soon as it did."""

    def tell(outcome: Outcome) -> None:
        if outcome.verdict == "fail" or not options.quiet:
            print(line(outcome), flush=True)

    return tell


def conclude(report: Report, options: argparse.Namespace) -> int:
    """Write the reports that the options ask for, and say the verdict; 0 if conformant, 1 if not."""
    for name, write in ((options.json, as_json), (options.junit, as_junit), (options.html, as_html)):
        if name:
            Path(name).write_text(write(report), encoding="utf-8")
    print(summary(report))
    return 0 if report.conformant else 1
