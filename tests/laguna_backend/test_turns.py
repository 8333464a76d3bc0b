"""`laguna turns` on a small shape: its figures, and that they mean what they say."""

from __future__ import annotations

import json

import pytest
import torch

from laguna_backend.__main__ import main

torch.set_num_threads(1)

TINY = ["turns", "--shape", "tiny", "--layers", "2", "--threads", "1", "--rounds", "1", "--tokens", "8"]


def test_what_was_known_is_saved_and_a_change_costs_what_lies_since_the_last_snapshot(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*TINY, "--context", "9000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    turns = found["turns"]
    assert turns["saved"] == 1.0
    assert turns["edited"] == (9000 + 8 + 16) // 2 + 1 - 4096  # a snapshot lies there
    assert 0 < turns["next_turn"] < turns["cold"] / 10
    assert [one["sessions"] for one in found["company"]] == [1, 2, 4, 8]
    assert all(one["pace"] > 0 and one["fairness"] == 1 for one in found["company"])
    assert [one["text"] for one in found["guesses"]] == ["repetitive", "random"]
    assert found["guesses"][1]["guessed"] == 0.0  # nothing comes twice, so nothing is guessed right


def test_the_tables_are_for_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--context", "200"]) == 0
    said = capsys.readouterr().out
    assert "1.000 of what was known saved" in said
    assert said.count("\n| ") == 8  # two headings, four companies, two texts


def test_what_cannot_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["turns", "--context", "63"])
    assert "--context is 63; it is from 64 to 130000" in capsys.readouterr().err
