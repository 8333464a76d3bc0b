"""`acp bridge`, both ways, as processes: an agent of stdio on the network, and one of the network on stdio."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from announced import announced
from anyio.abc import Process

from acp.transports.websocket_opening import connect_websocket
from acp_client import Host, allow_all, connect
from acp_server.network.bridge import main

pytestmark = pytest.mark.anyio

AGENT = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", "none"]
TO_NETWORK = [sys.executable, "-m", "acp", "bridge", "--url"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def bridged(*command: str, options: tuple[str, ...] = ()) -> AsyncGenerator[tuple[str, Process]]:
    """A bridge in front of a command: its URL and its process."""
    where = () if "--http" in options else ("--ws", "127.0.0.1:0")
    words = [sys.executable, "-m", "acp", "bridge", *where, *options, "--", *command]
    async with announced(*words) as server:
        try:
            yield server.url, server.process
        finally:
            with anyio.CancelScope(shield=True):
                if server.process.returncode is None:
                    server.process.terminate()
                    assert await server.process.wait() == 0


@pytest.mark.parametrize("options", [(), ("--http", "127.0.0.1:0")], ids=["ws", "http"])
async def test_there_and_back_again(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Client → bridge on stdio → network → bridge → agent on stdio."""
    async with bridged(*AGENT, options=options) as (url, _):
        async with connect([*TO_NETWORK, url], host=Host(ask=allow_all)) as client:
            session = await client.new_session(tmp_path)
            async with session.prompt("write a.txt hello\ncount 2000") as turn:
                words = (await turn.text()).split()
            assert words == [str(n) for n in range(1, 2001)]
        assert (tmp_path / "a.txt").read_text() == "hello"


async def test_texts_pass_as_they_are() -> None:
    async with bridged("cat") as (url, _), connect_websocket(url) as transport:
        texts = [b"no json at all", '{"é": "\\n🙂"}'.encode(), b" 1 ", b"x" * 3_000_000]
        async with anyio.create_task_group() as group:
            group.start_soon(transport.send, *texts, b'{\n"a":\r\n1}')
            assert [await transport.receive() for _ in texts] == texts
            assert await transport.receive() == b'{ "a":  1}'


async def test_each_connection_has_a_process_that_ends_with_it() -> None:
    code = "import os, sys; print(os.getpid(), flush=True); [None for _ in sys.stdin]"
    async with bridged(sys.executable, "-c", code) as (url, _):
        async with connect_websocket(url) as one, connect_websocket(url) as other:
            pids = {int(await transport.receive()) for transport in (one, other)}  # pyright: ignore[reportArgumentType]
            assert len(pids) == 2
            handles = [os.pidfd_open(pid) for pid in pids]
        for handle in handles:
            await anyio.wait_readable(handle)
            os.close(handle)


@pytest.mark.parametrize(("code", "expected"), [("print(1)", 1000), ("print(1); raise SystemExit(3)", 1011)])
async def test_an_agent_that_ends_ends_its_connection_and_how_is_told(code: str, expected: int) -> None:
    async with bridged(sys.executable, "-c", code) as (url, _), connect_websocket(url) as transport:
        assert await transport.receive() == b"1"
        with pytest.raises(anyio.EndOfStream):
            await transport.receive()
        assert transport.close_code == expected


async def test_the_gate_is_in_front_of_a_bridge_too(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-many-characters")
    async with bridged(*AGENT, options=("--token-file", str(tokens))) as (url, _):
        run = await anyio.run_process([*TO_NETWORK, url], check=False)
        assert (run.returncode, run.stdout) == (1, b"")
        assert b"401" in run.stderr
        initialize = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'
        command = [*TO_NETWORK, url, "--token-file", str(tokens)]
        run = await anyio.run_process(command, input=initialize, check=False)
        assert run.returncode == 0
        assert b'"protocolVersion":1' in run.stdout


async def test_a_server_that_goes_away_ends_the_bridge_and_is_said() -> None:
    async with bridged("cat") as (url, server):
        process = await anyio.open_process([*TO_NETWORK, url])
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdin.send(b"1\n")
        assert await process.stdout.receive() == b"1\n"
        server.send_signal(signal.SIGTERM)
        assert await process.wait() == 1
        assert b"1001 (the server is shutting down)" in await process.stderr.receive()
        assert await server.wait() == 0
        await process.aclose()


def test_wrong_options_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        ([], "give -- COMMAND, or --url URL"),
        (["--", "no-such-command-here"], "there is no command"),
        (["--url", "ws://x", "--", "cat"], "not both"),
        (["--ws", "0.0.0.0:1", "--", "cat"], "not this machine alone"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert why in capsys.readouterr().err
