"""What came of the checks, for machines: JSON, and the XML that continuous integration reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from ..requirements import requirements
from ..verdicts import Outcome, conformant
from .text import shown


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


def _printable(text: str) -> str:
    """XML knows no control characters."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())
