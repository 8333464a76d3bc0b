"""`acp conductor` as a user runs it: real processes, the example proxy, our client in front."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acp.updates import MessageChunk, TextBlock
from acp_client import connect

ROOT = Path(__file__).parents[3]
CONDUCTOR = [sys.executable, "-m", "acp.proxy.__main__"]
AGENT = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", "none"]
PROXY = shlex.join([sys.executable, str(ROOT / "examples" / "proxy.py")])


@pytest.mark.anyio
async def test_the_example_dates_each_prompt(tmp_path: Path) -> None:
    chain = [*CONDUCTOR, "--proxy", PROXY, "--proxy", PROXY, "--", *AGENT]
    words: list[str] = []
    async with connect(chain, env={"PYTHONPATH": str(ROOT)}) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("say hello") as turn:
            async for update in turn:
                match update:
                    case MessageChunk("agent", TextBlock(text)):
                        words.append(text)
                    case _:
                        pass
    assert "".join(words).count("Today is") == 2
    assert turn.stop_reason == "end_turn"


ON_TRIO = [
    sys.executable,
    "-c",
    "import anyio, sys; from functools import partial; from acp.proxy import __main__ as command; "
    "command.anyio.run = partial(anyio.run, backend='trio'); sys.exit(command.main())",
]
"""The same command on the other event loop."""
both_loops = pytest.mark.parametrize("command", [CONDUCTOR, ON_TRIO], ids=["asyncio", "trio"])
INITIALIZE = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'
DIES_AT_A_LINE = [sys.executable, "-c", "import sys; input(); sys.exit('no more')"]


def begin(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def asked(process: subprocess.Popen[str]) -> str:
    """The answer to `initialize`, the client still being there."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(INITIALIZE)
    process.stdin.flush()
    return process.stdout.readline()


def complaint(process: subprocess.Popen[str]) -> str:
    """What a chain that has ended or is about to says on stderr: never the insides of Python."""
    assert process.stderr is not None
    said = process.stderr.read()
    assert "Traceback" not in said, said
    return said


@both_loops
@pytest.mark.parametrize("proxies", [[], ["--proxy", PROXY]], ids=["alone", "with a proxy"])
def test_a_client_that_ends_is_a_clean_end(command: list[str], proxies: list[str]) -> None:
    with begin([*command, *proxies, "--", *AGENT]) as process:
        assert '"protocolVersion":1' in asked(process)
        assert process.stdin is not None
        process.stdin.close()
        assert (process.wait(30), complaint(process)) == (0, "")


@both_loops
def test_a_client_that_says_nothing_is_a_clean_end(command: list[str]) -> None:
    done = subprocess.run([*command, "--", *AGENT], capture_output=True, cwd=ROOT, timeout=60, input=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@both_loops
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_is_a_clean_end(command: list[str], number: signal.Signals) -> None:
    with begin([*command, "--proxy", PROXY, "--", *AGENT]) as process:
        assert '"protocolVersion":1' in asked(process)
        process.send_signal(number)
        assert (process.wait(30), complaint(process)) == (0, "")


@both_loops
@pytest.mark.parametrize(
    ("chain", "who"),
    [
        (["--", *DIES_AT_A_LINE], "the agent has gone"),
        (["--proxy", shlex.join(DIES_AT_A_LINE), "--", *AGENT], f"proxy 1 ({sys.executable}) has gone"),
    ],
    ids=["the agent", "a proxy"],
)
def test_a_component_that_dies_ends_the_chain_with_its_last_words(
    command: list[str], chain: list[str], who: str
) -> None:
    with begin([*command, *chain]) as process:
        said = asked(process)
        assert process.wait(20) == 1
        assert who in complaint(process)
    assert who in said
    assert "no more" in said


@both_loops
def test_an_agent_that_dies_at_once_ends_the_chain(command: list[str]) -> None:
    with begin([*command, "--", sys.executable, "-c", "import sys; sys.exit('no more')"]) as process:
        assert process.wait(20) == 1
        assert "no more" in complaint(process)


@pytest.mark.parametrize(
    "arguments", [[], ["--proxy", "x"], ["--proxy", "", "--", "agent"], ["--proxy", "'", "--", "agent"]]
)
def test_a_command_line_without_sense_is_refused(arguments: list[str]) -> None:
    done = subprocess.run([*CONDUCTOR, *arguments], capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2


@both_loops
@pytest.mark.parametrize(
    ("chain", "who"),
    [
        (["--", "/no/such/agent"], "the agent"),
        (["--", "/"], "the agent"),
        (["--proxy", "/no/such/proxy", "--", *AGENT], "proxy 1 (/no/such/proxy)"),
        (["--proxy", PROXY, "--", "/no/such/agent"], "the agent"),
    ],
    ids=["no agent", "a directory", "no proxy", "no agent behind a proxy"],
)
def test_a_component_that_cannot_be_started_is_named(command: list[str], chain: list[str], who: str) -> None:
    done = subprocess.run([*command, *chain], capture_output=True, cwd=ROOT, timeout=60, input=b"")
    assert done.returncode == 1
    assert done.stdout == b""
    said = done.stderr.decode()
    assert said.startswith(f"acp conductor: {who} cannot be started: ")
    assert said.count("\n") == 1
