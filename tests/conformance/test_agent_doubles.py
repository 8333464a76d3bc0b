"""Every check of an agent catches the agents that have just its defect, in each version, and passes the one without.

The doubles are objects in this process, and time is trio's to skip: where nobody has anything to do, a wait is over.
"""

from __future__ import annotations

from functools import partial

import anyio
import pytest
import trio.testing
from doubles.agent_defects import DEFECTS, LOCKED, Defect
from doubles.puppets import Puppet

from acp.conformance.agent.checks import checks
from acp.conformance.agent.run import check_agent
from acp.conformance.agent.settings import PROMPTS, AgentSettings
from acp.conformance.requirements import requirements
from acp.conformance.verdicts import Outcome, Report

CAUGHT = [(version, defect) for defect in DEFECTS for version in defect.versions]


def judge(version: int, defect: Defect | None = None, *only: str, carrier: str = "stdio") -> Report:
    """What the checks say of a double."""
    settings = AgentSettings(
        version=version, prompts={name: name for name in PROMPTS}, auth_method="door", allow_logout=True
    )
    puppet = Puppet(version, defect, defect.carrier if defect else carrier)
    clock = trio.testing.MockClock(autojump_threshold=0)
    run = partial(check_agent, puppet, settings, only=only)
    return anyio.run(run, backend="trio", backend_options={"clock": clock})


def outcome(report: Report, id: str) -> Outcome:
    return next(o for o in report.outcomes if o.check.id == id)


@pytest.mark.parametrize(("version", "defect"), CAUGHT, ids=[f"{defect.name}-v{v}" for v, defect in CAUGHT])
def test_a_defect_is_caught_by_the_check_that_names_it(version: int, defect: Defect) -> None:
    found = outcome(judge(version, defect, defect.check), defect.check)
    assert found.verdict == "fail"
    assert "another shape" not in found.words
    assert "watchdog" not in found.words


@pytest.mark.parametrize("version", [1, 2])
def test_the_double_without_a_defect_passes_every_check(version: int) -> None:
    reports = [
        judge(version),
        judge(version, LOCKED, "auth.needed"),
        judge(version, None, "carrier.anew", carrier="websocket"),
    ]
    assert [(o.check.id, o.words) for report in reports for o in report.failed()] == []
    passed = {o.check.id for report in reports for o in report.outcomes if o.verdict == "pass"}
    assert {check.id for check in checks(version)} - passed == set()


@pytest.mark.parametrize("version", [1, 2])
def test_every_check_has_a_double_in_every_version_and_every_double_a_check(version: int) -> None:
    caught = {defect.check for v, defect in CAUGHT if v == version}
    assert {check.id for check in checks(version)} == caught


@pytest.mark.parametrize("version", [1, 2])
def test_every_check_judges_a_requirement_of_agents_that_can_be_seen(version: int) -> None:
    known = requirements(1) | requirements(2)
    for check in checks(version):
        assert any(version in known[id].versions for id in check.requirements), check.id
        for id in check.requirements:
            assert known[id].who in ("agent", "both"), f"{check.id}: {id}"
            assert not known[id].unobservable, f"{check.id}: {id}"
            assert set(known[id].versions) & set(check.versions), f"{check.id}: {id}"
