"""Streamable HTTP, served: the table of answers, streams that go on where they broke, and sessions that wait alone."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from raw_http import EVENTS, INITIALIZE, Web, web, wired

from acp.transports.http_client import connect_http
from acp.transports.messages import message_of
from acp.transports.remote import Limits
from acp_server.agent import Agent
from acp_server.model import Text
from acp_server.network.gate import Gate, Visitor
from acp_server.network.http_connection import MOST_SESSIONS, HttpConnection
from acp_server.network.http_door import HttpDoor
from acp_server.network.outbox import Reader
from acp_server.network.serve import AgentTalk
from acp_server.network.server import Server, ServerLimits
from acp_server.scripted import ScriptedBackend
from acp_server.shelter import Shelter

pytestmark = pytest.mark.anyio


MUCH = "parallel" + " nowhere" * 200
"""A prompt whose turn says much at once."""


class Running:
    def __init__(self, server: Server, url: str, group: TaskGroup, shelter: Shelter) -> None:
        self.server, self.url, self.group, self.shelter = server, url, group, shelter

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].removesuffix("/acp"))


@asynccontextmanager
async def running(
    gate: Gate | None = None, limits: ServerLimits | None = None, model: ScriptedBackend | None = None
) -> AsyncGenerator[Running]:
    talk = AgentTalk(Agent(model or ScriptedBackend()))
    server = Server(talk, gate or Gate(), limits=limits)
    with anyio.fail_after(60):
        async with talk.sheltering(30.0) as shelter, anyio.create_task_group() as group:
            url: str = await group.start(server.serve, "127.0.0.1", 0, HttpDoor())
            yield Running(server, url, group, shelter)
            group.cancel_scope.cancel()


def request(id: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def prompt(id: int, session: str, text: str) -> dict[str, Any]:
    return request(id, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])


async def new_session(client: Web, ids: dict[str, str], cwd: Path) -> str:
    """A session, and nobody who listens to the connection afterwards."""
    async with client.listen(ids) as stream:
        assert await client.status("POST", ids, request(2, "session/new", cwd=str(cwd), mcpServers=[])) == 202
        return json.loads(await stream.next())["result"]["sessionId"]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_a_turn_runs_over_it_and_an_answer_needs_no_session_header(tmp_path: Path, http2: bool) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    async with running() as served, web(served.url, http2=http2) as client:
        ids = await client.connect()
        async with wired(client, ids) as talk:
            made = await talk.call("session/new", {"cwd": str(tmp_path), "mcpServers": []})
            session = made["result"]["sessionId"]
            answer = await talk.prompt(session, "read a.py\nedit a.py 'x = 1' 'x = 2'")
            assert answer["result"]["stopReason"] == "end_turn"
        assert await client.status("DELETE", ids) == 202
        assert await client.status("DELETE", ids) == 404
    assert (tmp_path / "a.py").read_text() == "x = 2\n"


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_each_wrong_request_has_its_answer(tmp_path: Path, http2: bool) -> None:
    ping = request(9, "session/list")
    async with running(limits=ServerLimits(connection=Limits(message=100_000))) as served:
        async with web(served.url, http2=http2) as client:
            ids = await client.connect()
            session = await new_session(client, ids, tmp_path)
            named, other = {**ids, "Acp-Session-Id": session}, {**ids, "Acp-Session-Id": "other"}
            text = prompt(3, session, "say hi")
            wrong: list[tuple[int, str, dict[str, str], Any]] = [
                (400, "POST", {}, ping),
                (400, "POST", {}, {**INITIALIZE, "id": None}),
                (404, "POST", {"Acp-Connection-Id": "x" * 32}, ping),
                (400, "POST", ids, text),
                (400, "POST", other, text),
                (400, "POST", {**ids, "Acp-Session-Id": "x" * 2000}, text),
                (400, "POST", {**ids, "Acp-Protocol-Version": "2"}, ping),
                (202, "POST", {**ids, "Acp-Protocol-Version": "1"}, ping),
                (400, "POST", ids, b"{"),
                (400, "POST", ids, b"1"),
                (501, "POST", ids, [ping]),
                (415, "POST", {**ids, "Content-Type": "text/plain"}, ping),
                (415, "POST", {**ids, "Content-Encoding": "gzip"}, ping),
                (413, "POST", ids, b"[" + b" " * 200_000 + b"]"),
                (406, "GET", {**ids, "Accept": "application/json"}, None),
                (400, "GET", EVENTS, None),
                (404, "GET", {**EVENTS, "Acp-Connection-Id": "x" * 32}, None),
                (410, "GET", {**EVENTS, **named, "Last-Event-ID": "77"}, None),
                (400, "DELETE", {}, None),
                (404, "DELETE", {"Acp-Connection-Id": "x" * 32}, None),
                (405, "PUT", ids, ping),
                (405, "OPTIONS", ids, None),
            ]
            for status, method, headers, body in wrong:
                answer = await client.ask(method, headers, body)
                assert answer.status_code == status, (method, headers, body, answer.text)
            assert (await client.ask("POST", ids, b"{")).json()["error"]["code"] == -32700
            async with client.listen(named):
                assert await client.status("GET", {**EVENTS, **named}) == 409
            assert await client.status("POST", named, text) == 202


async def test_a_session_that_is_unknown_is_the_agents_to_refuse() -> None:
    async with running() as served, web(served.url) as client:
        ids = {**await client.connect(), "Acp-Session-Id": "nobody"}
        async with client.listen(ids) as stream:
            assert await client.status("POST", ids, prompt(5, "nobody", "say hi")) == 202
            answer = json.loads(await stream.next())
            assert (answer["id"], answer["error"]["code"]) == (5, -32002)


@pytest.mark.parametrize("named", [True, False])
async def test_a_session_that_is_loaded_can_be_used_whether_or_not_its_header_came(tmp_path: Path, named: bool) -> None:
    """The official Python SDK sends no Acp-Session-Id with session/load, and opens no stream before it hears of it."""
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        async with client.listen(here) as stream:
            await client.ask("POST", here, prompt(3, session, "say remembered"))
            while b'"id":3' not in await stream.next():
                pass
        assert await client.status("DELETE", ids) == 202
        again = await client.connect()
        here = {**again, "Acp-Session-Id": session}
        load = request(2, "session/load", sessionId=session, cwd=str(tmp_path), mcpServers=[])
        async with client.listen(here if named else again) as stream:
            assert await client.status("POST", here if named else again, load) == 202
            texts = [await stream.next()]
            while b'"id":2' not in texts[-1]:
                texts.append(await stream.next())
        assert any(b"remembered" in text for text in texts[:-1])
        async with client.listen(here) as stream:
            await client.ask("POST", here, prompt(4, session, "say used"))
            while b'"id":4' not in (text := await stream.next()):
                assert session.encode() in text
            assert b"end_turn" in text


async def test_a_session_is_deleted_though_its_header_did_not_come(tmp_path: Path) -> None:
    """The official Python SDK sends none with session/resume and session/delete either."""
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        assert await client.status("DELETE", ids) == 202
        ids = await client.connect()
        async with client.listen(ids) as stream:
            resume = request(3, "session/resume", sessionId="nobody", cwd=str(tmp_path), mcpServers=[])
            assert await client.status("POST", ids, resume) == 202
            assert json.loads(await stream.next())["error"]["code"] == -32002
            assert await client.status("POST", ids, request(4, "session/delete", sessionId=session)) == 202
            answer = json.loads(await stream.next())
            assert (answer["id"], answer["result"]) == (4, {})
            assert await client.status("POST", ids, request(5, "session/list")) == 202
            assert json.loads(await stream.next())["result"]["sessions"] == []


async def test_a_stream_goes_on_behind_what_its_reader_had_last(tmp_path: Path) -> None:
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here, texts = {**ids, "Acp-Session-Id": session}, list[bytes]()
        last = "0"
        await client.ask("POST", here, prompt(3, session, "count 3000"))
        while not texts or b'"id":3' not in texts[-1]:
            async with client.listen({**here, "Last-Event-ID": last}) as stream:
                for _ in range(3):
                    texts.append(await stream.next())
                    if b'"id":3' in texts[-1]:
                        break
                last = str(stream.numbers[-1])
        updates = [json.loads(text)["params"]["update"] for text in texts[:-1]]
        said = "".join(u["content"]["text"] for u in updates if u["sessionUpdate"] == "agent_message_chunk")
        assert said.split() == [str(n) for n in range(1, 3001)]


async def test_a_reader_that_does_not_count_gets_what_nobody_was_given(tmp_path: Path) -> None:
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        await client.ask("POST", here, prompt(3, session, "say early"))
        async with client.listen(here) as stream:
            while b'"id":3' not in await stream.next():
                pass
        await client.ask("POST", here, prompt(4, session, "say later"))
        async with client.listen(here) as stream:
            first = await stream.next()
            assert b"later" in first
            assert stream.numbers[0] > 1


async def test_a_session_that_nobody_reads_delays_no_other_and_holds_little(tmp_path: Path) -> None:
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        one, other = [await new_session(client, ids, tmp_path) for _ in range(2)]
        here, there = ({**ids, "Acp-Session-Id": session} for session in (one, other))
        await client.ask("POST", here, prompt(3, one, MUCH))
        async with client.listen(there) as stream:
            for id in range(10, 15):
                await client.ask("POST", there, prompt(id, other, "say hi"))
                while b'"id":%d' % id not in await stream.next():
                    pass
        async with client.listen(here) as stream:
            count = 1
            while b'"id":3' not in await stream.next():
                count += 1
        assert count > 300


async def test_a_client_that_takes_nothing_is_given_up_and_its_session_waits_for_it(tmp_path: Path) -> None:
    limits = ServerLimits(connection=Limits(stall=0.2))
    async with running(limits=limits) as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        await client.ask("POST", here, prompt(3, session, MUCH))
        async with client.listen(ids) as stream:  # of the connection, not of the session
            assert await stream.rest() is not None
        assert await client.status("GET", {**EVENTS, **here}) == 404
        await parked(served)


async def test_text_that_nobody_reads_yet_comes_in_few_pieces_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp_server.network.outbox.PATIENT_TEXTS", 5)
    spoken = anyio.Event()

    async def done() -> None:
        spoken.set()

    model = ScriptedBackend([[*(Text(f"{n} ") for n in range(1, 5001)), done]])
    async with running(model=model) as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        await client.ask("POST", here, prompt(3, session, "go"))
        await spoken.wait()
        async with client.listen(here) as stream:
            texts = [await stream.next()]
            while b'"id":3' not in texts[-1]:
                texts.append(await stream.next())
        updates = [json.loads(text)["params"]["update"] for text in texts[:-1]]
        said = [u["content"]["text"] for u in updates if u["sessionUpdate"] == "agent_message_chunk"]
        assert "".join(said).split() == [str(n) for n in range(1, 5001)]
        assert len(said) < 12


async def parked(served: Running) -> None:
    while not len(served.shelter):  # noqa: ASYNC110
        await anyio.sleep(0.01)


async def test_a_client_that_is_gone_is_missed_and_comes_back_to_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp_server.network.http_connection.ABSENCE", 0.1)
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        await client.ask("POST", {**ids, "Acp-Session-Id": session}, prompt(3, session, "count 10"))
        await parked(served)
        assert await client.status("GET", {**EVENTS, **ids}) == 404
        again = await client.connect()
        here = {**again, "Acp-Session-Id": session}
        async with client.listen(here) as stream:
            load = request(2, "session/load", sessionId=session, cwd=str(tmp_path), mcpServers=[])
            await client.ask("POST", here, load)
            while b'"id":2' not in (text := await stream.next()):
                pass
            assert b"end_turn" in text


async def test_who_comes_back_takes_the_place_of_a_connection_that_the_server_has_not_missed(tmp_path: Path) -> None:
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        async with client.listen(ids) as old:
            again = await client.connect({"Acp-Laguna-Replaces": ids["Acp-Connection-Id"]})
            assert await old.rest() == []
        async with client.listen(again) as stream:
            resume = request(2, "session/resume", sessionId=session, cwd=str(tmp_path), mcpServers=[])
            await client.ask("POST", again, resume)
            assert "result" in json.loads(await stream.next())


async def test_a_connection_that_is_deleted_ends_its_sessions_and_its_streams(tmp_path: Path) -> None:
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        await client.ask("POST", here, prompt(3, session, "hang"))
        async with client.listen(ids) as one, client.listen(here) as other:
            assert await client.status("DELETE", ids) == 202
            await one.rest()
            await other.rest()
        assert len(served.shelter) == 0


async def test_the_stream_of_a_session_that_was_closed_stays_for_a_client_that_opens_it_again(tmp_path: Path) -> None:
    """The official TypeScript SDK takes the end of a stream for the end of whatever it has asked in that session."""
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        resume = {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []}
        async with client.listen(here) as stream:
            for id in (3, 5):
                assert "available_commands_update" in str(await stream.next())
                await client.ask("POST", here, request(id, "session/close", sessionId=session))
                assert json.loads(await stream.next())["id"] == id
                await client.ask("POST", here, request(id + 1, "session/resume", **resume))
                assert json.loads(await stream.next())["id"] == id + 1


async def test_what_is_held_of_a_session_goes_with_its_stream_once_it_was_closed(tmp_path: Path) -> None:
    talk = HttpConnection(Visitor("", "here"), Limits())
    for n in range(3 * MOST_SESSIONS):
        session = f"s{n}"
        reader = talk.attach(session, 0)
        assert isinstance(reader, Reader)
        close = request(n, "session/close", sessionId=session)
        assert await talk.post(json.dumps(close).encode(), message_of(close), session) is None
        await talk.receive()
        await talk.send(json.dumps({"jsonrpc": "2.0", "id": n, "result": {}}).encode())
        await reader.take(1000)
        talk.detach(reader)


async def test_draining_lets_turns_end_and_lets_nobody_in(tmp_path: Path) -> None:
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        async with client.listen(here) as stream:
            await client.ask("POST", here, prompt(3, session, "write a.txt hello"))
            while b"request_permission" not in (text := await stream.next()):
                pass
            served.group.start_soon(served.server.drain, 20)
            await anyio.wait_all_tasks_blocked()
            refused = await client.ask("POST", None, INITIALIZE)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            allowed = {"outcome": {"outcome": "selected", "optionId": "allow_once"}}
            answer = {"jsonrpc": "2.0", "id": json.loads(text)["id"], "result": allowed}
            assert await client.status("POST", ids, answer) == 202
            rest = await stream.rest()
            assert b"end_turn" in rest[-1]
            assert stream.comments[-1] == "close 1001 the server is shutting down"
    assert (tmp_path / "a.txt").exists()


async def test_something_comes_when_nothing_is_said() -> None:
    async with running(limits=ServerLimits(connection=Limits(heartbeat=0.02))) as served:
        async with web(served.url) as client, client.listen(await client.connect()) as stream:
            data = b""
            while data.count(b":\n\n") < 3:
                data += await stream.piece()
            assert data.startswith(b": heartbeat 0.02\n\n")


async def test_what_is_said_of_a_session_again_after_it_was_deleted_is_answered_once(tmp_path: Path) -> None:
    async with running() as served, connect_http(served.url) as transport:
        heard: list[Any] = []

        async def ask(id: int, method: str, **params: Any) -> Any:
            await transport.send(json.dumps(request(id, method, **params)).encode())
            while not (heard and heard[-1].get("id") == id):
                heard.append(json.loads(await transport.receive()))  # pyright: ignore[reportArgumentType]
            return heard[-1]

        with anyio.fail_after(60):
            await ask(1, "initialize", protocolVersion=1)
            made = await ask(2, "session/new", cwd=str(tmp_path), mcpServers=[])
            session = made["result"]["sessionId"]
            for id in (3, 4, 5):
                await ask(id, "session/delete", sessionId=session)
            await ask(6, "session/list")
    assert [message["id"] for message in heard if "id" in message] == [1, 2, 3, 4, 5, 6]


async def test_a_text_that_is_refused_is_answered_and_the_connection_goes_on() -> None:
    async with running() as served, connect_http(served.url) as transport:

        async def say(text: bytes) -> Any:
            await transport.send(text)
            return json.loads(await transport.receive())  # pyright: ignore[reportArgumentType]

        with anyio.fail_after(60):
            early = await say(json.dumps(request(1, "session/list")).encode())
            assert (early["id"], early["error"]["code"]) == (1, -32600)
            assert "result" in await say(json.dumps(INITIALIZE).encode())
            for text, code in ((b"{", -32700), (b"1", -32600), (b"[]", -32600)):
                refused = await say(text)
                assert (refused["id"], refused["error"]["code"]) == (None, code)
            assert (await say(json.dumps(request(2, "session/list")).encode()))["id"] == 2
