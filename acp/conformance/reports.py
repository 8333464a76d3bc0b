"""What came of the checks, for people and for machines."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from .requirements import requirements
from .run import Outcome, Transcript, conformant

STYLE = """body{font:15px system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}
.pass{color:#16803c}.fail{color:#d1242f;font-weight:600}.skip{color:#888}pre{white-space:pre-wrap;font-size:12px}
input{font:inherit;padding:.3rem .6rem;width:100%;box-sizing:border-box;margin:.5rem 0}"""
SCRIPT = """document.querySelector('input').oninput=e=>document.querySelectorAll('tbody tr').forEach(r=>
r.hidden=!r.textContent.toLowerCase().includes(e.target.value.toLowerCase()))"""


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


def as_json(outcomes: Sequence[Outcome], version: int) -> str:
    """Everything, transcripts of failures included."""
    duties = requirements(version)
    rows: list[dict[str, Any]] = [
        {
            "id": o.check.id,
            "title": o.check.title,
            "tier": o.check.tier,
            "verdict": o.verdict,
            "words": o.words,
            "seconds": round(o.seconds, 3),
            "requirements": o.check.requirements,
            "aliases": [name for id in o.check.requirements if id in duties for name in duties[id].aliases],
            "transcript": o.transcript if o.verdict == "fail" else [],
        }
        for o in outcomes
    ]
    return json.dumps({"protocol": version, "conformant": conformant(outcomes), "checks": rows}, indent=1)


def as_junit(outcomes: Sequence[Outcome]) -> str:
    """The dialect of XML that continuous integration reads."""
    failed = sum(o.verdict == "fail" for o in outcomes)
    suite = ElementTree.Element("testsuite", name="acp check", tests=str(len(outcomes)), failures=str(failed))
    for o in outcomes:
        case = ElementTree.SubElement(
            *(suite, "testcase"), classname=o.check.tier, name=o.check.id, time=f"{o.seconds:.3f}"
        )
        if o.verdict != "pass":
            tag = "failure" if o.verdict == "fail" else "skipped"
            ElementTree.SubElement(case, tag, message=_printable(o.words)).text = _printable(shown(o.transcript))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def as_html(outcomes: Sequence[Outcome], version: int) -> str:
    """One page that needs nothing else."""
    rows = "".join(
        f"<tr><td class={o.verdict}>{o.verdict}<td>{o.check.tier}<td>{html.escape(o.check.id)}"
        f"<td>{html.escape(o.check.title)}{_details(o)}<td>{' '.join(o.check.requirements)}"
        for o in outcomes
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>acp check</title><style>{STYLE}</style>"
        f"<h1>Version {version}</h1><p>{html.escape(summary(outcomes))}</p><input placeholder=filter>"
        f"<table><thead><tr><th>verdict<th>tier<th>check<th>what<th>requirements<tbody>{rows}</table>"
        f"<script>{SCRIPT}</script>"
    )


def _details(outcome: Outcome) -> str:
    if outcome.verdict != "fail":
        return ""
    words, texts = html.escape(outcome.words), html.escape(shown(outcome.transcript))
    return f"<details><summary>{words}</summary><pre>{texts}</pre></details>"


def shown(transcript: Transcript) -> str:
    """A transcript for people, a text a line."""
    return "\n".join(f"{'→' if who == 'client' else '←'} {text}" for who, text in transcript)


def _printable(text: str) -> str:
    """XML knows no control characters."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())
