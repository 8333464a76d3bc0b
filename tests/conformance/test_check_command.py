"""`acp check` judges our own agent, and says what it found in every form."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from acp.conformance.__main__ import main
from acp.conformance.patterns import fill, mismatch
from acp.conformance.report import as_html
from acp.conformance.verdicts import Check, Outcome, Report

DOUBLE = [sys.executable, str(Path(__file__).parent / "doubles" / "agent.py")]


def test_a_failure_is_told_in_every_form(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.json", "a.xml", "a.html")]
    options = [
        word for name, file in zip(("json", "junit", "html"), files, strict=True) for word in (f"--{name}", file)
    ]
    only = ["--only", "prompt.unknown-session", "--only", "session.distinct", "--timeout", "30"]
    assert main(["agent", *map(str, options), *only, "--", *DOUBLE, "1", "any-session"]) == 1
    report = json.loads(files[0].read_text())
    failed = {row["id"]: row for row in report["checks"] if row["verdict"] == "fail"}
    assert (report["conformant"], list(failed)) == (False, ["prompt.unknown-session"])
    assert "acp-check-no-such-session" in failed["prompt.unknown-session"]["transcript"][-2][1]
    suite = ElementTree.parse(files[1]).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "NOT CONFORMANT" in files[2].read_text()


@pytest.mark.parametrize("what", ["agent", "client", "proxy", "explore", "fuzz", "replay"])
@pytest.mark.parametrize("command", ["/no/such/command", "no-such-command", "/"])
def test_a_command_that_is_not_there_is_said_in_one_line(
    what: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = {"id": "a", "side": "agent", "description": "", "requirements": [], "steps": [], "protocol": [1]}
    (tmp_path / "case.json").write_text(json.dumps(case))
    words = {"client": ["{agent}"]}.get(what, [])
    options = [str(tmp_path / "case.json")] if what == "replay" else []
    try:
        status = main([what, *options, "--", command, *words])
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert said.err.splitlines()[-1].endswith(f"there is no command {command!r}")


def test_a_page_needs_nothing_else_and_takes_no_word_for_markup() -> None:
    check = Check("a.b", "A <b>check</b>", ("ACP-007",), "mandatory")
    said = (("client", '{"a": "<script>"}'), ("agent", "</div>"))
    failed = Outcome(check, "fail", "it said </style>", transcript=said)
    advised = Outcome(replace(check, id="a.c", tier="advisory"), "fail", "better not")
    hello = {"agentInfo": {"name": "<img src=x>", "version": "1"}}
    page = as_html(Report("agent", "a & b", 1, (failed, advised, Outcome(check, "pass")), hello=hello))
    assert "<title>&lt;img src=x&gt; 1: not conformant</title>" in page
    assert "{&quot;a&quot;: &quot;&lt;script&gt;&quot;}" in page
    assert page.count('class="advice"') == 2, "in the bar of its tier, and in the matrix"
    assert (page.count("<script"), page.count("<style"), page.count("</style>")) == (1, 1, 1)
    assert not re.search(r"<(img|link|iframe|object|script\s)|@import|url\(", page)
    links = set(re.findall(r'(?<=href=")http[^"]*', page))
    assert all(link.startswith("https://agentclientprotocol.com/protocol") for link in links)
    assert "JSONRPC-001" in page, "the kit's name of a requirement can be looked for"


def test_an_agent_that_is_there_and_cannot_be_started_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = tmp_path / "agent"
    agent.write_text("#!/no/such/interpreter\n")
    agent.chmod(0o755)
    assert main(["agent", "--only", "session.distinct", "--", str(agent)]) == 1
    assert main(["fuzz", "--", str(agent)]) == 2
    assert "acp check fuzz: the agent cannot be started: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["agent"], ["agent", "--agent-env", "X", "--", "a"]])
def test_a_command_line_without_sense_is_told_apart(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"$absent": True}}, {"b": 2}),
        ({"$type": ["null", "integer"]}, 3),
        ({"$one_of": [1, "1"]}, "1"),
        ({"$items": {"$filled": True}}, ["a"]),
        ("$name", "value"),
        ([{"$any": True}, None], [5, None]),
    ],
)
def test_a_pattern_matches_what_it_describes(pattern: object, value: object) -> None:
    assert mismatch(pattern, value, {"name": "value"}) is None


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": "1"}),
        ({"a": {"$absent": True}}, {"a": None}),
        ({"$type": "integer"}, True),
        ({"$items": {"$filled": True}}, ["a", ""]),
        ([], [1]),
    ],
)
def test_a_pattern_matches_nothing_else(pattern: object, value: object) -> None:
    assert mismatch(pattern, value, {}) is not None


def test_what_is_captured_can_be_used() -> None:
    variables: dict[str, object] = {}
    assert mismatch({"id": {"$capture": "id", "$as": {"$type": "string"}}}, {"id": "x"}, variables) is None
    assert fill({"a": ["$id", "b"]}, variables) == {"a": ["x", "b"]}
