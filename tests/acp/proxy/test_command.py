"""`acp conductor` as a user runs it: real processes, the example proxy, our client in front."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acp.updates import MessageChunk, TextBlock
from acp_client import connect

ROOT = Path(__file__).parents[3]
CONDUCTOR = [sys.executable, "-m", "acp.proxy.__main__"]
AGENT = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", "none"]
PROXY = f"{sys.executable} {ROOT / 'examples' / 'proxy.py'}"


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


def test_an_agent_that_dies_ends_the_chain_with_its_last_words() -> None:
    dying = [sys.executable, "-c", "import sys; input(); sys.exit('no more')"]
    line = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'
    command = [*CONDUCTOR, "--", *dying]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        said = process.stdout.readline()
        assert process.wait(20) == 1
    assert "the agent has gone" in said
    assert "no more" in said


@pytest.mark.parametrize(
    "arguments", [[], ["--proxy", "x"], ["--proxy", "", "--", "agent"], ["--proxy", "'", "--", "agent"]]
)
def test_a_command_line_without_sense_is_refused(arguments: list[str]) -> None:
    done = subprocess.run([*CONDUCTOR, *arguments], capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2


def test_a_component_that_cannot_be_started_is_named() -> None:
    done = subprocess.run([*CONDUCTOR, "--", "/no/such/agent"], capture_output=True, cwd=ROOT, timeout=60, input=b"")
    assert done.returncode == 1
    assert b"/no/such/agent" in done.stderr
