"""Those who attack Streamable HTTP, with real sockets: each of them gets nothing, and holds up nobody."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamReset
from raw_http import EVENTS, INITIALIZE, read_answers, web, wired
from test_http_server import MUCH, Running, new_session, prompt, request, running

from acp.transports.remote import Limits
from acp_server.network.gate import Gate
from acp_server.network.http_endpoint import HttpEndpoint
from acp_server.network.server import ServerLimits

pytestmark = pytest.mark.anyio

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"
HTTP = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


JSON = b"POST /acp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


async def wait_cut(stream: SocketStream) -> None:
    """Read until the other side has hung up."""
    try:
        while True:
            await stream.receive()
    except (anyio.BrokenResourceError, anyio.EndOfStream):
        pass


async def tcp(served: Running) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", served.port)


# Who may come in ---------------------------------------------------------------------------------------------------


@HTTP
async def test_a_page_of_another_site_is_refused_whatever_it_asks(http2: bool) -> None:
    async with running(Gate(origins=["https://ok.example"])) as served, web(served.url, http2=http2) as client:
        ids = await client.connect()
        for origin in ("https://evil.example", "null", "https://ok.example.evil.example"):
            for method in ("POST", "GET", "DELETE", "OPTIONS", "PUT"):
                answer = await client.ask(method, {**ids, **EVENTS, "Origin": origin}, INITIALIZE)
                assert answer.status_code == 403
                assert "access-control-allow-origin" not in answer.headers
        # What a page may send without asking anybody: a simple request of Fetch.
        simple = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
        assert await client.status("POST", simple, INITIALIZE) == 403
        assert await client.status("DELETE", ids) == 202


async def test_no_page_may_read_answers_but_one_on_the_list() -> None:
    page = {"Origin": "https://ok.example"}
    asking = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with running(Gate({"": ALICE}, origins=["https://ok.example"])) as served, web(served.url) as client:
        allowed = await client.ask("OPTIONS", asking)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://ok.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        assert (await client.ask("POST", page, INITIALIZE)).status_code == 401
        answer = await client.ask("POST", {**page, **bearer(ALICE)}, INITIALIZE)
        assert answer.headers["access-control-allow-origin"] == "https://ok.example"
        assert "access-control-allow-origin" not in (await client.ask("POST", bearer(ALICE), INITIALIZE)).headers


@HTTP
async def test_a_rebound_name_is_refused(http2: bool) -> None:
    async with running() as served, web(served.url, http2=http2) as client:
        for host, status in (("evil.example", 403), (f"evil.example:{served.port}", 403), ("localhost", 200)):
            assert await client.status("POST", {"Host": host}, INITIALIZE) == status


@pytest.mark.parametrize(("host", "authority"), [("localhost", "evil.example"), ("evil.example", "localhost")])
async def test_an_authority_and_a_host_that_differ_end_the_connection(host: str, authority: str) -> None:
    async with running() as served:
        async with H2(await tcp(served)) as client:
            client.begin({"host": host}, authority=authority, end=True)
            await client.flush()
            await wait_cut(client.stream)
        async with H2(await tcp(served)) as client:
            assert await client.status({}, INITIALIZE, authority="evil.example") == 403
            assert await client.status({}, INITIALIZE, authority="localhost") == 200


@HTTP
async def test_who_has_no_token_is_refused_and_told_how(http2: bool) -> None:
    async with running(Gate({"": ALICE})) as served, web(served.url, http2=http2) as client:
        refused = await client.ask("POST", None, INITIALIZE)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="acp"')
        for wrong in (bearer(BOB), {"Authorization": ALICE}, {"Authorization": f"Basic {ALICE}"}):
            assert await client.status("POST", wrong, INITIALIZE) == 401
        client.url += f"?token={ALICE}&access_token={ALICE}"
        assert await client.status("POST", None, INITIALIZE) == 401
        assert await client.status("POST", bearer(ALICE), INITIALIZE) == 200


async def test_a_connection_and_a_session_are_of_no_use_to_another_principal(tmp_path: Path) -> None:
    async with running(Gate({"alice": ALICE, "bob": BOB})) as served, web(served.url) as client:
        client.base = bearer(ALICE)
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        stolen = {**ids, "Acp-Session-Id": session}
        client.base = bearer(BOB)
        assert await client.status("POST", stolen, prompt(3, session, "say mine")) == 404
        assert await client.status("GET", {**EVENTS, **stolen}) == 404
        assert await client.status("GET", {**EVENTS, **ids}) == 404
        assert await client.status("DELETE", ids) == 404
        own = await client.connect({"Acp-Laguna-Replaces": ids["Acp-Connection-Id"]})
        async with wired(client, own) as bob:
            place = {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []}
            for method in ("session/load", "session/resume"):
                assert (await bob.call(method, place))["error"]["code"] == -32002
            assert (await bob.prompt(session, "say mine"))["error"]["code"] == -32002
        client.base = bearer(ALICE)
        async with wired(client, ids) as alice:
            assert (await alice.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"


async def test_ids_cannot_be_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as served, web(served.url) as client:
        ids = {(await client.connect())["Acp-Connection-Id"] for _ in range(20)}
        assert len(ids) == 20
        assert all(len(id) == 32 for id in ids)  # 192 bits
        beginnings = {id[:4] for id in ids}
        assert len(beginnings) == 20
        guess = sorted(ids)[0][:-1]
        assert await client.status("GET", {**EVENTS, "Acp-Connection-Id": guess}) == 404


async def test_no_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(Gate({"": ALICE})) as served, web(served.url) as client:
        ids = await client.connect(bearer(ALICE))
        await client.ask("POST", {**ids, **bearer(ALICE)}, [1])
        await client.ask("POST", {**ids, **bearer(BOB)}, INITIALIZE)
        async with H2(await tcp(served)) as other:
            await other.status({**bearer(ALICE)}, INITIALIZE)
    theirs = ("httpcore2", "httpx2")  # the client's
    said = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith(theirs))
    assert "401" in said
    assert ALICE not in said
    assert BOB not in said
    assert ids["Acp-Connection-Id"] not in said


# What it may cost --------------------------------------------------------------------------------------------------


async def test_a_request_that_drips_is_cut_off_and_holds_up_nobody() -> None:
    async with running(limits=ServerLimits(opening=0.5)) as served, web(served.url) as client:
        async with await tcp(served) as slow, await tcp(served) as slower, anyio.create_task_group() as group:

            async def drip(stream: SocketStream, data: bytes) -> None:
                for byte in data:
                    await stream.send(bytes([byte]))
                    await anyio.sleep(0.02)

            group.start_soon(drip, slow, b"POST /acp HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 1000)
            head = (
                b"POST /acp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
            )
            group.start_soon(slower.send, head)
            assert await client.status("POST", None, INITIALIZE) == 200
            for stream in (slow, slower):
                assert (await read_answers(stream)).startswith(b"HTTP/1.1 408 ")
            group.cancel_scope.cancel()


async def test_bodies_that_inflate_are_not_taken_at_all() -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    async with running() as served, web(served.url) as client:
        for encoding in ("gzip", "deflate", "br", "zstd", "gzip, identity", "x"):
            assert await client.status("POST", {"Content-Encoding": encoding}, bomb) == 415


@pytest.mark.parametrize("length", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
async def test_a_body_of_a_gigabyte_is_cut_off_at_the_limit(length: bytes) -> None:
    limits = ServerLimits(connection=Limits(message=1_000_000))
    sent = 0
    async with running(limits=limits) as served, await tcp(served) as stream, anyio.create_task_group() as group:

        async def pour() -> None:
            nonlocal sent
            piece = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n" if b"chunked" in length else b" " * 65536
            try:
                while True:
                    await stream.send(piece)
                    sent += len(piece)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

        await stream.send(
            b"POST /acp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + length + b"\r\n\r\n"
        )
        group.start_soon(pour)
        assert (await stream.receive()).startswith(b"HTTP/1.1 413 ")
        group.cancel_scope.cancel()
    assert sent < 500_000_000  # what the system holds of it is up to the system


async def test_a_body_of_many_tiny_pieces_costs_no_more_than_its_bytes() -> None:
    limits = ServerLimits(connection=Limits(message=5000))
    async with running(limits=limits) as served, await tcp(served) as stream:
        await stream.send(JSON + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 6000)
        assert (await stream.receive()).startswith(b"HTTP/1.1 413 ")


GET = b"GET /acp HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        JSON + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        JSON + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        JSON + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n1234",
        JSON + b"Content-Length: 4, 5\r\n\r\n1234",
        JSON + b"Content-Length: +4\r\n\r\n1234",
        JSON + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n1234",
        JSON + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        JSON + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        JSON + b"Transfer-Encoding: chunked\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        JSON + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        JSON + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        JSON + b"Content-Length: 4\0\r\n\r\n1234",
        JSON.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        JSON + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n",
        JSON + b"Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
        JSON + b"Acp-Connection-Id: a\r\nAcp-Connection-Id: b\r\nContent-Length: 0\r\n\r\n",
        JSON.replace(b"Host: localhost\r\n", b"") + b"Content-Length: 0\r\n\r\n",
        b"\x16\x03\x01" + b"x" * 100 + b"\r\n\r\n",
    ],
)
async def test_a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_read(head: bytes) -> None:
    async with running() as served, await tcp(served) as stream:
        await stream.send(head + GET)
        data = await read_answers(stream, 0.4)
        statuses = [line.split()[1] for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        assert statuses in ([b"400"], [b"501"], [b"400", b"406"])
        # Only where the length of the first was clear is there a second.
        assert len(statuses) == 1 or b"Content-Length: 0\r\n\r\n" in head


async def test_connections_that_ask_for_nothing_count_too() -> None:
    async with running(limits=ServerLimits(per_address=2)) as served:
        async with await tcp(served), await tcp(served), await tcp(served) as third:
            await third.send(GET)
            assert (await read_answers(third)).startswith(b"HTTP/1.1 429 ")


async def test_connections_of_acp_are_counted_though_nobody_holds_a_socket() -> None:
    async with running(limits=ServerLimits(per_address=3)) as served, web(served.url) as client:
        ids = [await client.connect() for _ in range(3)]
        refused = await client.ask("POST", None, INITIALIZE)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert await client.status("DELETE", ids[0]) == 202
        while await client.status("POST", None, INITIALIZE) == 429:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_connection_cannot_have_more_streams_than_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acp_server.network.http_connection.MOST_SESSIONS", 3)
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        statuses = [
            await client.status("POST", {**ids, "Acp-Session-Id": f"s{n}"}, prompt(n + 2, f"s{n}", "say hi"))
            for n in range(5)
        ]
        assert statuses == [202, 202, 202, 429, 429]


async def test_a_client_that_never_reads_what_it_makes_the_agent_say_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acp_server.network.outbox.MOST_TEXTS", 50)
    async with running() as served, web(served.url) as client:
        ids = await client.connect()
        statuses: list[int] = []
        while 404 not in statuses:
            assert len(statuses) < 100
            statuses.append(await client.status("POST", ids, request(len(statuses) + 2, "no/such/method")))


# HTTP/2 ------------------------------------------------------------------------------------------------------------


class H2:
    """A client of HTTP/2 made of frames."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.h2 = H2Connection(H2Configuration(header_encoding="latin-1", validate_outbound_headers=False))
        self.events: list[Any] = []

    async def __aenter__(self) -> H2:
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()

    async def flush(self) -> None:
        await self.stream.send(self.h2.data_to_send())

    def begin(
        self, headers: Mapping[str, str], *, method: str = "POST", authority: str = "localhost", end: bool = False
    ) -> int:
        id = self.h2.get_next_available_stream_id()
        said = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", "/acp")]
        said += [("content-type", "application/json"), *((name.lower(), value) for name, value in headers.items())]
        self.h2.send_headers(id, said, end_stream=end)
        return id

    async def until(self, kind: type, id: int) -> Any:
        while True:
            for event in self.events:
                if isinstance(event, kind) and getattr(event, "stream_id", None) == id:
                    return event
            self.events += self.h2.receive_data(await self.stream.receive())

    async def status(self, headers: Mapping[str, str], body: Any, *, authority: str = "localhost") -> int:
        from h2.events import ResponseReceived

        id = self.begin(headers, authority=authority)
        self.h2.send_data(id, json.dumps(body).encode(), end_stream=True)
        await self.flush()
        event = await self.until(ResponseReceived, id)
        return int(dict(event.headers)[":status"])


async def test_requests_that_are_taken_back_at_once_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rapid reset, CVE-2023-44487."""
    answered = 0
    answer = HttpEndpoint.answer

    async def counting(self: HttpEndpoint, exchange: Any) -> None:
        nonlocal answered
        answered += 1
        await answer(self, exchange)

    monkeypatch.setattr(HttpEndpoint, "answer", counting)
    async with running() as served, H2(await tcp(served)) as client, anyio.create_task_group() as group:
        group.start_soon(wait_cut, client.stream)
        with suppress(anyio.BrokenResourceError):
            while True:
                for _ in range(50):
                    client.h2.reset_stream(client.begin({}))
                await client.flush()
        assert answered <= 300
        async with web(served.url) as other:
            assert await other.status("POST", None, INITIALIZE) == 200


async def test_pings_whose_answers_nobody_reads_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acp_server.network.http2.MOST_UNSENT", 100_000)
    async with running() as served, H2(await tcp(served)) as client:
        client.stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(500):
            client.h2.ping(b"12345678")
        pings = client.h2.data_to_send()
        with suppress(anyio.BrokenResourceError):
            while True:
                await client.stream.send(pings)


async def test_a_message_that_is_too_long_ends_no_other_stream_of_its_connection(tmp_path: Path) -> None:
    limits = ServerLimits(connection=Limits(message=100_000))
    async with running(limits=limits) as served, web(served.url, http2=True) as client:
        ids = await client.connect()
        session = await new_session(client, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        async with client.listen(here) as stream:
            assert await client.status("POST", here, b" " * 3_000_000) == 413
            await client.ask("POST", here, prompt(3, session, "say still here"))
            while b'"id":3' not in (text := await stream.next()):
                pass
            assert b"end_turn" in text


async def test_a_stream_that_is_not_read_delays_no_other_of_its_connection(tmp_path: Path) -> None:
    async with running() as served, H2(await tcp(served)) as client, web(served.url) as other:
        ids = await other.connect()
        session = await new_session(other, ids, tmp_path)
        here = {**ids, "Acp-Session-Id": session}
        stalled = client.begin({**EVENTS, **here}, method="GET", end=True)
        await client.flush()
        await other.ask("POST", here, prompt(3, session, f"{MUCH}\n{MUCH}\n{MUCH}"))
        # Its window is never opened again; requests on the same connection are answered all the same.
        for _ in range(20):
            assert await client.status(ids, request(9, "session/list")) == 202
        assert not [e for e in client.events if isinstance(e, StreamReset) and e.stream_id == stalled]


@pytest.mark.parametrize("frame", [b"\0\0\x05\x01\xff\0\0\0\x01xxxxx", b"\xff" * 100, b"\0\x40\x01\0\0\0\0\0\x01"])
async def test_a_malformed_frame_ends_only_its_connection(frame: bytes) -> None:
    """A frame that is too long as soon as it says so: nobody waits for its 16 MiB."""
    async with running() as served, H2(await tcp(served)) as client:
        await client.stream.send(frame)
        await wait_cut(client.stream)
        async with web(served.url, http2=True) as other:
            assert await other.status("POST", None, INITIALIZE) == 200
