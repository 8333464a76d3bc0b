"""Those who attack a server by WebSocket, with real sockets: each of them gets nothing, and holds up nobody."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute
from raw_websocket import CLOSE, TEXT, frame, opened, raw, request
from test_websocket_server import ALICE, BOB, DOORS, bearer, limited, running, wire

from acp.transports.remote import Limits
from acp_server.model import Text
from acp_server.network.gate import Gate
from acp_server.network.server import Door
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


# Who may come in ---------------------------------------------------------------------------------------------------


@DOORS
async def test_a_page_of_another_site_is_refused(door: Callable[[], Door]) -> None:
    async with running(Gate(origins=["https://ok.example"]), door=door) as served:
        assert await served.status({"Origin": "https://evil.example"}) == 403
        assert await served.status({"Origin": "null"}) == 403
        assert await served.status({"Origin": "https://ok.example"}) == 101
        assert await served.status() == 101


@DOORS
async def test_a_rebound_name_is_refused(door: Callable[[], Door]) -> None:
    async with running(door=door) as served:
        assert await served.status(host=f"evil.example:{served.port}") == 403
        assert await served.status(host=f"localhost:{served.port}") == 101
        assert await served.status(more="Host: localhost\r\n") == 400


@DOORS
async def test_who_has_no_token_is_refused_and_told_how(door: Callable[[], Door]) -> None:
    async with running(Gate({"": ALICE}), door=door) as served:
        assert await served.status() == 401
        assert await served.status(bearer(BOB)) == 401
        assert await served.status(bearer(ALICE)) == 101
        async with raw(served.port) as client:
            await client.stream.send(request(host="localhost"))
            assert (await client.answer())[1]["www-authenticate"] == 'Bearer realm="acp"'


@DOORS
@pytest.mark.parametrize("query", ["token", "access_token", "bearer"])
async def test_a_token_in_a_url_opens_nothing(door: Callable[[], Door], query: str) -> None:
    async with running(Gate({"": ALICE}), door=door) as served, raw(served.port) as client:
        await client.stream.send(request(host="localhost", path=f"/acp?{query}={ALICE}"))
        assert (await client.answer())[0] == 401


async def test_a_browser_says_its_token_by_a_sub_protocol_and_does_not_get_it_back() -> None:
    said = base64.urlsafe_b64encode(ALICE.encode()).decode().rstrip("=")
    async with running(Gate({"": ALICE}, origins=["https://ok.example"])) as served, raw(served.port) as client:
        headers = {"Origin": "https://ok.example", "Sec-WebSocket-Protocol": f"acp, acp-bearer.{said}"}
        await client.stream.send(request(headers, host="localhost"))
        status, answer = await client.answer()
        assert (status, answer["sec-websocket-protocol"]) == (101, "acp")
        assert said not in str(answer)


async def test_a_session_belongs_to_the_principal_that_made_it(tmp_path: Path) -> None:
    async with running(Gate({"alice": ALICE, "bob": BOB})) as served:
        async with opened(served.port, bearer(ALICE)) as client:
            alice = wire(client)
            session = await alice.start(str(tmp_path))
            await alice.prompt(session, "say secret")
            async with opened(served.port, bearer(BOB)) as other:
                bob = wire(other)
                await bob.start(str(tmp_path))
                stolen = {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []}
                for method in ("session/load", "session/resume"):
                    assert (await bob.call(method, stolen))["error"]["code"] == -32002
                prompt = {"sessionId": session, "prompt": [{"type": "text", "text": "say mine"}]}
                assert (await bob.call("session/prompt", prompt))["error"]["code"] == -32002
                await bob.notify("session/cancel", {"sessionId": session})
                listed = (await bob.call("session/list", {}))["result"]["sessions"]
                assert session not in [card["sessionId"] for card in listed]
                assert "result" in await bob.call("session/delete", {"sessionId": session})
                assert "secret" not in json.dumps(bob.received)
            await alice.call("session/close", {"sessionId": session})
        async with opened(served.port, bearer(ALICE)) as again:
            alice = wire(again)
            await alice.start(str(tmp_path))
            assert "result" in await alice.call("session/load", stolen)
            assert "secret" in json.dumps(alice.received)


# What it may cost --------------------------------------------------------------------------------------------------


@DOORS
async def test_a_request_that_drips_is_cut_off_and_holds_up_nobody(door: Callable[[], Door]) -> None:
    async with running(limits=limited(opening=0.5), door=door) as served:
        async with raw(served.port) as slow, anyio.create_task_group() as group:

            async def drip() -> None:
                for byte in request(host="localhost"):
                    await slow.stream.send(bytes([byte]))
                    await anyio.sleep(0.05)

            group.start_soon(drip)
            assert await served.status() == 101
            assert (await slow.answer())[0] == 408
            group.cancel_scope.cancel()


@DOORS
async def test_too_many_connections_are_refused_until_one_ends(door: Callable[[], Door]) -> None:
    async with running(limits=limited(connections=2), door=door) as served:
        async with opened(served.port) as first, opened(served.port):
            async with raw(served.port) as client:
                await client.stream.send(request(host="localhost"))
                status, headers = await client.answer()
                assert (status, headers["retry-after"]) == (503, "5")
            await first.stream.send(frame(CLOSE, b"\x03\xe8"))
            await first.wait_gone()
            with anyio.fail_after(60):
                while served.server.connections > 1:  # noqa: ASYNC110, the server's end of it
                    await anyio.sleep(0.01)
            assert await served.status() == 101


async def test_connections_that_never_ask_count_too() -> None:
    async with running(limits=limited(per_address=2, opening=1.0)) as served, raw(served.port), raw(served.port):
        assert await served.status() == 429


@DOORS
async def test_a_connection_on_which_nobody_speaks_is_closed(door: Callable[[], Door]) -> None:
    async with running(limits=limited(opening=0.2), door=door) as served, opened(served.port) as client:
        assert await client.close_code() == 1008


async def test_an_oversize_message_closes_only_its_own_connection(tmp_path: Path) -> None:
    limits = limited(connection=Limits(message=5000))
    async with running(limits=limits) as served, opened(served.port) as good, opened(served.port) as bad:
        talk = wire(good)
        session = await talk.start(str(tmp_path))
        await bad.stream.send(frame(TEXT, b"[", size=2**40))
        assert await bad.close_code() == 1009
        assert (await talk.prompt(session, "say hi"))["result"]["stopReason"] == "end_turn"


async def test_a_reader_that_stops_holds_little_delays_no_other_connection_and_is_cut_off(tmp_path: Path) -> None:
    held = 0

    async def count() -> None:
        nonlocal held
        if not len(served.shelter):  # cut off, its turn goes on without anybody to wait for
            held += 10_000

    model = ScriptedBackend([[Text("x" * 10_000), count] * 10_000])
    limits = limited(connection=Limits(stall=1.0))
    async with running(limits=limits, model=model) as served, opened(served.port) as slow, opened(served.port) as quick:
        slow.stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        stopped, other = wire(slow), wire(quick)
        await stopped.begin_prompt(await stopped.start(str(tmp_path)), "go")
        await stopped.until(lambda message: message.get("method") == "session/update")
        session = await other.start(str(tmp_path))
        while not len(served.shelter):
            assert (await other.prompt(session, "hi"))["result"]["stopReason"] == "end_turn"
        assert held < 40_000_000  # of 100 million; a system may hold tens of millions of its own accord


async def test_ids_cannot_be_guessed(tmp_path: Path) -> None:
    ids = list[str]()
    async with running() as served:
        for _ in range(20):
            async with raw(served.port) as client:
                await client.stream.send(request(host="localhost"))
                ids += [(await client.answer())[1]["acp-connection-id"], await wire(client).start(str(tmp_path))]
    assert all(len(id) == 32 for id in ids)  # 192 bits of connections, 122 of sessions
    for kind in (ids[::2], ids[1::2]):
        assert len({id[:8] for id in kind}) == 20
