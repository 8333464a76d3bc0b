"""Every check of a client catches the client that has just its defect, and passes the one without."""

from __future__ import annotations

import json
import random
import sys
from itertools import islice
from pathlib import Path

import anyio
import pytest

from acp.conformance.client.checks import client_checks
from acp.conformance.client.run import ClientSettings, check_client
from acp.conformance.client.watch import WATCHED, ClientWatch
from acp.conformance.exploring.fuzz import seeds
from acp.conformance.exploring.mutations import mutated
from acp.conformance.requirements import requirements
from acp.conformance.verdicts import Outcome, conformant

DOUBLE = Path(__file__).parent / "doubles" / "client.py"
DEFECTS = {
    "never-prompts": "turn.tour",
    "hurries": "init.waits",
    "any-version": "init.newer",
    "any-older-version": "init.older",
    "goes-on": "init.refused",
    "needs-all": "init.bare",
    "dies-of-more": "init.rich",
    "dies-of-malformed": "init.malformed",
    "prompts-anyway": "auth.login",
    "dies-of-replay": "load.early",
    "closes-hard": "close.unknown",
    "dies-of-big": "rpc.big",
    "decodes-chunks": "rpc.split",
    "one-a-chunk": "rpc.joined",
    "leaves-stderr": "rpc.stderr",
    "dies-of-error": "turn.error",
    "never-answers": "permission.answered",
    "keeps-question": "permission.withdrawn",
    "question-is-error": "permission.withdrawn",
    "leaves-question": "cancel.permission",
    "dies-of-late": "cancel.late",
    "stays": "end.dies",
    "stays-early": "end.early",
    "null-for-unknown": "rpc.unknown-method",
    "custom-silent": "rpc.custom-method",
    "dies-of-notification": "rpc.unknown-notification",
    "number-ids": "rpc.ids",
    "dies-of-params": "rpc.after-error",
    "dies-of-json": "rpc.no-json",
    "silent-json": "rpc.no-json-told",
    "dies-of-message": "rpc.no-message",
    "silent-message": "rpc.no-message-told",
    "dies-of-array": "rpc.array",
    "does-array": "rpc.array-told",
    "dies-of-cancel": "cancel.unknown",
    "cancels-own": "cancel.own",
    "dies-of-plan": "update.kinds",
    "dies-of-kind": "update.unknown",
    "dies-of-member": "update.unknown-members",
    "dies-of-meta": "update.meta",
    "dies-of-title": "update.malformed",
    "dies-of-broken": "update.broken",
    "dies-of-stranger": "update.unknown-session",
    "dies-of-early": "update.early",
    "dies-of-complete": "elicit.complete",
    "empty-cwd": "session.cwd",
    "mangles-session": "session.id",
    "dies-of-options": "session.options",
    "strips": "fs.read",
    "counts-from-0": "fs.read-lines",
    "reads-missing": "fs.read-missing",
    "writes-nothing": "fs.write",
    "exit-0": "terminal.run",
    "keeps-released": "terminal.released",
    "keeps-beginning": "terminal.truncate",
    "cuts-characters": "terminal.truncate",
    "kill-releases": "terminal.kill",
    "runs-here": "terminal.place",
    "any-terminal": "terminal.unknown",
    "fills-wrong": "elicit.form",
    "reads-anyway": "fs.no-read",
    "writes-anyway": "fs.no-write",
    "runs-anyway": "terminal.none",
    "shows-anyway": "elicit.none",
    "latin-1": "wire.utf8",
    "prints": "wire.purity",
    "answers-both": "wire.envelope",
    "answers-twice": "wire.unasked",
    "answers-notification": "wire.unasked",
    "one-id": "wire.ids",
    "null-id": "wire.ids",
    "own-method": "wire.names",
    "new-first": "wire.first",
    "no-cwd": "wire.schema",
    "no-outcome": "wire.schema",
    "own-member": "wire.members",
    "own-capability": "wire.capabilities",
    "own-action": "wire.values",
    "own-content": "wire.values",
    "meta-list": "wire.meta",
    "relative-cwd": "wire.paths",
    "two-lines": "wire.error-line",
    "lists": "wire.gated",
    "logs-out": "wire.logout",
    "logs-in-terminal": "wire.login",
    "other-session": "wire.session",
    "any-image": "wire.content",
    "any-server": "wire.servers",
    "more-directories": "wire.directories",
    "system-prompt": "wire.system-prompt",
    "sets-mode": "wire.modes",
    "other-option": "wire.permission",
}
DEFECTS_2 = {
    "speaks-on": "init.older",
    "no-info": "init.info",
    "dies-of-plan": "update.kinds-2",
    "cancels-call": "wire.call-cancel",
}
"""Defects of a client of version 2, where version 1 has none of the kind."""


CAUGHT = [(1, *pair) for pair in DEFECTS.items()] + [(2, *pair) for pair in DEFECTS_2.items()]


async def judge(version: int, defect: str, *only: str, timeout: float = 5.0) -> list[Outcome]:
    command = [sys.executable, "-S", "-E", str(DOUBLE), str(version), defect, "{agent:words}"]
    settings = ClientSettings(version=version, timeout=timeout, linger=0.5, jobs=2)
    return await check_client(command, settings, only=only)


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[int, str, str], str]:
    """What each defect's check says of it; several at once, for most of them wait."""
    found: dict[tuple[int, str, str], str] = {}

    async def one(limit: anyio.CapacityLimiter, row: tuple[int, str, str]) -> None:
        async with limit:
            [outcome] = await judge(*row, timeout=0.6)
            found[row] = outcome.verdict

    async def run() -> None:
        limit = anyio.CapacityLimiter(4)
        async with anyio.create_task_group() as group:
            for row in CAUGHT:
                group.start_soon(one, limit, row)

    anyio.run(run)
    return found


@pytest.mark.parametrize("row", CAUGHT, ids=str)
def test_a_defect_is_caught_by_the_check_that_names_it(
    verdicts: dict[tuple[int, str, str], str], row: tuple[int, str, str]
) -> None:
    assert verdicts[row] == "fail"


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
    assert {check for check, _ in watch.faults} <= set(WATCHED)


@pytest.mark.parametrize("version", [1, 2])
def test_the_double_without_a_defect_passes_every_check(version: int) -> None:
    only_shy = [check.id for check in client_checks(version) if check.unless and str(version) in check.unless]
    able, shy = anyio.run(judge, version, ""), anyio.run(judge, version, "shy", *only_shy)
    for outcomes in (able, shy):
        assert [(o.check.id, o.words) for o in outcomes if o.verdict == "fail"] == []
        assert conformant(outcomes)
    passed = {o.check.id for o in (*able, *shy) if o.verdict == "pass"}
    assert passed == {check.id for check in client_checks(version)}


def test_every_check_has_a_double_and_every_double_a_check() -> None:
    ids = {check.id for version in (1, 2) for check in client_checks(version)}
    assert ids == {*DEFECTS.values(), *DEFECTS_2.values()}


def test_every_check_judges_a_requirement_of_clients_that_can_be_seen() -> None:
    known = requirements(1) | requirements(2)
    for check in (check for version in (1, 2) for check in client_checks(version)):
        assert check.requirements, check.id
        for id in check.requirements:
            assert known[id].who in ("client", "both"), f"{check.id}: {id}"
            assert not known[id].unobservable, f"{check.id}: {id}"
