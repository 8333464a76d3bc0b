"""Agents on the network: the library and `acp exec` against `acp serve`, a real process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from announced import announced
from anyio.abc import Process

from acp.errors import ConnectionClosed
from acp_client import CannotStart, Host, allow_all, connect
from acp_client.cli.options import parse

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-many-characters"


@pytest.fixture(params=["ws", "http"])
def way(request: pytest.FixtureRequest) -> str:
    """How the client and the server talk."""
    return str(request.param)


@asynccontextmanager
async def served(way: str, *arguments: str) -> AsyncGenerator[tuple[str, Process]]:
    """A server with the scripted model: its URL and its process."""
    command = [sys.executable, "-m", "acp", "serve", f"--{way}", "127.0.0.1:0", "--backend", "scripted"]
    async with announced(*command, "--sessions", "none", *arguments) as server:
        yield server.url, server.process


@pytest.mark.parametrize("version", [1, 2])
async def test_a_turn_over_the_network(tmp_path: Path, way: str, version: int) -> None:
    async with served(way) as (url, _), connect(url, host=Host(ask=allow_all), version=version) as client:
        session = await client.new_session(tmp_path)
        async with session.prompt("write a.txt hello\nsay done") as turn:
            assert await turn.text() == "done"
        assert turn.stop_reason == "end_turn"
        assert (tmp_path / "a.txt").read_text() == "hello"


async def test_tokens_and_refusals(tmp_path: Path, way: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)

    async def use(url: str, headers: Mapping[str, str] | None = None) -> None:
        async with connect(url, headers=headers) as client:
            await client.new_session(tmp_path)

    async with served(way, "--token-file", str(tokens)) as (url, _):
        await use(url, {"Authorization": f"Bearer {TOKEN}"})
        with pytest.raises(CannotStart, match="401 Unauthorized: a bearer token is needed"):
            await use(url)
        with pytest.raises(CannotStart, match="403 Forbidden: pages of that origin"):
            await use(url, {"Origin": "https://evil.example"})
        with pytest.raises(CannotStart, match="404 Not Found"):
            await use(url.replace("/acp", "/other"))
    with pytest.raises(CannotStart, match="cannot be reached"):
        await use(url)
    with pytest.raises(CannotStart, match=r"not the URL of a WebSocket|not a URL of HTTP"):
        await use(f"{way}://:1")


async def test_a_server_that_dies_is_told_to_whoever_waits(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp.transports.http_client.REOPENING", 0.2)
    async with served(way) as (url, process), connect(url, reconnect=None) as client:
        session = await client.new_session(tmp_path)
        with pytest.raises(ConnectionClosed, match=r"network connection was lost|be reached|not reached"):  # noqa: PT012
            async with session.prompt("slow") as turn:
                async for _ in turn:
                    process.kill()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_exec_takes_a_url_and_a_token(tmp_path: Path, way: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)

    async def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "acp", "exec", "--cwd", str(tmp_path), *arguments, "say hello"]
        return await anyio.run_process(command, check=False)

    async with served(way, "--token-file", str(tokens)) as (url, _):
        for how in (["--token-file", str(tokens)], ["--header", f"Authorization=Bearer {TOKEN}"]):
            done = await run("--url", url, *how)
            assert (done.returncode, done.stdout.splitlines()[0]) == (0, b"hello")
        refused = await run("--url", url)
        assert refused.returncode == 1
        assert b"401" in refused.stderr
        assert b"Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--url", "ftp://x"], "not a URL of ws, wss, http"),
        (["--url", "ws://x", "--agent", "y"], "--agent or --url"),
        (["--url", "ws://x", "--backend", "scripted"], "--backend is for our own agent"),
        (["--url", "ws://x", "--header", "secret"], "--header: not K=V"),
        (["--header", "a=b"], "are for --url"),
    ],
)
def test_wrong_options_are_said(capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([*arguments, "hi"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert why in said
    assert "secret" not in said
