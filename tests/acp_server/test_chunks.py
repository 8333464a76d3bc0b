"""Text on its way out: joined when it comes fast, and while nobody keeps up with it."""

from __future__ import annotations

import anyio
import pytest

from acp.updates import MessageChunk, TextBlock, Update
from acp_server.turn.chunks import MOST_PENDING, Chunks

pytestmark = pytest.mark.anyio


class Listener:
    """Whoever hears it. `behind`: whether they have much to read yet."""

    def __init__(self) -> None:
        self.behind = False
        self.heard: list[str] = []

    async def emit(self, update: Update) -> None:
        match update:
            case MessageChunk("agent", TextBlock(text)):
                self.heard.append(text)
            case _:
                raise AssertionError(update)


async def test_what_is_said_to_somebody_who_is_behind_becomes_one_chunk() -> None:
    listener = Listener()
    chunks = Chunks(listener.emit, "m", lambda: listener.behind)
    await chunks.add("agent", "0 ")
    listener.behind = True
    for n in range(1, 1000):
        await chunks.add("agent", f"{n} ")
        if n % 100 == 0:
            await chunks.flush_if_heard()
    assert listener.heard == ["0 "]
    assert chunks.due < anyio.current_time() + 1  # it is tried again soon
    listener.behind = False
    await chunks.flush_if_heard()
    assert listener.heard == ["0 ", "".join(f"{n} " for n in range(1, 1000))]


async def test_no_more_is_joined_than_can_be_held() -> None:
    listener = Listener()
    chunks = Chunks(listener.emit, "m", lambda: True)
    for _ in range(3 * MOST_PENDING // 1000):
        await chunks.add("agent", "x" * 1000)
        await chunks.flush_if_heard()
    await chunks.end_message()
    assert "".join(listener.heard) == "x" * (3 * MOST_PENDING // 1000 * 1000)
    assert max(map(len, listener.heard)) < MOST_PENDING + 1000
    assert len(listener.heard) <= 4


async def test_what_follows_does_not_wait_for_them() -> None:
    """A call of a tool comes behind the text before it, however far behind its reader is."""
    listener = Listener()
    chunks = Chunks(listener.emit, "m", lambda: True)
    await chunks.add("agent", "first")
    await chunks.end_message()
    assert listener.heard == ["first"]
