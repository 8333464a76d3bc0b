"""Every check of a proxy catches the proxies that have just its defect; our own passes them all."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import anyio
import pytest
import trio.testing
from doubles.proxy import DEFECTS
from doubles.puppets import PuppetProxy

from acp.conformance.__main__ import main
from acp.conformance.proxy.checks import proxy_checks
from acp.conformance.proxy.run import ProxySettings, check_proxy
from acp.conformance.verdicts import Report

EXAMPLE = Path(__file__).parents[2] / "examples" / "proxy.py"


def judge(version: int, defect: str = "", *only: str) -> Report:
    clock = trio.testing.MockClock(autojump_threshold=0)
    run = partial(check_proxy, PuppetProxy(defect), ProxySettings(version), only=only)
    return anyio.run(run, backend="trio", backend_options={"clock": clock})


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("defect", "check"), DEFECTS.items())
def test_a_defect_is_caught_by_the_check_that_names_it(version: int, defect: str, check: str) -> None:
    [found] = judge(version, defect, check).outcomes
    assert found.verdict == "fail"
    assert "another shape" not in found.words


@pytest.mark.parametrize("version", [1, 2])
def test_the_double_without_a_defect_passes_every_check_and_each_has_a_double(version: int) -> None:
    report = judge(version)
    assert [(o.check.id, o.verdict, o.words) for o in report.outcomes if o.verdict != "pass"] == []
    assert {check.id for check in proxy_checks(version)} == set(DEFECTS.values())


def test_our_proxy_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxy", "-q", "--jobs", "2", "--protocol", "2", "--", sys.executable, str(EXAMPLE)]) == 0
    assert " 0 failed, 0 not announced" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--only", "no.such", "--", "a"]])
def test_a_command_line_without_sense_is_told_apart(arguments: list[str]) -> None:
    assert main(["proxy", *arguments]) == 2
