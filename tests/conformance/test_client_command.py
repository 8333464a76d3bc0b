"""`acp check client` judges our own client, in all its forms, and editors that come to it."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from our_client import BYTES, Ours, OursAtUrl

from acp.conformance.__main__ import main
from acp.conformance.client.checks import client_checks
from acp.conformance.client.run import check_client
from acp.conformance.client.serve import serve
from acp.conformance.client.settings import ClientSettings
from acp.conformance.client.stage import open_stage
from acp.conformance.verdicts import Report

HERE = Path(__file__).parent
DOUBLE = [sys.executable, "-S", "-E", str(HERE / "doubles" / "client.py")]
OURS = [sys.executable, str(HERE / "our_client.py")]
EXEC = [sys.executable, "-m", "acp_client", "--agent", "{agent}", "--cwd", "{cwd}"]


LEFT_TO_OTHERS = {"fs.no-read", "fs.no-write", "terminal.none", "elicit.none", "wire.login", "wire.meta", "wire.values"}
"""Of our client there is nothing to judge in these: it announces everything, and logs in nowhere."""
NOT_YET = {"status.open", "mcp.message"}


NETWORK = [pytest.param(scheme, marks=pytest.mark.slow) for scheme in ("ws", "http")]


@pytest.mark.parametrize("carrier", ["memory", *NETWORK])
@pytest.mark.parametrize("version", [1, 2])
def test_our_client_conforms_in_this_process_and_over_the_network(version: int, carrier: str) -> None:
    only = [check.id for check in client_checks(version) if check.id not in BYTES]
    settings = ClientSettings(version=version, linger=0.2, jobs=4)
    client = Ours(version) if carrier == "memory" else OursAtUrl(version, carrier)
    report = anyio.run(functools.partial(check_client, client, settings, only=only))
    assert [(o.check.id, o.words) for o in report.failed()] == []
    skipped = {o.check.id for o in report.outcomes if o.verdict == "skip"}
    assert skipped <= LEFT_TO_OTHERS | NOT_YET
    assert report.conformant


@pytest.mark.parametrize("version", [1, 2])
def test_our_client_conforms_as_a_process(version: int, capsys: pytest.CaptureFixture[str]) -> None:
    only = [word for id in [*BYTES, "turn.tour"] for word in ("--only", id)]
    options = ["--protocol", str(version), "--jobs", "2", *only]
    assert main(["client", *options, "--", *OURS, str(version), "{agent:words}"]) == 0
    assert f" {len(BYTES) + 1} passed, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("allow", ["ask", "all"])
def test_our_command_bears_what_an_agent_does_to_it(allow: str) -> None:
    only = ["turn.tour", "turn.error", "permission.answered", "cancel.permission", "cancel.late", "end.dies"]
    command = [*EXEC, "--allow", allow, "hello"]

    async def run() -> Report:
        return await check_client(command, ClientSettings(jobs=2), only=only)

    report = anyio.run(run)
    assert [(o.check.id, o.words) for o in report.failed()] == []
    assert [o.check.id for o in report.outcomes] == only


def test_a_failure_is_told_in_every_form(tmp_path: Path) -> None:
    report, page = tmp_path / "a.json", tmp_path / "a.html"
    only = ["--only", "rpc.ids", "--only", "turn.tour"]
    files = ["--json", str(report), "--html", str(page)]
    assert main(["client", *only, *files, "--timeout", "30", "--", *DOUBLE, "1", "number-ids", "{agent:words}"]) == 1
    rows = {row["id"]: row for row in json.loads(report.read_text())["checks"]}
    assert (rows["rpc.ids"]["verdict"], rows["turn.tour"]["verdict"]) == ("fail", "pass")
    assert '"17"' in str(rows["rpc.ids"]["transcript"])
    assert "NOT CONFORMANT" in page.read_text()


@pytest.mark.parametrize(
    ("command", "timeout", "words"),
    [
        ([sys.executable, "-c", "raise SystemExit('no such option') # {agent}"], "60", "no such option"),
        ([sys.executable, "-c", "import time; time.sleep(60) # {agent}"], "0.5", "did not start the agent"),
    ],
)
def test_a_client_that_starts_no_agent_fails(
    command: list[str], timeout: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["client", "--only", "turn.tour", "--timeout", timeout, "--", *command]) == 1
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["--serve", "s", "--", "a"], ["--", "a"], ["--env", "X", "--", "a", "{agent}"]]
)
def test_a_command_line_without_sense_is_told_apart(arguments: list[str]) -> None:
    assert main(["client", *arguments]) == 2


def test_the_agent_that_is_played_waits_for_a_stderr_that_does_not_block() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)  # as node does with a stderr that it hands on

    async def run(read: Callable[[int], bytes]) -> bytes:
        found = b""
        async with open_stage() as stage:
            process = await anyio.open_process(stage.command, stdout=subprocess.DEVNULL, stderr=theirs)
            os.close(theirs)
            async with process, await stage.enter() as wire, anyio.create_task_group() as group:
                group.start_soon(wire.complain, bytes(2**20))
                found = await anyio.to_thread.run_sync(read, 2**20)
        return found

    with open(ours, "rb") as reader:
        assert len(anyio.run(run, reader.read)) == 2**20


def test_a_client_of_version_1_does_not_conform_to_version_2(capsys: pytest.CaptureFixture[str]) -> None:
    command = [*DOUBLE, "1", "", "{agent:words}"]
    assert main(["client", "--protocol", "2", "--only", "turn.tour", "--timeout", "30", "--", *command]) == 1
    assert "asks for version 1 of the protocol" in capsys.readouterr().out


def test_an_editor_that_comes_by_itself_is_judged(tmp_path: Path) -> None:
    said: list[str] = []
    editor = [*DOUBLE, "1", "says rpc.ids, update.kinds fs.read wire.meta"]

    async def run() -> Report:
        found: list[Report] = []

        async def come(words: str) -> None:
            said.append(words)
            await anyio.run_process([*editor, *shlex.split(words.partition(": ")[2])], check=True)

        async with anyio.create_task_group() as group:

            def say(words: str) -> None:
                group.start_soon(come, words)

            found.append(await serve(tmp_path / "agent", ClientSettings(timeout=60), say))
        return found[0]

    outcomes = anyio.run(run).outcomes
    played = [o.check.id for o in outcomes if not o.check.id.startswith("wire.")]
    assert (len(said), sorted(played)) == (1, ["fs.read", "rpc.ids", "update.kinds"])
    assert [o.check.id for o in outcomes if o.verdict == "fail"] == []
    assert "wire.envelope" in [o.check.id for o in outcomes if o.verdict == "pass"]
    assert not (tmp_path / "agent").exists()
