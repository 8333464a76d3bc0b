"""The agent as an editor starts it: a child process, spoken to in lines on its stdin and stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from wire_client import WireClient

from acp_server.model import Assistant, User
from acp_server.storage.history import messages_of
from acp_server.storage.journal import FileStore
from acp_server.storage.store import Card

pytestmark = pytest.mark.anyio

COMMAND = [sys.executable, "-m", "acp_server", "--backend", "scripted"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def started(*arguments: str) -> AsyncGenerator[tuple[WireClient, Process], None]:
    """A running agent and a client of it. Its log is this test's stderr."""
    process = await anyio.open_process([*COMMAND, *arguments], stderr=None)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, lines = process.stdin, BufferedByteReceiveStream(process.stdout)

    async def send(line: bytes) -> None:
        await stdin.send(line + b"\n")

    async def receive() -> bytes:
        return await lines.receive_until(b"\n", 1 << 24)

    try:
        yield WireClient(send, receive), process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def _ends(process: Process, within: float = 60.0) -> int:
    with anyio.fail_after(within):
        return await process.wait()


def _running(marker: str) -> list[str]:
    """The command lines of running processes that mention the marker."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in line and "acp_server" not in line and "pytest" not in line:
            found.append(line)
    return found


async def _gone(marker: str, within: float = 60.0) -> bool:
    with anyio.move_on_after(within):
        while _running(marker):  # noqa: ASYNC110, no event tells when another process ends
            await anyio.sleep(0.02)
        return True
    return False


async def test_a_turn_over_stdio_edits_a_real_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    async with started() as (client, process):
        session = await client.start(str(tmp_path))
        response = await client.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 2'\nrun cat a.py")
        assert response["result"]["stopReason"] == "end_turn"
        assert (tmp_path / "a.py").read_text() == "x = 2\n"
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await _ends(process) == 0


def test_initialize_is_answered_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "never.py").write_text(NEVER_READY)
    command = [sys.executable, "-m", "acp_server", "--backend", "never:open_backend"]
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}})
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        assert b'"protocolVersion":1' in process.stdout.readline()


NEVER_READY = """
import anyio

class Never:
    async def ready(self):
        await anyio.sleep_forever()

    async def aclose(self):
        pass

def open_backend(path=None, *, device=None):
    return Never()
"""


def test_nothing_heavy_is_imported_at_the_start() -> None:
    code = "import sys, acp_server.__main__; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers", "websockets", "hypothesis"} & set(modules)
    assert not {"pathspec", "laguna_backend"} & set(modules)


async def test_the_end_of_stdin_in_the_middle_of_a_command_kills_it(tmp_path: Path) -> None:
    marker = f"601.{os.getpid()}1"
    async with started("--allow", "all") as (client, process):
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, f"run echo started; sleep {marker}")
        await client.until_output("started")
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await _ends(process) == 0
        assert await _gone(f"sleep {marker}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_turn_and_its_children_and_the_agent(tmp_path: Path, number: signal.Signals) -> None:
    marker = f"601.{os.getpid()}2{int(number):02}"
    async with started("--allow", "all") as (client, process):
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, f"run echo started; sleep {marker}")
        await client.until_output("started")
        process.send_signal(number)
        assert await _ends(process) == 0
        assert await _gone(f"sleep {marker}")


async def test_cancel_leaves_no_child_even_one_that_ignores_sigterm(tmp_path: Path) -> None:
    marker = f"601.{os.getpid()}3"
    async with started("--allow", "all") as (client, _):
        session = await client.start(str(tmp_path))
        id = await client.begin_prompt(session, f"run trap '' TERM; echo started; sleep {marker}; sleep {marker}")
        await client.until_output("started")
        await client.notify("session/cancel", {"sessionId": session})
        assert (await client.response(id))["result"]["stopReason"] == "cancelled"
        assert await _gone(f"sleep {marker}")


async def test_killing_the_agent_kills_the_command_it_was_running(tmp_path: Path) -> None:
    marker = f"601.{os.getpid()}4"
    async with started("--allow", "all") as (client, process):
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, f"run echo started; sleep {marker}")
        await client.until_output("started")
        process.kill()
        await _ends(process)
        assert await _gone(f"sleep {marker}")


def test_a_client_that_closes_its_ear_ends_the_agent(tmp_path: Path) -> None:
    prompt = {"sessionId": "", "prompt": [{"type": "text", "text": "slow"}]}
    requests = [("initialize", {"protocolVersion": 1}), ("session/new", {"cwd": str(tmp_path), "mcpServers": []})]
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answer: dict[str, Any] = {}
        for id, (method, params) in enumerate([*requests, ("session/prompt", prompt)]):
            message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            prompt["sessionId"] = answer.get("result", {}).get("sessionId", "")
        assert answer["method"] == "session/update"
        process.stdout.close()
        assert process.wait(60) == 0


async def test_a_client_that_does_not_read_cannot_keep_the_agent_alive(tmp_path: Path) -> None:
    async with started() as (client, process):
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, "count 1000000")
        await client.until(lambda m: m.get("method") == "session/update")
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await _ends(process) == 0


async def test_the_end_of_stdin_while_the_user_is_asked_ends_the_agent(tmp_path: Path) -> None:
    async with started() as (client, process):
        client.answer = lambda m: None
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, "run touch made")
        await client.until_asked()
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await _ends(process) == 0
        assert not (tmp_path / "made").exists()


def test_requests_that_came_before_the_end_of_stdin_are_answered() -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}})
    done = subprocess.run(COMMAND, input=line.encode() + b"\n", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["result"]["protocolVersion"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "gpt"], "no backend 'gpt'"),
        (["--allow", "everything"], "invalid choice: 'everything'"),
        (["--log-file", "/no/such/directory/log"], "--log-file"),
    ],
)
def test_a_wrong_option_is_said_on_stderr_with_status_2(arguments: list[str], words: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


async def test_the_log_can_go_to_a_file(tmp_path: Path) -> None:
    async with started("--log-file", str(tmp_path / "log")) as (client, process):
        await client.start(str(tmp_path))
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await _ends(process) == 0
    assert "session" in (tmp_path / "log").read_text()


async def test_nothing_that_a_killed_agent_had_said_is_lost_and_its_turn_is_said_to_have_been_cut_short(
    tmp_path: Path,
) -> None:
    kept = ("--sessions", str(tmp_path / "kept"))
    async with started(*kept) as (client, process):
        session = await client.start(str(tmp_path))
        await client.begin_prompt(session, "say " + "word " * 300 + "\nslow")
        await client.until(lambda message: "7 " in client.text())
        process.kill()
        told = client.text()
    async with started(*kept) as (client, _):
        await client.call("initialize", {"protocolVersion": 1})
        await client.call("session/load", {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []})
        replayed = client.text()
        assert replayed.startswith(told)
        assert "cut short" in replayed.removeprefix(told)
        assert (await client.prompt(session, "say again"))["result"]["stopReason"] == "end_turn"


async def test_an_agent_that_is_killed_in_a_compaction_shows_the_model_nothing_of_it(tmp_path: Path) -> None:
    kept = ("--sessions", str(tmp_path / "kept"))
    async with started(*kept) as (client, process):
        session = await client.start(str(tmp_path), {"session": {"compaction": {}}})
        await client.prompt(session, "say one")
        await client.begin_prompt(session, "/compact the names\nslow")  # which the scripted model does in place of that
        await client.until(lambda message: "compaction_summary_chunk" in str(message))
        process.kill()
    async with started(*kept) as (client, process):
        await client.call("initialize", {"protocolVersion": 1})
        await client.call("session/load", {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []})
        assert "cut short" in client.text()
        assert (await client.prompt(session, "say two"))["result"]["stopReason"] == "end_turn"
        process.kill()
    shown = messages_of(FileStore(tmp_path / "kept").read(session)[1])
    assert [(type(message), message.text) for message in shown] == [
        (User, "say one"),
        (Assistant, "one"),
        (User, "say two"),
        (Assistant, "two"),
    ]


async def test_sessions_of_principals_are_not_those_of_the_agent_of_an_editor(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "kept")
    store.create(Card("hers", str(tmp_path), owner="alice")).close()
    store.create(Card("mine", str(tmp_path))).close()
    async with started("--sessions", str(tmp_path / "kept")) as (client, _):
        await client.call("initialize", {"protocolVersion": 1})
        listed = (await client.call("session/list", {}))["result"]["sessions"]
        assert [session["sessionId"] for session in listed] == ["mine"]
        refused = await client.call("session/load", {"sessionId": "hers", "cwd": str(tmp_path), "mcpServers": []})
        assert refused["error"]["code"] == -32002


async def test_the_agent_of_an_editor_lets_it_say_where_the_model_is() -> None:
    openai = ("--backend", "openai", "--backend-option", "base_url=http://127.0.0.1:1/v1", "--unstable", "providers")
    async with started(*openai) as (client, _):
        await client.call("initialize", {"protocolVersion": 1})
        assert (await client.call("providers/list", {}))["result"]["providers"]
