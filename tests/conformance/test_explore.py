"""Conversations that nobody wrote find what is wrong with an agent, and tell it as a case that can be played again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from acp.conformance.__main__ import main
from acp.conformance.cases import read_case
from acp.conformance.exploring.explore import TURNS, Found, Steps, conversations, explore
from acp.conformance.replay import main as replay

DOUBLES = Path(__file__).parent / "doubles"
AGENT = [sys.executable, "-S", "-E", str(DOUBLES / "agent.py"), "1"]
CLIENT = [sys.executable, "-S", "-E", str(DOUBLES / "client.py"), "1"]
ROW = {"id": "t", "description": "A test", "requirements": ["ACP-007"], "protocol": [1], "tier": "mandatory"}


@pytest.mark.parametrize(
    ("defect", "method"),
    [("list-null", "session/list"), ("answers-twice", "session/prompt")],
)
def test_a_defect_is_found_and_shrunk_to_the_message_that_shows_it(defect: str, method: str) -> None:
    found = explore([*AGENT, defect], examples=400, seconds=100, timeout=30)
    said = [step["send"]["method"] for step in found.steps if "send" in step]
    assert said == [method]


def test_an_agent_without_a_defect_bears_every_conversation() -> None:
    found = explore(AGENT, examples=25, timeout=60)
    assert (found.words, found.held) == ("", 25)


def test_what_is_found_can_be_played_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert (
        main(["explore", "--examples", "400", "--save", str(file), "--timeout", "30", "--", *AGENT, "list-null"]) == 1
    )
    assert f"acp check replay {file}" in capsys.readouterr().out
    assert main(["replay", str(file), "--", *AGENT, "list-null"]) == 1
    assert '→ {"jsonrpc": "2.0", "method": "session/list"' in capsys.readouterr().out
    assert main(["replay", str(file), "--", *AGENT]) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_a_drawn_conversation_is_a_case(version: int) -> None:
    @settings(max_examples=60, database=None)
    @given(conversations(version))
    def holds(steps: Steps) -> None:
        case = read_case(json.loads(json.dumps(Found(steps=steps).row(version))))
        ids = [step["send"]["id"] for step in case.steps if "id" in step.get("send", {})]
        assert len(set(map(str, ids))) == len(ids)
        assert case.steps[-1] == {"answered": True}
        turns = 0
        for step in case.steps:
            turns = 0 if "answered" in step else turns + (step["send"]["method"] in TURNS)
            assert turns <= 1
            assert step.get("send", {}).get("params", {}).get("mcpServers") in (None, [])

    holds()


def test_every_request_has_to_be_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = {"send": {"id": "x", "method": "_check/nothing", "params": {}}}
    row = ROW | {"side": "agent", "open": "initialized", "steps": [ask, {"answered": True}]}
    (tmp_path / "case.json").write_text(json.dumps(row))
    assert replay([str(tmp_path / "case.json"), "--", *AGENT]) == 0
    assert replay([str(tmp_path / "case.json"), "--timeout", "0.5", "--", *AGENT, "custom-silent"]) == 1
    assert "no answer to every request within 0.5 s" in capsys.readouterr().out


def test_a_case_of_a_client_is_played_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = {"send": {"id": "17", "method": "_check/nothing", "params": {}}}
    row = ROW | {"side": "client", "open": "turn", "steps": [ask, {"expect": {"id": "17"}}]}
    (tmp_path / "case.json").write_text(json.dumps([row]))
    assert replay([str(tmp_path / "case.json"), "--", *CLIENT, "", "{agent:words}"]) == 0
    assert replay([str(tmp_path / "case.json"), "--", *CLIENT, "number-ids", "{agent:words}"]) == 1
    assert "$.id is 17, not '17'" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "5", '{"id": "x"}', json.dumps(ROW | {"side": "x", "steps": []})])
def test_a_file_that_is_no_case_is_told_apart(text: str, tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(text)
    assert replay([str(tmp_path / "case.json"), "--", "a"]) == 2
    assert replay([str(tmp_path / "none.json"), "--", "a"]) == 2
    assert replay([str(tmp_path / "case.json")]) == 2
