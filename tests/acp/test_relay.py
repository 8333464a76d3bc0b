"""Two transports joined: every text comes through as it was, in order, and both ends are ended."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.json_text import dumps, loads
from acp.transports import Oversize, Transport
from acp.transports.memory import MemoryTransport, memory_pair
from acp.transports.relay import on_one_line, relay

pytestmark = pytest.mark.anyio


async def test_texts_pass_both_ways_and_the_side_that_ends_is_told() -> None:
    (a, here), (there, b) = memory_pair(1), memory_pair(1)
    ended: list[Transport] = []
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:

            async def run() -> None:
                ended.append(await relay(here, there))
                await here.aclose()
                await there.aclose()

            async def say(side: MemoryTransport, *texts: bytes) -> None:
                await side.send(*texts)
                if side is b:
                    await b.aclose()

            group.start_soon(run)
            group.start_soon(say, a, b"1", b"2", b"3")
            assert [await b.receive() for _ in range(3)] == [b"1", b"2", b"3"]
            group.start_soon(say, b, b"x", b"\xff\n{", b"last")
            assert [await a.receive() for _ in range(3)] == [b"x", b"\xff {", b"last"]
            with pytest.raises(anyio.EndOfStream):
                await a.receive()
        assert ended == [there]
    await a.aclose()


async def test_a_reader_that_does_not_read_makes_the_other_side_wait() -> None:
    (a, here), (there, b) = memory_pair(1), memory_pair(1)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(relay, here, there)
            sent = 0
            with anyio.move_on_after(0.2):
                while True:
                    await a.send(b"text")
                    sent += 1
            assert sent <= 5
            group.cancel_scope.cancel()
    for transport in (a, here, there, b):
        await transport.aclose()


async def test_an_answer_that_takes_its_time_still_comes_when_whoever_asked_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acp.transports.relay.LAST_ANSWERS", 0.0)
    (a, here), (there, b) = memory_pair(), memory_pair()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(relay, here, there)
            await a.send(b"question")
            a._send.close()  # as stdin ends and stdout is still read
            assert await b.receive() == b"question"
            await anyio.wait_all_tasks_blocked()
            await b.send(b"answer")
            assert await a.receive() == b"answer"
    for transport in (a, here, there, b):
        await transport.aclose()


class TooLong(MemoryTransport):
    """A transport that once had a text it could not take."""

    was_told = False

    async def receive(self) -> bytes | Oversize:
        if not self.was_told:
            self.was_told = True
            return Oversize(100, 10)
        return await super().receive()


async def test_a_text_that_was_too_long_is_told_to_whoever_sent_it() -> None:
    (a, here), (there, b) = memory_pair(), memory_pair()
    long = TooLong(*here.__dict__.values())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(relay, long, there)
            answer = await a.receive()
            assert isinstance(answer, bytes)
            assert loads(answer)["error"]["code"] == -32600
            await a.send(b"next")
            assert await b.receive() == b"next"
            group.cancel_scope.cancel()
    for transport in (a, here, there, b):
        await transport.aclose()


_VALUES = st.recursive(
    st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(_VALUES, st.sampled_from([b"\n", b"\r\n", b"\n\n  "]))
def test_a_text_on_one_line_says_the_same(value: object, gap: bytes) -> None:
    text = gap + dumps({"value": value}).replace(b":", b":" + gap, 1) + gap
    line = on_one_line(text)
    assert b"\n" not in line
    assert loads(line) == {"value": value}
