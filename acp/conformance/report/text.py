"""What came of the checks, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ..verdicts import Outcome, Transcript, conformant


def line(outcome: Outcome) -> str:
    """One row of the terminal's table."""
    check = outcome.check
    duties = " ".join(check.requirements)
    words = f"\n      {outcome.words}" if outcome.words else ""
    return f"{outcome.verdict:<5} {check.tier:<13} {check.id:<25} {check.title}  [{duties}]{words}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """The verdict in a line."""
    counts = {word: sum(o.verdict == word for o in outcomes) for word in ("pass", "fail", "skip")}
    verdict = "CONFORMANT" if conformant(outcomes) else "NOT CONFORMANT"
    return f"{verdict}: {counts['pass']} passed, {counts['fail']} failed, {counts['skip']} not announced"


def shown(transcript: Transcript) -> str:
    """A transcript for people, a text a line."""
    return "\n".join(f"{'→' if who == 'client' else '←'} {text}" for who, text in transcript)
