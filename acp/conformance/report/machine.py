"""What came of the checks, for machines: JSON, and the XML that continuous integration reads."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from ..requirements import requirements
from ..verdicts import BINDING, TIERS, VERDICTS, Report
from .text import shown


def as_json(report: Report) -> str:
    """Everything, transcripts of failures included; requirements with the ids that the official kit has for them."""
    duties = requirements(report.version)
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
        for o in report.outcomes
    ]
    whole: dict[str, Any] = {
        "side": report.side,
        "subject": report.subject,
        "name": report.name,
        "protocol": report.version,
        "conformant": report.conformant,
        "when": report.when,
        "seconds": round(report.seconds, 3),
        "counts": {tier: {word: report.count(word, tier) for word in VERDICTS} for tier in TIERS},
        "hello": report.hello,
        "checks": rows,
    }
    return json.dumps(whole, indent=1)


def as_junit(report: Report) -> str:
    """A suite of test cases, a check each; what is advisory never fails there, and says what was seen."""
    failed = len(report.failed(*BINDING))
    suite = ElementTree.Element(
        "testsuite",
        name=f"acp check {report.side}, version {report.version}",
        tests=str(len(report.outcomes)),
        failures=str(failed),
        skipped=str(len(report.outcomes) - report.count("pass") - failed),
        time=f"{report.seconds:.3f}",
    )
    for o in report.outcomes:
        case = ElementTree.SubElement(
            *(suite, "testcase"), classname=f"acp.{o.check.tier}", name=o.check.id, time=f"{o.seconds:.3f}"
        )
        if o.verdict != "pass":
            binding = o.verdict == "fail" and o.check.tier in BINDING
            words = f"{o.check.tier}: {o.words}" if o.verdict == "fail" and not binding else o.words
            told = ElementTree.SubElement(case, "failure" if binding else "skipped", message=_printable(words))
            told.text = _printable(shown(o.transcript)) if o.verdict == "fail" else ""
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """XML knows no control characters."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())
