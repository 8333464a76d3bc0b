"""What came of the checks, for a terminal."""

from __future__ import annotations

from ..verdicts import TIERS, VERDICTS, Outcome, Report, Transcript


def line(outcome: Outcome) -> str:
    """One row of the terminal's table."""
    check = outcome.check
    duties = " ".join(check.requirements)
    words = f"\n      {outcome.words}" if outcome.words else ""
    return f"{outcome.verdict:<5} {check.tier:<13} {check.id:<25} {check.title}  [{duties}]{words}"


def summary(report: Report) -> str:
    """The counts by tier, and the verdict in a line."""
    rows = [f"{'':<14}" + "".join(f"{word:>6}" for word in VERDICTS)]
    for tier in TIERS:
        counts = [report.count(word, tier) for word in VERDICTS]
        if any(counts):
            rows.append(f"{tier:<14}" + "".join(f"{count:>6}" for count in counts))
    return "\n".join(["", *rows, "", verdict(report)])


def verdict(report: Report) -> str:
    """Whether it conforms, and how much was judged."""
    word = "CONFORMANT" if report.conformant else "NOT CONFORMANT"
    passed, failed, skipped = map(report.count, VERDICTS)
    return (
        f"{word}: {report.name}, {report.side} of version {report.version}: "
        f"{passed} passed, {failed} failed, {skipped} not announced or nothing to judge, in {report.seconds:.1f} s"
    )


def shown(transcript: Transcript) -> str:
    """A transcript for people, a text a line."""
    return "\n".join(f"{'→' if who == 'client' else '←'} {text}" for who, text in transcript)
