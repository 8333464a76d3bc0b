"""TCP connections: whole in both directions, bounded while nobody reads, and ended from either side."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from acp.transports.tcp import accept, connect_tcp

pytestmark = pytest.mark.anyio

MANY = os.urandom(5 * 2**20)


@asynccontextmanager
async def connected(first: bytes = b"") -> AsyncGenerator[tuple[SocketStream, SocketStream]]:
    """Both ends of a connection, the client's first; `first` was sent before anybody accepted it."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as multi:
        listener = cast("SocketListener", multi.listeners[0])
        with anyio.fail_after(60):
            async with await connect_tcp("127.0.0.1", multi.extra(SocketAttribute.local_port)) as client:
                if first:
                    await client.send(first)
                async with await accept(listener) as server:
                    yield client, server


async def read(stream: SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive()
    return data


async def test_what_came_before_and_after_anybody_read_arrives_in_order_both_ways() -> None:
    async with connected(MANY[:1000]) as (client, server), anyio.create_task_group() as group:
        for n in range(1000, 5000, 1000):  # in pieces that come while nobody waits for them
            await client.send(MANY[n : n + 1000])
            await anyio.lowlevel.checkpoint()
        assert await read(server, 5000) == MANY[:5000]
        group.start_soon(client.send, MANY)
        group.start_soon(server.send, MANY)
        assert await read(server, len(MANY)) == MANY
        assert await read(client, len(MANY)) == MANY
        await client.send(b"abc")
        assert [await server.receive(2), await server.receive(2)] == [b"ab", b"c"]


async def test_who_gives_up_waiting_loses_nothing() -> None:
    async with connected() as (client, server), anyio.create_task_group() as group:
        group.start_soon(client.send, MANY)
        data = b""
        while len(data) < len(MANY):
            with anyio.move_on_after(0):
                data += await server.receive()
            with anyio.move_on_after(0.01):
                data += await server.receive()
        assert data == MANY


@pytest.mark.parametrize("received", [False, True])
async def test_what_nobody_receives_stays_in_the_network(received: bool) -> None:
    async with connected(b"first") as (client, server):
        if received:
            assert await server.receive() == b"first"
        sent = 0
        with anyio.move_on_after(1.0):
            while sent < 1024:
                await client.send(bytes(2**20))
                sent += 1
        assert sent < 512, "MiB, of which the system's buffers take some"


async def test_the_end_and_a_reset_are_told_apart() -> None:
    async with connected() as (client, server):
        await client.send(b"x")
        await client.send_eof()
        assert await server.receive() == b"x"
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await server.receive()
        await server.send(b"y")
        assert await client.receive() == b"y"
        await server.send(b"never read")
        await anyio.wait_readable(client.extra(SocketAttribute.raw_socket))
    async with connected() as (client, server):
        await server.send(b"z" * 2**20)
        await client.aclose()  # with unread bytes: the system says that they were lost
        with pytest.raises(anyio.BrokenResourceError):  # noqa: PT012
            while True:
                await server.send(bytes(2**20))


@pytest.mark.parametrize("way", ["receive", "send"])
async def test_closing_wakes_whoever_waits(way: str) -> None:
    async with connected() as (client, _), anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises((anyio.ClosedResourceError, anyio.BrokenResourceError)):  # noqa: PT012
                while True:
                    await (client.receive() if way == "receive" else client.send(bytes(2**20)))

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await client.aclose()
        await client.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await client.send(b"x")
