"""What the requirements ask for and what the checks judge are the same, in both versions and from both ends."""

from __future__ import annotations

import pytest

from acp.conformance.__main__ import main
from acp.conformance.coverage import Counts, counts, coverage
from acp.conformance.requirements import requirements


@pytest.mark.parametrize("version", [1, 2])
def test_a_requirement_is_judged_or_no_wire_shows_it(version: int) -> None:
    rows = coverage(version)
    assert [row.requirement.id for row in rows if row.judged == bool(row.requirement.unobservable)] == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_requirement_is_judged_at_every_side_whose_it_is_or_there_is_a_reason(version: int) -> None:
    for row in coverage(version):
        duty = row.requirement
        for side in () if duty.unobservable else duty.sides:
            assert bool(row.of(side)) != (side in duty.unseen), f"{duty.id}: {side}"
        assert not duty.unseen or set(duty.unseen) < set(duty.sides), duty.id


def test_a_requirement_says_the_same_in_both_versions() -> None:
    first, second = requirements(1), requirements(2)
    for id in first.keys() & second.keys():
        assert (first[id].who, first[id].versions, first[id].unobservable) == (
            *(second[id].who, second[id].versions, second[id].unobservable),
        ), id
        assert first[id].versions == (1, 2)
    assert all(duty.versions == (1,) for id, duty in first.items() if id not in second)
    assert all(duty.versions == (2,) for id, duty in second.items() if id not in first)


def test_all_that_can_be_seen_is_judged_and_the_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert counts(1, 2) == Counts(every=164, judged=153, unseen=11, both=40, one_side=6)
    assert main(["coverage"]) == 0
    assert "164 requirements, 153 judged, 11 that no wire shows" in capsys.readouterr().out


def test_what_is_judged_at_no_side_is_missing_and_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("acp.conformance.coverage.client_checks", lambda version: [])  # pyright: ignore[reportUnknownLambdaType]
    assert main(["coverage", "--missing", "--protocol", "1"]) == 1
    assert "ACP-001" in capsys.readouterr().out
