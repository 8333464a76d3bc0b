"""Commands in the background: what the model and the client are told of them, how they end, and that they do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from test_agent_terminals import printed
from test_sessions import connected, initialize, is_idle, of_kind, open_again, start, take_turn
from toolbench import Bench
from wire_client import Message, WireClient

from acp.errors import LocalProtocolError
from acp.updates import ActionRequired, ExitStatus, Terminal, TurnEnded, TurnStarted, Work
from acp_server.agent import Agent
from acp_server.scripted import ScriptedBackend
from acp_server.state import SessionState
from acp_server.storage.journal import FileStore
from acp_server.terminals.background import MOST

pytestmark = pytest.mark.anyio
FOREVER = "echo $$ > pid; echo up; while :; do sleep 600; done"


def in_background(command: str) -> str:
    """The prompt that has the scripted model start a command."""
    return "call shell " + json.dumps({"cmd": command, "background": True})


def lists(ids: list[str]) -> Callable[[Message], bool]:
    """Whether a message is a state with this work in the background."""

    def is_it(message: Message) -> bool:
        update = message.get("params", {}).get("update", {})
        if update.get("sessionUpdate") != "state_update":
            return False
        return [work["terminalId"] for work in update["background"]] == ids

    return is_it


async def pid_in(directory: Path) -> int:
    """The process of FOREVER, once it runs."""
    with anyio.fail_after(60):
        while not ((file := directory / "pid").exists() and file.read_text().strip()):  # noqa: ASYNC110, a file
            await anyio.sleep(0.01)
    return int(file.read_text())


async def until_gone(pid: int) -> None:
    with anyio.fail_after(60):
        while _alive(pid):  # noqa: ASYNC110, a process
            await anyio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# The state of a session ----------------------------------------------------------------------------------------


def test_every_state_lists_the_background_and_an_end_is_told_before_the_list_without_it() -> None:
    state = SessionState("session s")
    assert state.take(TurnStarted()) == (TurnStarted(()),)
    state.detach("a")
    assert state.now() == TurnStarted((Work("terminal", "a"),))
    assert state.take(ActionRequired()) == (ActionRequired((Work("terminal", "a"),)),)
    assert state.take(state.now()) == (ActionRequired((Work("terminal", "a"),)),)
    assert state.take(TurnEnded("cancelled")) == (TurnEnded("cancelled", background=(Work("terminal", "a"),)),)
    end = Terminal("a", exit=ExitStatus(0))
    assert state.take(end) == (end, TurnEnded(None, background=()))
    assert state.take(end) == (end,)
    with pytest.raises(LocalProtocolError, match="session s cannot wait: it is idle"):
        state.take(ActionRequired())


# The tools -----------------------------------------------------------------------------------------------------


async def test_the_model_starts_looks_reads_and_ends(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        bench = Bench(tmp_path, group=group)
        began = await bench.outcome("shell", cmd="seq 1 5; echo last; read never", background="true")
        assert began.text.startswith("started in the background as shell_id t1;")
        assert began.raw_output == {"shell_id": "t1", "background": True}
        assert not began.failed
        await bench.call("shell_status", shell_id="t1", wait_s=600)  # its input is empty, so it ends
        status = await bench.outcome("shell_status")
        assert status.text.startswith("t1: exit_code: 1 after ")
        assert status.raw_output["shells"][0]["exit_code"] == 1
        tail = (await bench.call("shell_tail", shell_id="t1", lines=2)).splitlines()
        assert tail[1:] == ["5", "last"]


async def test_a_command_that_is_ended_takes_its_children_with_it(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        bench = Bench(tmp_path, group=group)
        await bench.outcome("shell", cmd="setsid sh -c 'echo $$ > pid; exec sleep 600' & wait", background=True)
        pid = await pid_in(tmp_path)
        killed = await bench.outcome("shell_kill", shell_id="t1")
        assert killed.text.startswith("t1: exit_code: -15 after ")
        assert killed.raw_output["signal"] == "SIGTERM"
        await until_gone(pid)
        assert (await bench.call("shell_status", bash_id="t1")).startswith("t1: exit_code: -15")


async def test_what_a_command_printed_is_kept_within_bounds(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        bench = Bench(tmp_path, limit=2000, group=group)
        await bench.outcome("shell", cmd="seq 1 300000", background=True)
        await bench.call("shell_status", shell_id="t1", wait_s=600)
        [shell] = bench.background.all()
        assert shell.command.output.size > 1_900_000
        assert sum(map(len, (shell.command.output.kept()[0], shell.command.output.kept()[2]))) < 100_000
        text = await bench.call("shell_tail", shell_id="t1", lines=2000)
        assert len(text) < 2200
        assert text.endswith("300000")


async def test_what_cannot_be_is_said_in_words(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        bench = Bench(tmp_path, group=group)
        assert "there are none" in await bench.call("shell_tail", shell_id="t9")
        assert await bench.call("shell_status") == "no command runs in the background"
        assert await bench.call("shell_kill") == "error: missing argument shell_id"
        for _ in range(MOST):
            await bench.outcome("shell", cmd="sleep 600", background=True)
        refused = await bench.call("shell", cmd="sleep 600", background=True)
        assert refused == f"error: {MOST} commands run in the background already; end one with shell_kill"
        assert (await bench.call("shell", cmd="echo still here")).endswith("still here")
        await bench.background.close()
        assert "being closed" in await bench.call("shell", cmd="sleep 600", background=True)
    assert "cannot run in the background" in await Bench(tmp_path).call("shell", cmd="true", background=True)


async def test_a_command_has_a_time_limit_in_the_background_too(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        bench = Bench(tmp_path, group=group)
        await bench.outcome("shell", cmd="sleep 600", background=True, timeout_s=1)
        assert "timed out after 1 s" in await bench.call("shell_status", shell_id="t1", wait_s=600)


async def test_those_that_ended_long_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acp_server.terminals.background.REMEMBERED", 2)
    async with anyio.create_task_group() as group:
        bench = Bench(tmp_path, group=group)
        for n in range(4):
            await bench.outcome("shell", cmd=f"exit {n}", background=True)
            await bench.call("shell_status", shell_id=f"t{n + 1}", wait_s=600)
        assert [shell.id for shell in bench.background.all()] == ["t3", "t4"]


# Version 2 -----------------------------------------------------------------------------------------------------


async def test_version_2_lists_it_beside_every_state_until_its_end_was_told(tmp_path: Path) -> None:
    work = [{"type": "terminal", "terminalId": "t1.1"}]
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        assert await take_turn(client, session, in_background(FOREVER), 2) == "end_turn"
        assert of_kind(client, "state_update")[-1]["background"] == work
        [call] = [u for u in of_kind(client, "tool_call_update") if u.get("status") == "completed"]
        assert call["content"][0] == {"type": "terminal", "terminalId": "t1.1"}
        await take_turn(client, session, "say hi", 2)  # another turn goes on beside it
        assert [u["background"] for u in of_kind(client, "state_update")[-2:]] == [work, work]
        await take_turn(client, session, 'call shell_kill {"shell_id": "t1.1"}', 2)
        updates = client.updates()
        [gone] = [u for u in updates if lists([])({"params": {"update": u}}) and updates.index(u) > 5]
        end = next(u for u in updates if u.get("exitStatus"))
        assert end["exitStatus"]["signal"] in ("SIGTERM", "SIGKILL")
        assert updates.index(end) < updates.index(gone)
        assert all("background" in u for u in of_kind(client, "state_update"))


async def test_it_ends_while_the_session_is_idle_and_the_turn_after_is_whole(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        await take_turn(client, session, in_background("echo on; cat fifo; exit 3"), 2)
        before = len(client.received)
        await anyio.Path(tmp_path, "fifo").write_text("off\n")
        last = (await client.until(lists([])))["params"]["update"]
        assert last == {"sessionUpdate": "state_update", "state": "idle", "background": []}
        after = [m["params"]["update"] for m in client.received[before:]]
        ends = [u for u in after if u["sessionUpdate"] == "terminal_update" and "exitStatus" in u]
        assert [u["exitStatus"] for u in ends] == [{"exitCode": 3}]
        assert after.index(ends[0]) == len(after) - 2
        assert printed(of_kind(client, "terminal_update", "terminal_output_chunk")) == b"on\noff\n"
        answer = await client.prompt(session, "say still here")
        assert answer["result"]["messageId"] == "t2.u"
        ended = await client.until(is_idle)
        assert ended["params"]["update"] == {
            "sessionUpdate": "state_update", "state": "idle", "stopReason": "end_turn", "background": [],
        }  # fmt: skip


async def test_cancelling_the_turn_leaves_it_and_cancelling_the_terminal_ends_it(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        await client.prompt(session, f"{in_background(FOREVER)}\nhang")
        await client.until(lists(["t1.1"]))
        pid = await pid_in(tmp_path)
        await client.notify("session/cancel", {"sessionId": session})
        ended = (await client.until(is_idle))["params"]["update"]
        assert ended["stopReason"] == "cancelled"
        assert ended["background"] == [{"type": "terminal", "terminalId": "t1.1"}]
        assert _alive(pid)
        assert (await client.call("terminal/cancel", {"sessionId": session, "terminalId": "t1.1"}))["result"] == {}
        await client.until(lists([]))
        await until_gone(pid)
        late = await client.call("terminal/cancel", {"sessionId": session, "terminalId": "t1.1"})
        assert late["error"]["code"] == -32602


async def test_a_resumed_session_is_told_what_runs_now(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        await take_turn(client, session, in_background(FOREVER), 2)
        if not of_kind(client, "terminal_output_chunk"):
            await client.until(lambda m: "terminal_output_chunk" in str(m))
        client.received.clear()
        await client.call(*open_again(session, tmp_path, 2, replay=True))
        [terminal] = of_kind(client, "terminal_update")
        assert terminal["capabilities"] == {"cancel": {}}
        assert "exitStatus" not in terminal
        assert printed([terminal]) == b"up\n"
        [state] = of_kind(client, "state_update")
        assert state["background"] == [{"type": "terminal", "terminalId": "t1.1"}]
        client.received.clear()
        await client.call(*open_again(session, tmp_path, 2, replay=False))
        assert of_kind(client, "state_update") == [state]


# Either version ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
async def test_closing_the_session_ends_it_and_says_so_before_the_answer(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, version)
        await take_turn(client, session, in_background(f"trap '' TERM; {FOREVER}"), version)
        pid = await pid_in(tmp_path)
        answer = await client.request("session/close", {"sessionId": session})
        await client.response(answer)
        if version == 2:
            told = [m["params"]["update"] for m in client.received[-3:-1]]
            assert told[0]["sessionUpdate"] == "terminal_update"
            assert "exitStatus" in told[0]
            assert told[1] == {"sessionUpdate": "state_update", "state": "idle", "background": []}
        await until_gone(pid)
        await client.call(*open_again(session, tmp_path, version, replay=True))  # and the replay knows that it ended
        if version == 2:
            assert "exitStatus" in of_kind(client, "terminal_update")[-1]
            assert of_kind(client, "state_update")[-1]["background"] == []
        assert await take_turn(client, session, 'call shell_status {"shell_id": "t1.1"}', version) == "end_turn"
        failed = [u for u in of_kind(client, "tool_call_update") if u.get("status") == "failed"]
        assert "it ended with its session" in str(failed[-1])


@pytest.mark.parametrize("version", [1, 2])
async def test_a_client_that_goes_away_takes_it_along(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, version)
        await take_turn(client, session, in_background(FOREVER), version)
        pid = await pid_in(tmp_path)
    await until_gone(pid)


@pytest.mark.parametrize("version", [1, 2])
async def test_it_is_asked_for_like_any_other_command(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        asked: list[Message] = []

        def reject(message: Message) -> Any:
            asked.append(message["params"])
            return {"outcome": {"outcome": "selected", "optionId": "reject_once"}}

        client.answer = reject
        session = await start(client, tmp_path, version)
        await take_turn(client, session, in_background(FOREVER), version)
        call = asked[0]["toolCall"] if version == 1 else asked[0]["subject"]["toolCall"]
        assert call["title"] == f"`{FOREVER}` in the background"
        assert not (tmp_path / "pid").exists()
        if version == 2:
            assert of_kind(client, "state_update")[-1]["background"] == []


async def test_a_killed_agents_commands_are_told_to_have_ended(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    store = FileStore(tmp_path / "journal")
    async with connected(Agent(ScriptedBackend(), store=store)) as client:
        session = await start(client, tmp_path / "work", 2)
        await take_turn(client, session, in_background(FOREVER), 2)
        [journal] = (tmp_path / "journal").rglob("*.jsonl")
        as_it_was = journal.read_bytes()  # what a kill would have left
    journal.write_bytes(as_it_was)
    async with connected(Agent(ScriptedBackend(), store=FileStore(tmp_path / "journal"))) as client:
        await initialize(client, 2)
        await client.call(*open_again(session, tmp_path / "work", 2, replay=True))
        [terminal] = of_kind(client, "terminal_update")
        assert terminal["command"] == FOREVER
        assert terminal["exitStatus"] == {}
        assert "capabilities" not in terminal


# Version 1 -----------------------------------------------------------------------------------------------------


async def start_v1(client: WireClient, cwd: Path) -> str:
    await initialize(client, 1, {"session": {"notices": {}}})
    return (await client.call("session/new", {"cwd": str(cwd), "mcpServers": []}))["result"]["sessionId"]


async def test_version_1_has_a_call_that_ends_a_notice_of_the_end_and_all_of_it_in_a_replay(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    async with connected() as client:
        session = await start_v1(client, tmp_path)
        assert await take_turn(client, session, in_background("echo on; cat fifo; exit 3"), 1) == "end_turn"
        assert not {u["sessionUpdate"] for u in client.updates()} & {"terminal_update", "state_update", "notice"}
        [done] = [u for u in of_kind(client, "tool_call_update") if u.get("status") == "completed"]
        assert "Runs in the background as t1.1." in str(done["content"])
        after = len(client.updates())
        await anyio.Path(tmp_path, "fifo").write_text("off\n")
        await client.until(lambda m: "notice" in str(m))
        assert client.updates()[after:] == [
            {
                "sessionUpdate": "notice",
                "severity": "info",
                "title": "`echo on; cat fifo; exit 3` in the background has ended",
                "description": "exit code 3",
            }
        ]
        await take_turn(client, session, 'call shell_tail {"shell_id": "t1.1"}', 1)
        assert "on\\noff" in str(of_kind(client, "tool_call_update")[-1])
        client.received.clear()
        await client.call(*open_again(session, tmp_path, 1, replay=True))
        first = next(u for u in of_kind(client, "tool_call", "tool_call_update") if u["toolCallId"] == "t1.1")
        assert "on\\noff" in str(first["content"])
        assert "notice" not in str(client.updates())


async def test_a_version_1_client_that_takes_no_notices_gets_none(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 1)
        await take_turn(
            client, session, f'{in_background("true")}\ncall shell_status {{"shell_id": "t1.1", "wait_s": 60}}', 1
        )
        assert "exit_code: 0" in str(client.updates())
        assert "notice" not in str(client.updates())
