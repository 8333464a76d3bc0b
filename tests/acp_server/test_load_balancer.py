"""Three servers behind nginx, with their sessions in PostgreSQL: the one with the session is killed, then another."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import psycopg
import pytest
from announced import announced
from postgres_server import PostgresServer
from stores import new_schema

from acp.errors import RequestError
from acp.updates import MessageChunk, TextBlock, ToolCall, ToolCallUpdate, Update
from acp_client import Host, allow_all, connect
from acp_server.storage.history import CUT_SHORT

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "nginx.conf"
TOKEN = "a-token-of-many-characters"
LEASE = 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Cluster:
    """`url` is nginx's; `database` where the servers keep their sessions."""

    def __init__(self, url: str, database: str) -> None:
        self.url, self.database = url, database

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql.encode()).fetchall()

    def owner(self) -> int:
        """The process that holds the one session there is."""
        [(name,)] = self.ask("SELECT v.name FROM acp_sessions s JOIN acp_servers v ON v.id = s.holder")
        return int(str(name).rpartition(":")[2])  # HOST:PID


@asynccontextmanager
async def cluster(folder: Path, postgres: PostgresServer) -> AsyncGenerator[Cluster]:
    tokens = folder / "tokens"
    tokens.write_text(f"alice {TOKEN}\n")
    database = new_schema(postgres)
    command = [sys.executable, "-m", "acp", "serve", "--http", "127.0.0.1:0", "--backend", "scripted", "--allow", "all"]
    command += ["--token-file", str(tokens), "--store", database, "--lease", str(LEASE)]
    async with AsyncExitStack() as exits:
        config, port = EXAMPLE.read_text(), _free_port()
        for number in (8771, 8772, 8773):
            log = ["--log-file", str(folder / f"{number}.log")]
            server = await exits.enter_async_context(announced(*command, *log))
            config = config.replace(f"127.0.0.1:{number} ", f"{server.url.split('/')[2]} ")
        await exits.enter_async_context(_nginx(folder, config.replace("127.0.0.1:8765", f"127.0.0.1:{port}"), port))
        yield Cluster(f"ws://127.0.0.1:{port}/acp", database)


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def _nginx(folder: Path, config: str, port: int) -> AsyncGenerator[None]:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    whole = "daemon off; master_process off; pid nginx.pid; error_log nginx.log info; events {} "
    whole += f"http {{ access_log off; {places}\n{config}\n}}\n"
    (folder / "nginx.conf").write_text(whole)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "nginx.log"]
    async with await anyio.open_process(command, stdout=None, stderr=None) as process:
        try:
            with anyio.fail_after(60):
                while True:
                    assert process.returncode is None, (folder / "nginx.log").read_text()
                    try:
                        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                        break
                    except OSError:
                        await anyio.sleep(0.05)
            yield
        finally:
            process.kill()


def said(updates: Sequence[Update]) -> str:
    chunks = [update for update in updates if isinstance(update, MessageChunk) and update.role == "agent"]
    return "".join(chunk.content.text for chunk in chunks if isinstance(chunk.content, TextBlock))


@pytest.mark.parametrize("version", [1, 2])
async def test_a_client_loses_nothing_and_learns_what_became_of_its_turn_when_its_server_is_killed(
    tmp_path: Path, postgres: PostgresServer, version: int
) -> None:
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    host = Host(ask=allow_all)
    with anyio.fail_after(90):
        async with (
            cluster(tmp_path, postgres) as here,
            connect(here.url, headers=headers, host=host, version=version) as client,
        ):
            session = await client.new_session(tmp_path)

            # In the middle of a sentence.
            first, updates, killed = here.owner(), list[Update](), 0.0
            with pytest.raises(RequestError, match=CUT_SHORT):  # noqa: PT012
                async with session.prompt("count 500\nrun echo hello\nslow") as turn:
                    async for update in turn:
                        updates.append(update)
                        if not killed and len(said(updates).split()) > 520:
                            killed = time.monotonic()
                            os.kill(first, signal.SIGKILL)
            assert LEASE - 1 < time.monotonic() - killed < LEASE + 60
            words = said(updates).removesuffix(CUT_SHORT).split()
            assert words[:500] == [*map(str, range(1, 501))]
            assert words[500:] == [*map(str, range(1, len(words) - 499))]
            assert len(words) >= 520
            assert [call.status for call in session.snapshot.calls.values()] == ["completed"]
            assert len([update for update in updates if isinstance(update, ToolCall)]) == 1

            # It goes on at another server, with all that was said; and that one is killed in the middle of a command.
            second, again = here.owner(), list[Update]()
            assert second != first
            with pytest.raises(RequestError, match=CUT_SHORT):  # noqa: PT012
                async with session.prompt("say now\nrun touch begun; sleep 60") as turn:
                    async for update in turn:
                        again.append(update)
                        if isinstance(update, ToolCallUpdate) and update.status == "in_progress":
                            while not await anyio.Path(tmp_path / "begun").exists():  # noqa: ASYNC110, it is a command
                                await anyio.sleep(0.02)
                            os.kill(second, signal.SIGKILL)
            assert said(again) == "now" + CUT_SHORT
            assert [call.status for call in session.snapshot.calls.values()] == ["completed", "failed"]

            # The last one has it all, and the model knows of it.
            async with session.prompt("say still here") as turn:
                assert await turn.text() == "still here"
            assert here.owner() not in (first, second)
            [(began,)] = here.ask("SELECT count(*) FROM acp_entries WHERE entry LIKE '{\"began\"%'")
            assert began == 3  # no prompt was sent twice
            by_http = here.url.replace("ws:", "http:")
            async with connect(by_http, headers=headers, version=version) as other:
                with pytest.raises(RequestError, match="The session is"):
                    await other.load_session(session.id, tmp_path)
                await session.close()
                loaded = await other.load_session(session.id, tmp_path)
            shown = "".join(message.text for message in loaded.snapshot.messages.values() if message.role == "agent")
            assert shown == said(updates) + said(again) + "still here"
    logs = [await anyio.Path(tmp_path / f"{number}.log").read_text() for number in (8771, 8772, 8773)]
    assert all(logs)
    assert TOKEN not in "".join(logs)
