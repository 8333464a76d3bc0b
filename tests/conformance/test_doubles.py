"""Every check catches the agent that has just its defect, and passes the one without."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from acp.conformance.agent.checks import checks
from acp.conformance.agent.run import Settings, check_agent
from acp.conformance.requirements import requirements
from acp.conformance.verdicts import Outcome, conformant

DOUBLE = Path(__file__).parent / "doubles" / "agent.py"
DEFECTS = {
    "echoes-version": "init.unspoken",
    "says-version-2": "init.version",
    "no-initialize": "init.first",
    "number-ids": "rpc.string-id",
    "null-for-unknown": "rpc.unknown-method",
    "custom-silent": "rpc.custom-method",
    "dies-of-notification": "rpc.unknown-notification",
    "dies-of-error": "rpc.after-error",
    "no-parse-error": "rpc.no-json",
    "no-invalid": "rpc.no-message",
    "no-array": "rpc.array",
    "dies-of-cancel": "cancel.unknown",
    "takes-relative": "session.relative",
    "wants-login": "session.no-auth",
    "any-session": "prompt.unknown-session",
    "no-links": "prompt.link",
    "list-other": "list.shape",
    "any-cursor": "list.cursor",
    "sets-anything": "config.unknown",
    "own-reason": "turn.tour",
    "cancel-ends": "turn.cancel",
    "cancel-is-error": "turn.cancel",
    "one-id": "session.distinct",
    "stays": "end.stdin",
    "ignores-cancel-request": "request.cancel",
    "no-replay": "load.replay",
    "late-replay": "load.replay",
    "resume-replays": "resume.silent",
    "keeps-deleted": "delete.gone",
    "close-forgets": "close.cancels",
    "latin-1": "wire.utf8",
    "prints": "wire.purity",
    "both": "wire.envelope",
    "answers-twice": "wire.unasked",
    "null-id": "wire.ids",
    "own-method": "wire.names",
    "no-update-kind": "wire.schema",
    "list-null": "wire.schema",
    "own-member": "wire.members",
    "meta-list": "wire.meta",
    "relative-path": "wire.paths",
    "other-session": "wire.session",
    "late-update": "wire.late",
    "call-order": "wire.call-order",
    "reads-files": "wire.ungated",
    "no-options": "wire.options",
    "bad-config": "wire.config",
    "same-auth-ids": "wire.auth-ids",
    "bad-command": "wire.commands",
    "two-lines": "wire.error-line",
    "answers-cancel": "cancel.idle",
}


def judge(defect: str, *only: str) -> list[Outcome]:
    command = [sys.executable, "-S", "-E", str(DOUBLE), defect]

    async def run() -> list[Outcome]:
        return await check_agent(command, Settings(timeout=1.0), only=only)

    return anyio.run(run)


@pytest.mark.parametrize(("defect", "check"), DEFECTS.items())
def test_a_defect_is_caught_by_the_check_that_names_it(defect: str, check: str) -> None:
    [outcome] = judge(defect, check)
    assert outcome.verdict == "fail"


def test_the_double_without_a_defect_passes_every_check() -> None:
    outcomes = judge("")
    assert [(o.check.id, o.words) for o in outcomes if o.verdict != "pass"] == []
    assert conformant(outcomes)


def test_every_check_has_a_double_and_every_double_a_check() -> None:
    ids = {check.id for check in checks(1)}
    assert ids == set(DEFECTS.values())


@pytest.mark.parametrize("version", [1, 2])
def test_every_check_judges_a_requirement_that_there_is_and_can_be_seen(version: int) -> None:
    known = requirements(1) | requirements(2)
    for check in checks(version):
        assert check.requirements, check.id
        assert all(not known[id].unobservable for id in check.requirements), check.id


def test_there_are_160_requirements_and_those_of_clients_that_the_160_leave_out() -> None:
    assert len(requirements(1) | requirements(2)) == 163
