"""`acp serve` as a process: its options, its URL, TLS, tokens that nobody sees, and its end."""

from __future__ import annotations

import shutil
import signal
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from announced import Announced, announced
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from acp.errors import ConnectionClosed, RequestError
from acp.transports.remote import CannotConnect
from acp.transports.remote_url import connect as reach
from acp.transports.websocket_opening import connect_websocket
from acp_client import Session, connect
from acp_server.network.serve import main

pytestmark = pytest.mark.anyio

TOKEN = "a-token-that-nobody-sees-0123456789"
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}'
SCRIPTED = ("--backend", "scripted", "--sessions", "none")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    def __init__(self, process: Process, lines: BufferedByteReceiveStream, url: str) -> None:
        self.process, self.url = process, url
        self._lines = lines

    async def stop(self) -> tuple[int, str]:
        """End it with SIGTERM; its status and what it said after the URL."""
        self.process.send_signal(signal.SIGTERM)
        return await self.stopped()

    async def stopped(self) -> tuple[int, str]:
        """What `stop` says, of one that was told to end."""
        words = b""
        try:
            while True:
                words += await self._lines.receive()
        except anyio.EndOfStream:
            return await self.process.wait(), words.decode()


@asynccontextmanager
async def served(*arguments: str) -> AsyncGenerator[Server]:
    where = () if {"--http", "--ws"} & {*arguments} else ("--ws", "127.0.0.1:0")
    command = [sys.executable, "-m", "acp", "serve", *where, *SCRIPTED, *arguments]
    async with announced(*command) as server:
        yield Server(server.process, server.lines, server.url)


async def test_it_says_where_it_is_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"alice {TOKEN}\n")
    async with served("--token-file", str(tokens), "--verbose") as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with connect_websocket(server.url, headers=headers) as transport:
            await transport.send(INITIALIZE)
            text = await transport.receive()
            assert isinstance(text, bytes)
            assert b"protocolVersion" in text
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(anyio.EndOfStream):
                await transport.receive()
            assert transport.close_code == 1001
        status, log = await server.stopped()  # it was told already; another signal may meet its very last moment
        assert status == 0
        assert "alice at 127.0.0.1" in log
        assert TOKEN not in log
        assert "Traceback" not in log


async def take(session: Session, act: Callable[[], object]) -> None:
    """Take a turn that never ends, and act on its first update."""
    async with session.prompt("slow") as turn:
        await anext(aiter(turn))
        act()
        async for _ in turn:
            pass


WAYS = pytest.mark.parametrize("way", ["ws", "http", "ws at http"])


@asynccontextmanager
async def reached(way: str, *arguments: str) -> AsyncGenerator[tuple[Server, str]]:
    """A server, and the URL to come to it by."""
    where = ("--ws" if way == "ws" else "--http", "127.0.0.1:0")
    async with served(*where, *arguments) as server:
        yield server, server.url.replace("http:", "ws:") if way == "ws at http" else server.url


@WAYS
async def test_a_turn_that_does_not_end_in_time_is_cut_off_with_1001(way: str, tmp_path: Path) -> None:
    async with reached(way, "--drain", "0.3") as (server, url), connect(url, reconnect=None) as client:
        session = await client.new_session(tmp_path)
        with anyio.fail_after(60), pytest.raises(ConnectionClosed, match="1001"):
            await take(session, lambda: server.process.send_signal(signal.SIGTERM))
        assert (await server.stopped())[0] == 0


@WAYS
async def test_nobody_new_gets_in_while_turns_end_and_a_second_signal_does_not_wait_for_them(
    way: str, tmp_path: Path
) -> None:
    async with reached(way, "--drain", "100") as (server, url), connect(url, reconnect=None) as client:
        session = await client.new_session(tmp_path)
        async with anyio.create_task_group() as group:
            running = anyio.Event()

            async def turn() -> None:
                with pytest.raises(ConnectionClosed, match="1001"):
                    await take(session, running.set)

            group.start_soon(turn)
            await running.wait()
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(CannotConnect) as refused:  # noqa: PT012
                while True:  # until it has heard the signal
                    await knock(url)
            assert (refused.value.status, refused.value.retry_after) == (503, 5.0)
            if way == "http":
                with pytest.raises(RequestError, match="503"):
                    await client.new_session(tmp_path)
            with anyio.fail_after(60):
                status, log = await server.stop()
            assert status == 0
            assert "Traceback" not in log


async def test_of_signals_that_come_together_none_is_missed(tmp_path: Path) -> None:
    async with served("--drain", "100") as server, connect(server.url, reconnect=None) as client:
        session = await client.new_session(tmp_path)
        both = signal.SIGTERM, signal.SIGINT  # of one kind the system tells one
        with anyio.fail_after(60), pytest.raises(ConnectionClosed, match="1001"):
            await take(session, lambda: [server.process.send_signal(one) for one in both])
        with anyio.fail_after(60):
            status, log = await server.stopped()
        assert status == 0
        assert "Traceback" not in log


LINGERING = """
import atexit, os, sys, time
from acp_server.scripted import ScriptedBackend

def wait_for(name):
    print(name, file=sys.stderr, flush=True)
    while not os.path.exists(name):
        time.sleep(0.01)

class Lingering(ScriptedBackend):
    async def aclose(self):
        wait_for("closing")

def open_backend(path=None, *, device=None):
    atexit.register(wait_for, "exiting")
    return Lingering()
"""


@pytest.mark.parametrize("phase", ["closing", "exiting"])
async def test_a_signal_while_it_tidies_up_changes_nothing(phase: str, tmp_path: Path) -> None:
    (tmp_path / "lingering.py").write_text(LINGERING)
    command = [sys.executable, "-m", "acp", "serve", "--ws", "127.0.0.1:0", "--sessions", "none"]
    async with announced(*command, "--backend", "lingering:open_backend", cwd=tmp_path) as server:
        async with connect(server.url, reconnect=None) as client:
            session = await client.new_session(tmp_path)
            async with session.prompt("say hello") as turn:
                assert await turn.text() == "hello"
        server.process.send_signal(signal.SIGTERM)
        await reaches(server, "closing")
        if phase == "exiting":
            (tmp_path / "closing").touch()
            await reaches(server, "exiting")
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        (tmp_path / "closing").touch()
        if phase == "closing":
            (tmp_path / "exiting").touch()  # which nobody has to wait for after a signal
        assert await server.process.wait() == 0


async def reaches(server: Announced, phase: str) -> None:
    while phase not in (await server.lines.receive_until(b"\n", 10_000)).decode():
        pass


async def knock(url: str) -> None:
    """Begin a connection. Raises CannotConnect where the server lets nobody in."""
    async with reach(url) as transport:
        try:
            await transport.send(INITIALIZE)
            await transport.receive()
        except (anyio.BrokenResourceError, anyio.EndOfStream):  # let in just before the signal, and sent away by it
            if transport.refusal is not None:
                raise transport.refusal from None


async def certified(tmp_path: Path) -> tuple[Path, Path]:
    """A key, and a certificate for this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    await anyio.run_process([*make, "-keyout", str(key), "-out", str(certificate)])
    return key, certificate


async def test_it_speaks_tls(tmp_path: Path) -> None:
    key, certificate = await certified(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with served("--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        assert server.url.startswith("wss://")
        async with connect_websocket(server.url, tls=trusting) as transport:
            large = b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":"' + b"x" * 1_000_000 + b'"}}'
            await transport.send(large)
            assert b"-32600" in await transport.receive()  # pyright: ignore[reportOperatorIssue]
        with pytest.raises(CannotConnect, match=r"(?i)certificate"):
            async with connect_websocket(server.url):
                pass
        plain = server.url.replace("wss:", "ws:")
        with pytest.raises(CannotConnect):
            async with connect_websocket(plain):
                pass
        assert (await server.stop())[0] == 0


async def test_it_speaks_http_2_over_tls_and_websocket_at_the_same_address(tmp_path: Path) -> None:
    key, certificate = await certified(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with served("--http", "127.0.0.1:0", "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        async with httpx2.AsyncClient(http2=True, verify=trusting) as client:
            answer = await client.post(server.url, content=INITIALIZE, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        async with connect(server.url, tls=trusting) as agent:
            session = await agent.new_session(tmp_path)
            async with session.prompt("say hello") as turn:
                assert await turn.text() == "hello"
        async with connect_websocket(server.url.replace("https:", "wss:"), tls=trusting) as transport:
            await transport.send(INITIALIZE)
            assert b"protocolVersion" in await transport.receive()  # pyright: ignore[reportOperatorIssue]
        assert (await server.stop())[0] == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--ws", "8765"], "not HOST:PORT"),
        (["--ws", "127.0.0.1:99999"], "not HOST:PORT"),
        (["--http", "x"], "--http: not HOST:PORT"),
        (["--http", "0.0.0.0:0"], "not this machine alone: give --tls-cert"),
        (["--ws", "0.0.0.0:0"], "not this machine alone: give --tls-cert"),
        (["--ws", "[::]:0"], "not this machine alone"),
        (["--tls-cert", "x"], "belong together"),
        (["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "--tls-cert, --tls-key: "),
        (["--token-file", "/nowhere"], "--token-file: "),
        (["--drain", "-1"], "not a positive number of seconds"),
        (["--max-connections", "0"], "not a positive number"),
        (["--backend", "none"], "no backend"),
    ],
)
def test_wrong_options_are_said(capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


async def test_an_address_that_is_taken_is_said() -> None:
    async with served() as server:
        address = server.url.removeprefix("ws://").removesuffix("/acp")
        command = [sys.executable, "-m", "acp", "serve", "--ws", address, *SCRIPTED]
        other = await anyio.run_process(command, check=False)
        assert other.returncode == 1
        assert b"acp serve: cannot listen on" in other.stderr
        assert b"Traceback" not in other.stderr
