"""What came of the checks, as one page for a browser that needs nothing else."""

from __future__ import annotations

import html

from ..verdicts import Outcome, Report
from .text import shown, summary

STYLE = """body{font:15px system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}
.pass{color:#16803c}.fail{color:#d1242f;font-weight:600}.skip{color:#888}pre{white-space:pre-wrap;font-size:12px}
input{font:inherit;padding:.3rem .6rem;width:100%;box-sizing:border-box;margin:.5rem 0}"""
SCRIPT = """document.querySelector('input').oninput=e=>document.querySelectorAll('tbody tr').forEach(r=>
r.hidden=!r.textContent.toLowerCase().includes(e.target.value.toLowerCase()))"""


def as_html(report: Report) -> str:
    """One page that needs nothing else."""
    rows = "".join(
        f"<tr><td class={o.verdict}>{o.verdict}<td>{o.check.tier}<td>{html.escape(o.check.id)}"
        f"<td>{html.escape(o.check.title)}{_details(o)}<td>{' '.join(o.check.requirements)}"
        for o in report.outcomes
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>acp check</title><style>{STYLE}</style>"
        f"<h1>Version {report.version}</h1><p>{html.escape(summary(report))}</p><input placeholder=filter>"
        f"<table><thead><tr><th>verdict<th>tier<th>check<th>what<th>requirements<tbody>{rows}</table>"
        f"<script>{SCRIPT}</script>"
    )


def _details(outcome: Outcome) -> str:
    if outcome.verdict != "fail":
        return ""
    words, texts = html.escape(outcome.words), html.escape(shown(outcome.transcript))
    return f"<details><summary>{words}</summary><pre>{texts}</pre></details>"
