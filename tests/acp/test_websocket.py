"""WebSocket as a transport, over real sockets: what is promised of texts, sizes, silence and ends."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from raw_websocket import BINARY, CLOSE, PING, PONG, TEXT, Raw, frame, opened, raw, request

from acp.connection import Connection
from acp.errors import ConnectionClosed
from acp.handlers import Handlers
from acp.methods import Method
from acp.transports.lines import Oversize
from acp.transports.remote import CannotConnect, Limits
from acp.transports.websocket import WebSocketTransport
from acp.transports.websocket_opening import BadOpening, connect_websocket, read_opening
from acp.unions import Free

pytestmark = pytest.mark.anyio

ECHO: Method[Free, Free] = Method("echo", "agent", Free, Free)
SMALL = Limits(message=1000)


class Served:
    """A server that accepts whoever comes, and keeps what it accepted."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/acp"
        self.failures: list[BaseException] = []
        self._put, self._take = anyio.create_memory_object_stream[WebSocketTransport](16)

    async def put(self, transport: WebSocketTransport) -> None:
        await self._put.send(transport)

    async def transport(self) -> WebSocketTransport:
        return await self._take.receive()

    def close(self) -> None:
        self._put.close()
        self._take.close()


@asynccontextmanager
async def serving(limits: Limits | None = None, seconds: float = 5.0) -> AsyncGenerator[Served]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    served = Served(listener.extra(SocketAttribute.local_port))

    async def handle(stream: SocketStream) -> None:
        async with stream:
            try:
                opening = await read_opening(stream, limits or Limits(), seconds)
                async with opening.accept() as transport:
                    await served.put(transport)
                    await anyio.sleep_forever()
            except BadOpening as error:
                served.failures.append(error)

    with anyio.fail_after(60):
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            try:
                yield served
            finally:
                served.close()
                group.cancel_scope.cancel()


@asynccontextmanager
async def pair(
    there: Limits | None = None, here: Limits | None = None
) -> AsyncGenerator[tuple[WebSocketTransport, WebSocketTransport]]:
    """A client's transport and a server's."""
    async with serving(there) as served, connect_websocket(served.url, limits=here) as client:
        yield client, await served.transport()


async def test_texts_come_whole_and_in_order_both_ways_and_then_the_end() -> None:
    texts = [b"1", "é🙂".encode(), b"x" * 70_000, b"y" * 3_000_000, b"last"]
    async with pair() as (client, server):
        for one, other in ((client, server), (server, client)):
            async with anyio.create_task_group() as group:
                group.start_soon(one.send, *texts)
                assert [await other.receive() for _ in texts] == texts
        await client.aclose()
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        assert server.epitaph() == "the peer closed the WebSocket with 1000"
        with pytest.raises(anyio.BrokenResourceError):
            await server.send(b"too late")
        await client.aclose()


async def test_a_connection_runs_over_it() -> None:
    async with pair() as (client, server):

        async def echo(params: Free) -> Free:
            return params

        async with Connection(server, Handlers().on(ECHO, echo)), Connection(client) as connection:
            answer = await connection.call(ECHO, Free({"text": "hello"}))
            assert answer.root == {"text": "hello"}


async def test_the_farewell_tells_why() -> None:
    async with pair() as (client, server):
        server.farewell = (1001, "the server is shutting down")
        async with Connection(client) as connection:
            await server.aclose()
            await connection.wait_closed()
            with pytest.raises(ConnectionClosed, match=r"with 1001 \(the server is shutting down\)"):
                await connection.call(ECHO, Free({}))
            assert client.close_code == 1001


async def test_a_message_over_the_limit_closes_with_1009_and_says_so() -> None:
    async with pair(there=SMALL) as (client, server):
        await client.send(b"x" * 1000)
        assert await server.receive() == b"x" * 1000
        await client.send(b"y" * 1001)
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        assert "1009" in server.epitaph()
        async with anyio.create_task_group() as group:
            group.start_soon(server.aclose)
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
            await client.aclose()
        assert client.close_code == 1009
        assert "1009" in client.epitaph()
        assert "1000" in client.epitaph()


async def to_the_end(transport: WebSocketTransport, each: bytes | None = None) -> None:
    """Receive until that raises."""
    while True:
        text = await transport.receive()
        assert each is None or text == each


async def close_code(data: bytes, limits: Limits = SMALL) -> int:
    """The code that a server closes with that reads this."""
    async with serving(limits) as served, opened(served.port) as client:
        server = await served.transport()
        await client.stream.send(data)
        with pytest.raises(anyio.EndOfStream):
            await to_the_end(server)
        codes: list[int] = []
        async with anyio.create_task_group() as group:
            group.start_soon(server.aclose)
            codes.append(await client.close_code())
            await client.stream.aclose()
        return codes[0]


def test_oversize_is_a_transports_word() -> None:
    assert "1001" in str(Oversize(1001, 1000))


async def test_a_frame_that_claims_a_gigabyte_is_refused_by_its_head() -> None:
    assert await close_code(frame(TEXT, b"x" * 10, size=2**30)) == 1009


async def test_fragments_count_together() -> None:
    parts = [frame(TEXT, b"x" * 600, fin=False), frame(0, b"y" * 600)]
    assert await close_code(b"".join(parts)) == 1009


async def test_a_deflate_bomb_is_refused_unopened() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(b"\0" * 50_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    async with serving() as served, raw(served.port) as client:
        await client.stream.send(request(offer))
        status, headers = await client.answer()
        assert status == 101
        assert "sec-websocket-extensions" not in headers
        server = await served.transport()
        await client.stream.send(frame(TEXT, bomb, rsv1=True))
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        assert "1002" in server.epitaph()


async def test_what_is_not_utf8_closes_with_1007() -> None:
    assert await close_code(frame(TEXT, b'"\xff"')) == 1007


@pytest.mark.parametrize(
    "data",
    [frame(3, b"x"), frame(0, b"x"), frame(PING, b"x" * 200), frame(TEXT, b"x", fin=False) + frame(TEXT, b"y")],
    ids=["opcode", "continuation", "long ping", "text in text"],
)
async def test_what_breaks_the_protocol_closes_with_1002(data: bytes) -> None:
    assert await close_code(data) == 1002


async def test_binary_messages_blank_ones_and_pongs_are_ignored_and_parts_are_joined() -> None:
    async with serving() as served, opened(served.port) as client:
        server = await served.transport()
        said = [
            frame(BINARY, b"{}"),
            frame(BINARY, b"{", fin=False) + frame(0, b"}"),
            frame(TEXT, b" \n"),
            frame(PONG, b"x"),
            frame(TEXT, b"a", fin=False) + frame(PING, b"now") + frame(0, b"", fin=False) + frame(0, b"b"),
        ]
        await client.stream.send(b"".join(said))
        assert await server.receive() == b"ab"
        assert await client.frame() == (PONG, b"now")


async def test_a_close_is_answered_with_what_came_before_it_read_first() -> None:
    async with serving() as served, opened(served.port) as client:
        server = await served.transport()
        await client.stream.send(frame(TEXT, b"last") + frame(CLOSE, b"\x03\xe8bye"))
        assert await server.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        assert await client.close_code() == 1000
        assert server.epitaph() == "the peer closed the WebSocket with 1000 (bye)"


async def test_a_connection_that_is_cut_is_told_from_one_that_was_closed() -> None:
    async with serving() as served:
        async with opened(served.port):
            server = await served.transport()
        with pytest.raises(anyio.BrokenResourceError, match="lost"):
            await server.receive()
        assert server.close_code is None
        with pytest.raises(anyio.EndOfStream):
            await server.receive()


# Silence -------------------------------------------------------------------------------------------------------


async def test_a_silent_peer_is_pinged_and_given_up_when_it_stays_silent() -> None:
    async with serving(Limits(heartbeat=0.1)) as served, opened(served.port) as client:
        server = await served.transport()
        async with anyio.create_task_group() as group:
            failed = anyio.Event()

            async def read() -> None:
                with pytest.raises(anyio.BrokenResourceError, match="not heard"):
                    await server.receive()
                failed.set()

            group.start_soon(read)
            assert (await client.frame())[0] == PING
            await client.wait_gone()
            await failed.wait()


async def test_an_answered_ping_keeps_a_silent_peer() -> None:
    async with serving(Limits(heartbeat=0.1)) as served, opened(served.port) as client:
        server = await served.transport()
        async with anyio.create_task_group() as group:

            async def read() -> None:
                assert await server.receive() == b"still here"

            group.start_soon(read)
            for _ in range(5):
                opcode, data = await client.frame()
                assert opcode == PING
                await client.stream.send(frame(PONG, data))
            await client.stream.send(frame(TEXT, b"still here"))


async def test_pings_are_answered_while_nobody_receives_and_no_text_is_lost() -> None:
    async with pair(here=Limits(heartbeat=0.3), there=Limits(heartbeat=0.3)) as (client, server):
        for n in range(20):
            await client.send(b"%d" % n)
        done = anyio.Event()

        async def read() -> None:  # which makes the client's own pings count
            assert await client.receive() == b"done"
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            with anyio.move_on_after(1):
                await done.wait()
            assert [await server.receive() for _ in range(20)] == [b"%d" % n for n in range(20)]
            await server.send(b"done")
            await done.wait()


async def test_a_peer_that_pings_and_never_reads_is_given_up() -> None:
    async with serving(Limits(stall=0.3)) as served, opened(served.port) as client:
        server = await served.transport()
        pings = frame(PING, b"x" * 100) * 5000

        async def flood() -> None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                while True:
                    await client.stream.send(pings)

        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                await server.receive()
            assert "ping" in server.epitaph() or "read nothing" in server.epitaph()


async def test_a_reader_that_does_not_read_makes_the_sender_wait_and_is_given_up_in_the_end() -> None:
    async with pair(there=Limits(stall=0.3)) as (_client, server):
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while sent < 2**29:  # more than two kernels hold
                await server.send(b"x" * 100_000)
                sent += 100_000

        with pytest.raises(anyio.BrokenResourceError, match=r"read nothing for 0\.3 s"):
            await fill()
        with pytest.raises(anyio.BrokenResourceError):
            await server.send(b"more")


async def test_a_cancelled_send_leaves_no_torn_frame_behind_it() -> None:
    async with pair() as (client, server):
        sent, before = 0, -1

        async def fill() -> None:
            nonlocal sent
            while True:
                await server.send(b"x" * 500_000)
                sent += 1

        async with anyio.create_task_group() as group:
            group.start_soon(fill)
            while before != sent:  # until it waits in the middle of one
                before = sent
                await anyio.sleep(0.2)
            group.cancel_scope.cancel()
        with pytest.raises(anyio.BrokenResourceError):
            await server.send(b"behind it")
        await server.aclose()
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await to_the_end(client, b"x" * 500_000)


# Opening ---------------------------------------------------------------------------------------------------------


async def test_a_slow_request_gets_408_and_no_more_time() -> None:
    async with serving(seconds=0.3) as served, raw(served.port) as client:
        async with anyio.create_task_group() as group:

            async def drip() -> None:
                for byte in request():
                    await client.stream.send(bytes([byte]))
                    await anyio.sleep(0.05)

            group.start_soon(drip)
            assert (await client.answer())[0] == 408
            group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),
        (b"GET /acp HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /acp HTTP/1.1\nHost x\n\n", 400),
        (request(more="Transfer-Encoding: chunked\r\n"), 400),
        (request(more="Content-Length: 5\r\n"), 400),
        (request(more="Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
        (request({"Sec-WebSocket-Key": "short"}), 400),
        (request({"Upgrade": ""}), 426),
        (request({"X": "y" * 9000}), 431),
        (request(more="".join(f"X{n}: {'y' * 300}\r\n" for n in range(120))), 431),
        (request(more="".join(f"X{n}: y\r\n" for n in range(300))), 431),
    ],
    ids=["tls", "space", "no colon", "chunked", "body", "two keys", "bad key", "plain", "long", "large", "many"],
)
async def test_a_request_that_is_none_is_refused(data: bytes, status: int) -> None:
    async with serving() as served, raw(served.port) as client:
        await client.stream.send(data)
        assert (await client.answer())[0] == status
        await client.wait_gone()


async def test_a_client_that_leaves_before_it_has_asked_costs_nothing() -> None:
    async with serving() as served:
        async with raw(served.port) as client:
            await client.stream.send(request()[:30])
        async with connect_websocket(served.url) as other:
            assert "acp-connection-id" in other.headers
        assert len(served.failures) == 1


async def test_who_cannot_be_reached_is_said() -> None:
    async def use(url: str, **options: Any) -> None:
        async with connect_websocket(url, **options):
            raise AssertionError("connected")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    with pytest.raises(CannotConnect, match=f"127.0.0.1:{port}/acp did not answer within 0.2 s"):
        await use(f"ws://127.0.0.1:{port}/acp?secret=1", seconds=0.2)
    await listener.aclose()
    with pytest.raises(CannotConnect, match="cannot be reached"):
        await use(f"ws://127.0.0.1:{port}/acp")
    for url, why in (
        ("ws://me:secret@127.0.0.1/acp", "credentials do not belong in a URL"),
        ("http://127.0.0.1/acp", "scheme"),
        ("ws:///acp", "host"),
        ("ws://127.0.0.1:99999/acp", "URL"),
    ):
        with pytest.raises(ValueError, match=why):
            await use(url)
    for headers, why in (
        ({"A B": "c"}, "not a header"),
        ({"X": "a\r\nHost: evil"}, "characters"),
        ({"Host": "evil"}, "not a header that can be set"),
    ):
        with pytest.raises(ValueError, match=why):
            await use("ws://127.0.0.1/acp", headers=headers)
    with pytest.raises(ValueError, match="in the clear"):
        await use("ws://agents.example/acp", headers={"Authorization": "Bearer x"})


async def refused_by(answer: Callable[[Raw], Any]) -> CannotConnect:
    """What a client says of a server that answers so."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/acp"

    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await answer(Raw(stream))

    async with AsyncExitStack() as exits:
        await exits.enter_async_context(listener)
        group = await exits.enter_async_context(anyio.create_task_group())
        group.start_soon(listener.serve, handle)
        with anyio.fail_after(60), pytest.raises(CannotConnect) as caught:
            async with connect_websocket(url):
                pass
        group.cancel_scope.cancel()
    return caught.value


async def test_a_server_that_refuses_is_quoted() -> None:
    async def busy(client: Raw) -> None:
        words = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\ntry later"
        await client.stream.send(words)

    error = await refused_by(busy)
    assert (error.status, error.retry_after) == (503, 7)
    assert "503 Service Unavailable: try later" in str(error)


async def test_a_server_that_is_none_is_said_to_be() -> None:
    async def nonsense(client: Raw) -> None:
        await client.stream.send(b"220 mail.example ESMTP\r\n")

    assert "did not open a WebSocket" in str(await refused_by(nonsense))

    async def silent(client: Raw) -> None:
        pass

    assert (await refused_by(silent)).status is None
