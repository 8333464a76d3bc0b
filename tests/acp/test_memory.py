"""Both ends of a conversation in one process."""

from __future__ import annotations

import anyio
import pytest

from acp.transports.memory import memory_pair

pytestmark = pytest.mark.anyio


async def test_texts_come_in_order_both_ways_and_then_the_end() -> None:
    here, there = memory_pair()
    for text in (b"1", b"2"):
        await here.send(text)
        await there.send(text)
    assert [await there.receive(), await there.receive()] == [b"1", b"2"]
    await there.aclose()
    assert [await here.receive(), await here.receive()] == [b"1", b"2"]
    with pytest.raises(anyio.EndOfStream):
        await here.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await here.send(b"3")
    await here.aclose()


async def test_a_sender_waits_for_a_slot() -> None:
    here, there = memory_pair(1)
    await here.send(b"1")
    sent = False
    with anyio.move_on_after(0.01):
        await here.send(b"2")
        sent = True
    assert not sent
    assert await there.receive() == b"1"
    with anyio.fail_after(60):
        await here.send(b"3")
    assert await there.receive() == b"3"
    await here.aclose()
    await there.aclose()
