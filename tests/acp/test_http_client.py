"""Streamable HTTP, the client's end: against servers that are odd, broken, or another SDK's."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from http_server_double import ID, INITIALIZE, INITIALIZED, Double, method_of, serving, usual

from acp.transports import Oversize
from acp.transports.cookies import Cookies
from acp.transports.http_client import HttpTransport, connect_http
from acp.transports.remote import Limits
from acp_server.network.exchange import Exchange, Send

pytestmark = pytest.mark.anyio

EVENTS = {"content-type": "text/event-stream"}


def ask(id: int, method: str, session: str | None = None) -> bytes:
    params = {} if session is None else {"sessionId": session}
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()


@asynccontextmanager
async def connected(double: Double, **options: Any) -> AsyncGenerator[HttpTransport]:
    """A connection that was initialized."""
    async with connect_http(double.url, **options) as transport:
        await transport.send(INITIALIZE)
        assert await transport.receive() == INITIALIZED
        yield transport


def streaming(*pieces: bytes, session: str | None = None, ends: bool = False) -> Any:
    """A server that says this on one stream."""

    async def produce(send: Send) -> None:
        for piece in pieces:
            await send(piece)
        if not ends:
            await anyio.sleep_forever()

    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.method == "GET" and exchange.request.all("acp-session-id") == (
            [session] if session else []
        ):
            await exchange.stream(EVENTS, produce)
        else:
            await usual(exchange, body)

    return answer


# Beginning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "body", "why", "after", "final"),
    [
        (401, {}, b"a bearer token is needed\n", "401 Unauthorized: a bearer token is needed", None, True),
        (503, {"retry-after": "7"}, b"going", "503 Service Unavailable: going", 7.0, False),
        (302, {"location": "http://127.0.0.1:1/"}, b"", "302 Found", None, False),
        (200, {}, INITIALIZED, "does not speak ACP", None, False),
        (500, {}, b"x" * 100_000, "500 Internal Server Error: xxx", None, False),
    ],
)
async def test_a_server_that_refuses_is_told_of(
    status: int, headers: dict[str, str], body: bytes, why: str, after: float | None, final: bool
) -> None:
    async def answer(exchange: Exchange, _: bytes) -> None:
        await exchange.answer(status, headers, body)

    async with serving(answer) as double, connect_http(double.url) as transport:
        with pytest.raises(anyio.BrokenResourceError):
            await transport.send(INITIALIZE)
        assert transport.refusal is not None
        assert why in str(transport.refusal)
        assert len(str(transport.refusal)) < 1000
        assert (transport.refusal.status, transport.refusal.retry_after) == (status, after)
        assert transport.is_final is final
        with pytest.raises(anyio.BrokenResourceError):
            await transport.receive()
    assert len(double.asked) == 1


async def test_nobody_there_is_told_too() -> None:
    async with connect_http("http://127.0.0.1:1/acp") as transport:
        with pytest.raises(anyio.BrokenResourceError, match="cannot be reached"):
            await transport.send(INITIALIZE)
        assert transport.was_lost
        assert not transport.is_final


@pytest.mark.parametrize(
    ("url", "options", "why"),
    [
        ("http://a:b@127.0.0.1/acp", {}, "do not belong in a URL"),
        ("http:///acp", {}, "not a URL of HTTP"),
        ("http://elsewhere.example/acp", {"headers": {"Authorization": "Bearer x"}}, "in the clear"),
        ("http://127.0.0.1/acp", {"headers": {"Content-Length": "1"}}, "not a header that can be set"),
        ("http://127.0.0.1/acp", {"headers": {"X": "a\r\nb"}}, "characters"),
    ],
)
async def test_what_cannot_be_asked_is_not(url: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        async with connect_http(url, **options):
            pass


async def test_every_request_says_what_it_has_to(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = "Bearer a-token-that-nobody-sees"
    async with serving(usual) as double:
        async with connected(double, headers={"Authorization": token}, replaces=["a", "b"]) as transport:
            await transport.send(ask(2, "session/new"), ask(3, "session/prompt", "s1"))
    methods = [exchange.request.method for exchange in double.asked]
    assert sorted(methods) == ["DELETE", "GET", "GET", "POST", "POST", "POST"]
    for number, exchange in enumerate(double.asked):
        assert double.headers(number, "authorization") == [token]
        first = exchange.request.method == "POST" and method_of(double.bodies[number]) == "initialize"
        assert double.headers(number, "acp-connection-id") == ([] if first else ["c1"])
        assert double.headers(number, "acp-protocol-version") == ([] if first else ["1"])
        assert double.headers(number, "acp-laguna-replaces") == (["a, b"] if first else [])
        if exchange.request.method == "GET":
            assert double.headers(number, "accept") == ["text/event-stream"]
    prompt = next(n for n, body in enumerate(double.bodies) if method_of(body) == "session/prompt")
    assert double.headers(prompt, "acp-session-id") == ["s1"]
    session_stream = [e for e in double.asked[:prompt] if e.request.method == "GET" and e.request.all("acp-session-id")]
    assert len(session_stream) == 1  # opened before the first text about it
    assert token not in caplog.text


async def test_cookies_are_kept_and_returned_and_outlive_the_connection() -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if method_of(body) == "initialize":
            await exchange.answer(200, {**ID, "Set-Cookie": "node=a; Path=/; HttpOnly"}, INITIALIZED)
        else:
            await usual(exchange, body)

    cookies = Cookies()
    async with serving(answer) as double:
        async with connected(double, cookies=cookies) as transport:
            await transport.send(ask(2, "session/new"))
        assert [double.headers(n, "cookie") for n in range(1, len(double.asked))] == [["node=a"]] * 3
        async with connected(double, cookies=cookies):
            pass
        assert double.headers(4, "cookie") == ["node=a"]


# Texts -------------------------------------------------------------------------------------------------------------


async def test_texts_arrive_in_the_order_in_which_they_were_sent() -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if method_of(body) == "slow":
            await anyio.sleep(0.1)
        await usual(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        await transport.send(ask(2, "slow"), ask(3, "x"), ask(4, "slow"), ask(5, "y"))
        said = [method_of(body) for body in double.bodies if body]
        assert said == ["initialize", "slow", "x", "slow", "y"]


@pytest.mark.parametrize("status", [400, 413, 429, 500])
async def test_a_request_that_the_server_refuses_fails_by_itself(status: int) -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if method_of(body) == "session/prompt":
            await exchange.answer(status, {}, b"no\n")
        else:
            await usual(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        await transport.send(ask(2, "session/prompt", "s1"))
        error = json.loads(await transport.receive())  # pyright: ignore[reportArgumentType]
        assert (error["id"], error["error"]["code"], error["error"]["data"]) == (2, -32603, {"status": status})
        await transport.send(ask(3, "session/list"))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_server_that_does_not_know_us_any_more_ends_the_connection(status: int) -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if method_of(body) == "session/list":
            await exchange.answer(status, {}, b"who?\n")
        else:
            await usual(exchange, body)

    async with serving(answer) as double:
        async with connected(double) as transport:
            with pytest.raises(anyio.BrokenResourceError):
                await transport.send(ask(2, "session/list"))
            assert transport.was_lost
        assert "DELETE" not in [exchange.request.method for exchange in double.asked]  # its sessions may be missed


async def test_a_notification_that_is_refused_ends_the_connection_for_nobody_else_would_hear_of_it() -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if method_of(body) == "session/cancel":
            await exchange.answer(500, {})
        else:
            await usual(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        with pytest.raises(anyio.BrokenResourceError):
            await transport.send(b'{"jsonrpc":"2.0","method":"session/cancel","params":{"sessionId":"s1"}}')


async def test_a_server_that_does_not_know_a_session_before_it_is_loaded_is_asked_without_its_name() -> None:
    """The official Python SDK's: 404 for the stream of a session that it has not opened, and for what names one."""

    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.all("acp-session-id"):
            await exchange.answer(404, {}, b"Unknown session id")
        else:
            await usual(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        await transport.send(ask(2, "session/load", "s1"), ask(3, "session/prompt", "s1"))
        error = json.loads(await transport.receive())  # pyright: ignore[reportArgumentType]
        assert (error["id"], error["error"]["code"]) == (3, -32002)
        assert [method_of(body) for body in double.bodies if body] == ["initialize", "session/load", "session/prompt"]
        assert not transport.was_lost


async def test_an_answer_names_the_session_of_its_question() -> None:
    """The official TypeScript SDK's server refuses it otherwise."""
    question = b'{"jsonrpc":"2.0","id":"q1","method":"session/request_permission","params":{"sessionId":"s1"}}'
    async with serving(streaming(b"data: " + question + b"\n\n", session="s1")) as double:
        async with connected(double) as transport:
            await transport.send(ask(2, "session/prompt", "s1"))
            assert await transport.receive() == question
            await transport.send(b'{"jsonrpc":"2.0","id":"q1","result":{}}')
        answer = next(n for n, body in enumerate(double.bodies) if b'"result"' in body)
        assert double.headers(answer, "acp-session-id") == ["s1"]


# Streams -----------------------------------------------------------------------------------------------------------


async def test_the_stream_of_a_session_that_was_made_is_opened() -> None:
    made = b'{"jsonrpc":"2.0","id":2,"result":{"sessionId":"new"}}'
    async with serving(streaming(b"data: " + made + b"\n\n")) as double, connected(double) as transport:
        await transport.send(ask(2, "session/new"))
        assert await transport.receive() == made
        while len(double.asked) < 4:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        assert ["new"] in [double.headers(n, "acp-session-id") for n in range(len(double.asked))]


async def test_a_stream_that_breaks_is_opened_again_behind_what_came_last() -> None:
    lasts: list[str] = []

    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.method == "GET":
            [last] = exchange.request.all("last-event-id")
            lasts.append(last)

            async def produce(send: Send) -> None:
                number = int(last) + 1
                await send(b': heartbeat 20\n\nid: %d\ndata: {"n":%d}\n\nid: 99\ndata: {"half' % (number, number))

            await exchange.stream(EVENTS, produce)
        else:
            await usual(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        texts = [await transport.receive() for _ in range(5)]
    assert texts == [b'{"n":%d}' % n for n in range(1, 6)]
    assert lasts[:5] == ["0", "1", "2", "3", "4"]


async def test_a_stream_without_numbers_that_ends_ends_the_connection() -> None:
    async with serving(streaming(b'data: {"n":1}\n\n', ends=True)) as double, connected(double) as transport:
        assert await transport.receive() == b'{"n":1}'
        with pytest.raises(anyio.BrokenResourceError, match="ended a stream of events"):
            await transport.receive()
        assert transport.was_lost


@pytest.mark.parametrize("status", [404, 410, 401])
async def test_a_stream_that_may_not_go_on_ends_the_connection(status: int) -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.method == "GET" and exchange.request.all("last-event-id") != ["0"]:
            await exchange.answer(status, {}, b"no")
        else:
            await streaming(b"id: 1\ndata: {}\n\n", ends=True)(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        assert await transport.receive() == b"{}"
        with pytest.raises(anyio.BrokenResourceError, match=str(status)):
            await transport.receive()
        assert transport.was_lost


async def test_a_stream_whose_heartbeat_stops_is_opened_again() -> None:
    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.method == "GET" and exchange.request.all("last-event-id") == ["0"]:
            await streaming(b": heartbeat 0.02\n\nid: 1\ndata: {}\n\n")(exchange, body)
        else:
            await streaming(b"id: 2\ndata: []\n\n")(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        assert [await transport.receive(), await transport.receive()] == [b"{}", b"[]"]


@pytest.mark.parametrize(("code", "well"), [(1000, True), (1001, False), (1011, False)])
async def test_a_server_that_says_farewell_is_understood(code: int, well: bool) -> None:
    farewell = b": heartbeat 20\n\n: close %d the reason\n\n" % code
    async with serving(streaming(farewell, ends=True)) as double, connected(double) as transport:
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await transport.receive()
        assert transport.epitaph() == f"the peer closed the connection with {code} (the reason)"
        assert transport.ended_well is well
        assert transport.is_final is well
        assert transport.was_lost is (code != 1000)


async def test_a_session_that_was_closed_is_listened_to_no_more() -> None:
    asked, left = anyio.Event(), anyio.Event()

    async def produce(send: Send) -> None:
        await send(b": hello\n\n")
        await asked.wait()
        await send(b'id: 1\ndata: {"jsonrpc":"2.0","id":2,"result":{}}\n\n')
        try:
            await anyio.sleep_forever()
        finally:
            left.set()

    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.method == "GET" and exchange.request.all("acp-session-id"):
            await exchange.stream(EVENTS, produce)
        else:
            await usual(exchange, body)
            if method_of(body) == "session/close":
                asked.set()

    async with serving(answer) as double, connected(double) as transport:
        await transport.send(ask(2, "session/close", "s1"))
        assert b'"id":2' in await transport.receive()  # pyright: ignore[reportOperatorIssue]
        await left.wait()
        await transport.send(ask(3, "session/list"))


async def test_a_text_that_is_too_long_is_reported_and_the_next_one_read() -> None:
    pieces = b"data: " + b"x" * 5000 + b"\n\ndata: {}\n\n"
    async with serving(streaming(pieces)) as double, connected(double, limits=Limits(message=1000)) as transport:
        assert isinstance(await transport.receive(), Oversize)
        assert await transport.receive() == b"{}"


async def test_what_nobody_receives_makes_the_server_wait() -> None:
    sent = 0

    async def produce(send: Send) -> None:
        nonlocal sent
        while True:
            await send(b"data: " + b"x" * 10_000 + b"\n\n")
            sent += 1

    async def answer(exchange: Exchange, body: bytes) -> None:
        if exchange.request.method == "GET":
            await exchange.stream(EVENTS, produce)
        else:
            await usual(exchange, body)

    async with serving(answer) as double, connected(double) as transport:
        before = -1
        while before != sent:
            before = sent
            await anyio.sleep(0.2)
        assert len(await transport.receive()) == 10_000  # pyright: ignore[reportArgumentType]
        assert transport._unread_bytes <= 2**20 + 10_000


async def test_leaving_tells_the_server_once() -> None:
    async with serving(usual) as double:
        async with connected(double) as transport:
            transport.farewell = (1001, "trying another")
        gone = [e.request.all("acp-laguna-farewell") for e in double.asked if e.request.method == "DELETE"]
        assert gone == [["1001"]]
