"""Every check of a client catches the clients that have just its defect, in each version, and passes the one without.

The doubles are objects in this process, and time is trio's to skip: where nobody has anything to do, a wait is over.
"""

from __future__ import annotations

import json
import random
from functools import partial
from itertools import islice

import anyio
import pytest
import trio.testing
from doubles.puppets import PuppetClient

from acp.conformance.client.checks import client_checks
from acp.conformance.client.run import check_client
from acp.conformance.client.settings import ClientSettings
from acp.conformance.client.watch import WATCHED, ClientWatch
from acp.conformance.exploring.fuzz import seeds
from acp.conformance.exploring.mutations import mutated
from acp.conformance.requirements import requirements
from acp.conformance.verdicts import Report

V1, V2, BOTH = (1,), (2,), (1, 2)
DEFECTS = (
    ("never-prompts", "turn.tour", BOTH),
    ("hurries", "init.waits", BOTH),
    ("any-version", "init.newer", BOTH),
    ("any-older-version", "init.older", V1),
    ("goes-on", "init.refused", BOTH),
    ("needs-all", "init.bare", BOTH),
    ("dies-of-more", "init.rich", BOTH),
    ("dies-of-malformed", "init.malformed", BOTH),
    ("prompts-anyway", "auth.login", BOTH),
    ("dies-of-replay", "load.early", V1),
    ("closes-hard", "close.unknown", V2),
    ("dies-of-big", "rpc.big", BOTH),
    ("decodes-chunks", "rpc.split", BOTH),
    ("one-a-chunk", "rpc.joined", BOTH),
    ("leaves-stderr", "rpc.stderr", BOTH),
    ("dies-of-error", "turn.error", BOTH),
    ("never-answers", "permission.answered", BOTH),
    ("keeps-question", "permission.withdrawn", BOTH),
    ("question-is-error", "permission.withdrawn", BOTH),
    ("leaves-question", "cancel.permission", BOTH),
    ("dies-of-late", "cancel.late", BOTH),
    ("stays", "end.dies", BOTH),
    ("stays-early", "end.early", BOTH),
    ("null-for-unknown", "rpc.unknown-method", BOTH),
    ("custom-silent", "rpc.custom-method", BOTH),
    ("dies-of-notification", "rpc.unknown-notification", BOTH),
    ("number-ids", "rpc.ids", BOTH),
    ("dies-of-params", "rpc.after-error", BOTH),
    ("dies-of-json", "rpc.no-json", BOTH),
    ("silent-json", "rpc.no-json-told", BOTH),
    ("dies-of-message", "rpc.no-message", BOTH),
    ("silent-message", "rpc.no-message-told", BOTH),
    ("dies-of-array", "rpc.array", BOTH),
    ("does-array", "rpc.array-told", V2),
    ("dies-of-cancel", "cancel.unknown", BOTH),
    ("cancels-own", "cancel.own", V2),
    ("dies-of-plan", "update.kinds", V1),
    ("dies-of-kind", "update.unknown", BOTH),
    ("dies-of-member", "update.unknown-members", BOTH),
    ("dies-of-meta", "update.meta", BOTH),
    ("dies-of-title", "update.malformed", BOTH),
    ("dies-of-broken", "update.broken", BOTH),
    ("dies-of-stranger", "update.unknown-session", BOTH),
    ("dies-of-early", "update.early", BOTH),
    ("dies-of-complete", "elicit.complete", BOTH),
    ("empty-cwd", "session.cwd", BOTH),
    ("mangles-session", "session.id", BOTH),
    ("dies-of-options", "session.options", BOTH),
    ("strips", "fs.read", V1),
    ("counts-from-0", "fs.read-lines", V1),
    ("reads-missing", "fs.read-missing", V1),
    ("writes-nothing", "fs.write", V1),
    ("exit-0", "terminal.run", V1),
    ("keeps-released", "terminal.released", V1),
    ("keeps-beginning", "terminal.truncate", V1),
    ("cuts-characters", "terminal.truncate", V1),
    ("kill-releases", "terminal.kill", V1),
    ("runs-here", "terminal.place", V1),
    ("any-terminal", "terminal.unknown", V1),
    ("fills-wrong", "elicit.form", BOTH),
    ("reads-anyway", "fs.no-read", BOTH),
    ("writes-anyway", "fs.no-write", BOTH),
    ("runs-anyway", "terminal.none", BOTH),
    ("shows-anyway", "elicit.none", BOTH),
    ("latin-1", "wire.utf8", BOTH),
    ("prints", "wire.purity", BOTH),
    ("answers-both", "wire.envelope", BOTH),
    ("answers-twice", "wire.unasked", BOTH),
    ("answers-notification", "wire.unasked", BOTH),
    ("one-id", "wire.ids", V1),
    ("null-id", "wire.ids", BOTH),
    ("own-method", "wire.names", BOTH),
    ("new-first", "wire.first", BOTH),
    ("no-cwd", "wire.schema", BOTH),
    ("no-outcome", "wire.schema", BOTH),
    ("own-member", "wire.members", BOTH),
    ("own-capability", "wire.capabilities", BOTH),
    ("own-action", "wire.values", V2),
    ("own-content", "wire.values", V2),
    ("meta-list", "wire.meta", BOTH),
    ("relative-cwd", "wire.paths", BOTH),
    ("two-lines", "wire.error-line", BOTH),
    ("lists", "wire.gated", BOTH),
    ("logs-out", "wire.logout", BOTH),
    ("logs-in-terminal", "wire.login", BOTH),
    ("other-session", "wire.session", BOTH),
    ("any-image", "wire.content", BOTH),
    ("any-server", "wire.servers", BOTH),
    ("more-directories", "wire.directories", BOTH),
    ("system-prompt", "wire.system-prompt", BOTH),
    ("sets-mode", "wire.modes", V1),
    ("other-option", "wire.permission", BOTH),
    ("lingers", "init.leaves", BOTH),
    ("reads-cursors", "list.pages", BOTH),
    ("attaches", "status.open", BOTH),
    ("mcp-both", "mcp.message", BOTH),
    ("dies-of-logout", "auth.lost", BOTH),
    ("fills-anything", "elicit.unknown", BOTH),
    ("prefetches", "elicit.visit", BOTH),
    ("ends-at-any-state", "turn.state", V2),
    ("loads-icons", "icons.http", V2),
    ("speaks-on", "init.older", V2),
    ("no-info", "init.info", V2),
    ("dies-of-plan", "update.kinds-2", V2),
    ("cancels-call", "wire.call-cancel", V2),
)
"""A defect, the check that catches it, and the versions in which it does."""
CAUGHT = [(version, defect, check) for defect, check, versions in DEFECTS for version in versions]


def judge(version: int, defect: str = "", *only: str) -> Report:
    """What the checks say of a double."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    run = partial(check_client, PuppetClient(version, defect), ClientSettings(version=version), only=only)
    return anyio.run(run, backend="trio", backend_options={"clock": clock})


@pytest.mark.parametrize(("version", "defect", "check"), CAUGHT, ids=[f"{defect}-v{v}" for v, defect, _ in CAUGHT])
def test_a_defect_is_caught_by_the_check_that_names_it(version: int, defect: str, check: str) -> None:
    [found] = judge(version, defect, check).outcomes
    assert found.verdict == "fail"
    assert "another shape" not in found.words
    assert "watchdog" not in found.words


@pytest.mark.parametrize("version", [1, 2])
def test_no_line_disturbs_the_watch(version: int) -> None:
    watch = ClientWatch(version)
    hello = {"protocolVersion": version, "agentCapabilities": {}, "capabilities": {"session": {}}, "authMethods": []}
    for method, result in (("initialize", hello), ("session/new", {"sessionId": "s"})):
        watch.heard(json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": {}}).encode())
        watch.sent({"id": method, "result": result})
    for line in islice(mutated(random.Random(version), seeds()), 3000):
        watch.sent({"id": 5, "method": "session/request_permission", "params": {"options": [{}]}})
        watch.heard(line)
    assert {check for check, _ in watch.faults} <= {check.id for check in WATCHED}


@pytest.mark.parametrize("version", [1, 2])
def test_the_double_without_a_defect_passes_every_check(version: int) -> None:
    only_shy = [check.id for check in client_checks(version) if check.unless and str(version) in check.unless]
    reports = [judge(version), judge(version, "shy", *only_shy)]
    assert [(o.check.id, o.words) for report in reports for o in report.failed()] == []
    assert all(report.conformant for report in reports)
    passed = {o.check.id for report in reports for o in report.outcomes if o.verdict == "pass"}
    assert {check.id for check in client_checks(version)} - passed == set()


@pytest.mark.parametrize("version", [1, 2])
def test_every_check_has_a_double_in_every_version_and_every_double_a_check(version: int) -> None:
    assert {check.id for check in client_checks(version)} == {check for v, _, check in CAUGHT if v == version}


@pytest.mark.parametrize("version", [1, 2])
def test_every_check_judges_a_requirement_of_clients_that_can_be_seen(version: int) -> None:
    known = requirements(1) | requirements(2)
    for check in client_checks(version):
        assert any(version in known[id].versions for id in check.requirements), check.id
        for id in check.requirements:
            assert known[id].who in ("client", "both"), f"{check.id}: {id}"
            assert not known[id].unobservable, f"{check.id}: {id}"
            assert set(known[id].versions) & set(check.versions), f"{check.id}: {id}"
