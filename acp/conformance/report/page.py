"""What came of the checks, as one page for a browser that needs nothing else: a matrix, transcripts, a filter."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files

from ..requirements import Requirement, requirements
from ..verdicts import BINDING, TIERS, VERDICTS, Outcome, Report, Transcript
from .text import verdict

WORST = ("fail", "advice", "pass", "skip")
"""Marks of checks; the first of those that judge a requirement is the requirement's."""
SHOWN = {"pass": "passed", "fail": "failed", "advice": "advice", "skip": "not judged"}


def as_html(report: Report) -> str:
    """The page. What is advisory and failed is `advice`."""
    word = "conformant" if report.conformant else "not conformant"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.name)}: {word}</title>
<style>{_asset("page.css")}</style>
<main>
<h1>{escape(report.name)}</h1>
<div class="head"><span class="verdict {"yes" if report.conformant else "no"}">{word}</span>
<span>{report.side} of ACP version {report.version}</span>
<span class="faint">{escape(report.when)} · {report.seconds:.1f} s · acp check</span></div>
<div class="faint"><code>{escape(report.subject)}</code></div>
<div class="tiers">{"".join(_tiers(report))}</div>
<h2>By chapter</h2>
<div class="matrix">{"".join(_matrix(report))}</div>
<h2>One by one</h2>
{_tools()}
<div data-view="checks">{"".join(map(_check, _worst_first(report)))}</div>
<div data-view="requirements" hidden>{"".join(_requirements(report))}</div>
<p class="faint">{escape(verdict(report))}</p>
</main>
<script>{_asset("page.js")}</script>
</html>
"""


def _asset(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _mark(outcome: Outcome) -> str:
    return "advice" if outcome.verdict == "fail" and outcome.check.tier not in BINDING else outcome.verdict


def _worst_first(report: Report) -> list[Outcome]:
    return sorted(report.outcomes, key=lambda outcome: WORST.index(_mark(outcome)))


def _tiers(report: Report) -> Iterator[str]:
    for tier in TIERS:
        counts = {word: report.count(word, tier) for word in VERDICTS}
        if not any(counts.values()):
            continue
        marks = {word: "advice" if word == "fail" and tier not in BINDING else word for word in VERDICTS}
        bars = "".join(f'<i class="{marks[word]}" style="flex:{count}"></i>' for word, count in counts.items() if count)
        words = " · ".join(f"{count} {SHOWN[marks[word]]}" for word, count in counts.items() if count)
        yield f'<div class="tier"><b>{tier}</b><div class="bar">{bars}</div><span class="faint">{words}</span></div>'


def _matrix(report: Report) -> Iterator[str]:
    chapters: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        chapters.setdefault(outcome.check.id.partition(".")[0], []).append(outcome)
    for chapter, outcomes in chapters.items():
        cells = "".join(
            f'<a class="{_mark(o)}" href="#{escape(o.check.id)}" title="{escape(f"{o.check.id}: {o.check.title}")}" '
            f'aria-label="{escape(f"{o.check.id}: {SHOWN[_mark(o)]}")}"></a>'
            for o in outcomes
        )
        yield f'<div><span>{escape(chapter)}</span><div class="cells">{cells}</div></div>'


def _tools() -> str:
    views = [("checks", "Checks", "true"), ("requirements", "Requirements", "false")]
    switch = "".join(f'<button data-to="{id}" aria-pressed="{on}">{name}</button>' for id, name, on in views)
    filters = "".join(f'<button data-verdict="{id}" aria-pressed="true">{name}</button>' for id, name in SHOWN.items())
    box = '<input type="search" placeholder="Filter by id, words, requirement or kit alias" aria-label="Filter">'
    return f'<div class="tools">{switch}<span class="gap"></span>{box}{filters}<output></output></div>'


def _check(outcome: Outcome) -> str:
    check, mark = outcome.check, _mark(outcome)
    words = _words(outcome.words) if outcome.words else ""
    talk = _talk(outcome.transcript) if outcome.verdict == "fail" else ""
    return (
        f'<div class="row {mark}" id="{escape(check.id)}" data-verdict="{mark}">'
        f'<p><span class="mark {mark}">{SHOWN[mark]}</span><span class="tag">{check.tier}</span>'
        f'<span class="id">{escape(check.id)}</span><span>{escape(check.title)}</span>'
        f'<span class="tag">{" ".join(check.requirements)}</span></p>{words}{talk}</div>'
    )


def _words(words: str) -> str:
    """What is wrong; what follows its first line is a program's last words."""
    first, _, rest = words.partition("\n")
    return f'<div class="words">{escape(first)}{f"<code>{escape(rest)}</code>" if rest else ""}</div>'


def _talk(transcript: Transcript) -> str:
    if not transcript:
        return ""
    ours = transcript[0][0]
    lines = "".join(
        f'<div class="{"ours" if who == ours else "theirs"}"><span>{who}</span><code>{escape(text)}</code></div>'
        for who, text in transcript
    )
    return f'<details><summary>transcript, {len(transcript)} texts</summary><div class="talk">{lines}</div></details>'


def _requirements(report: Report) -> Iterator[str]:
    judged: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        for id in outcome.check.requirements:
            judged.setdefault(id, []).append(outcome)
    for duty in requirements(report.version).values():
        if duty.who in (report.side, "both"):
            yield _requirement(duty, judged.get(duty.id, []))


def _requirement(duty: Requirement, outcomes: list[Outcome]) -> str:
    mark = min((_mark(o) for o in outcomes), key=WORST.index, default="skip")
    checks = " ".join(f'<a class="id" href="#{escape(o.check.id)}">{escape(o.check.id)}</a>' for o in outcomes)
    none = f"No wire shows it: {duty.unobservable}." if duty.unobservable else "Not judged in this run."
    aliases = f" · kit: {' '.join(map(escape, duty.aliases))}" if duty.aliases else ""
    return (
        f'<div class="row {mark}" data-verdict="{mark}"><p><span class="mark {mark}">{SHOWN[mark]}</span>'
        f'<span class="tag">{duty.level}</span><a class="id" href="{escape(duty.page)}">{duty.id}</a>'
        f"<span>{escape(duty.text)}</span></p>"
        f'<div class="words">{checks or escape(none)}{aliases}</div></div>'
    )
