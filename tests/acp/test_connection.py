"""A peer with a transport: order, back-pressure, cancelling, ends."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from acp.answering import RUNNING_REQUESTS
from acp.connection import Connection, Handlers
from acp.errors import ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from acp.methods import Method
from acp.transports import Oversize
from acp.transports.memory import MemoryTransport, memory_pair
from acp.wire import Wire

pytestmark = pytest.mark.anyio


class Note(Wire):
    number: int = 0


ASK: Method[Note, Note] = Method("test/ask", "both", Note, Note)
TELL: Method[Note, None] = Method("test/tell", "both", Note)

Handler = Callable[[Note], Awaitable[Note]]


async def echo(note: Note) -> Note:
    return note


@asynccontextmanager
async def both(here: Handlers, there: Handlers, slots: int = 16) -> AsyncGenerator[tuple[Connection, Connection]]:
    left, right = memory_pair(slots)
    with anyio.fail_after(60):
        async with Connection(left, here, name="here") as a, Connection(right, there, name="there") as b:
            yield a, b


@asynccontextmanager
async def one(handlers: Handlers, slots: int = 16) -> AsyncGenerator[tuple[Connection, MemoryTransport]]:
    """A connection, and the other end of its transport to play the peer with."""
    ours, theirs = memory_pair(slots)
    with anyio.fail_after(60):
        async with Connection(ours, handlers, name="here") as connection:
            yield connection, theirs
        await theirs.aclose()


async def heard(transport: MemoryTransport) -> dict[str, Any]:
    text = await transport.receive()
    assert isinstance(text, bytes)
    return json.loads(text)


async def raw(transport: MemoryTransport, **message: Any) -> None:
    await transport.send(json.dumps({"jsonrpc": "2.0", **message}).encode())


async def test_an_update_sent_before_the_reply_is_seen_before_it() -> None:
    seen: list[int] = []

    async def slow(note: Note) -> None:
        for _ in range(note.number % 5):
            await anyio.lowlevel.checkpoint()
        seen.append(note.number)

    async def answer(note: Note) -> Note:
        for number in range(200):
            await there.notify(TELL, Note(number=number))
        return Note(number=len(seen))

    async with both(Handlers().on(TELL, slow), Handlers().on(ASK, answer)) as (here, there):
        await here.call(ASK, Note())
        assert seen == list(range(200))


async def test_requests_run_side_by_side_and_answers_find_their_callers() -> None:
    gate = anyio.Event()

    async def answer(note: Note) -> Note:
        if note.number == 9:
            gate.set()
        await gate.wait()
        return note

    async with both(Handlers(), Handlers().on(ASK, answer)) as (here, _):
        found: dict[int, int] = {}

        async def one(number: int) -> None:
            found[number] = (await here.call(ASK, Note(number=number))).number

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, number)
        assert found == {number: number for number in range(10)}


async def test_two_sides_that_flood_each_other_through_narrow_pipes_both_finish() -> None:
    counted = {"here": 0, "there": 0}

    def counter(name: str) -> Callable[[Note], Awaitable[None]]:
        async def count(_: Note) -> None:
            counted[name] += 1

        return count

    here_handlers = Handlers().on(TELL, counter("here")).on(ASK, echo)
    there_handlers = Handlers().on(TELL, counter("there")).on(ASK, echo)
    async with both(here_handlers, there_handlers, slots=1) as (here, there):

        async def flood(connection: Connection) -> None:
            for number in range(300):
                await connection.notify(TELL, Note(number=number))
                if number % 30 == 0:
                    await connection.call(ASK, Note(number=number))
            await connection.call(ASK, Note())

        async with anyio.create_task_group() as group:
            group.start_soon(flood, here)
            group.start_soon(flood, there)
    assert counted == {"here": 300, "there": 300}


async def test_a_sender_waits_while_the_other_side_does_not_read() -> None:
    left, right = memory_pair(1)
    with anyio.fail_after(60):
        async with Connection(left, Handlers(), name="here") as here:
            sent = 0
            with anyio.move_on_after(0.2):
                for number in range(10_000):
                    await here.notify(TELL, Note(number=number))
                    sent += 1
            assert sent < 100
            for _ in range(sent):
                await right.receive()
            await here.notify(TELL, Note())
            await right.aclose()


async def test_cancelling_a_call_tells_the_peer_and_cancels_its_handler() -> None:
    started, cancelled = anyio.Event(), anyio.Event()

    async def hang(_: Note) -> Note:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return Note()

    async with both(Handlers(), Handlers().on(ASK, hang)) as (here, there):
        async with anyio.create_task_group() as group:
            group.start_soon(here.call, ASK, Note())
            await started.wait()
            group.cancel_scope.cancel()
        await cancelled.wait()
        with anyio.fail_after(60):
            while there._peer.running:
                await anyio.lowlevel.checkpoint()


async def test_a_cancelled_request_answers_request_cancelled_or_a_partial_result() -> None:
    started = anyio.Event()

    async def hang(note: Note) -> Note:
        started.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if note.number:
                return Note(number=5)
            raise
        return note

    for number, expected in ((0, None), (1, 5)):
        started = anyio.Event()
        async with one(Handlers().on(ASK, hang)) as (_, theirs):
            await raw(theirs, id="x", method="test/ask", params={"number": number})
            await started.wait()
            await raw(theirs, method="$/cancel_request", params={"requestId": "x"})
            answer = await heard(theirs)
            assert answer["id"] == "x"
            if expected is None:
                assert answer["error"]["code"] == ErrorCode.REQUEST_CANCELLED
            else:
                assert answer["result"] == {"number": expected}


async def test_a_request_error_of_a_handler_reaches_the_caller_as_it_is() -> None:
    async def refuse(_: Note) -> Note:
        raise RequestError(-32002, "Session not found", {"sessionId": "s"})

    async with both(Handlers(), Handlers().on(ASK, refuse)) as (here, _):
        with pytest.raises(RequestError) as caught:
            await here.call(ASK, Note())
    assert (caught.value.code, caught.value.message, caught.value.data) == (
        -32002,
        "Session not found",
        {"sessionId": "s"},
    )


async def test_any_other_exception_tells_the_peer_nothing_but_a_reference(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Note) -> Note:
        raise ValueError("/home/me/secret token=abc")

    with caplog.at_level(logging.CRITICAL):
        async with both(Handlers(), Handlers().on(ASK, fail)) as (here, _):
            with pytest.raises(RequestError) as caught:
                await here.call(ASK, Note())
    assert caught.value.code == ErrorCode.INTERNAL_ERROR
    assert caught.value.message == "Internal error"
    assert set(caught.value.data) == {"reference"}


async def test_a_failing_notification_handler_does_not_end_the_conversation(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Note) -> None:
        raise ValueError("no")

    with caplog.at_level(logging.CRITICAL):
        async with both(Handlers(), Handlers().on(TELL, fail).on(ASK, echo)) as (here, _):
            await here.notify(TELL, Note())
            assert (await here.call(ASK, Note(number=3))).number == 3


async def test_a_notification_handler_may_not_wait_for_the_peer() -> None:
    raised: list[Exception] = []

    async def ask_back(_: Note) -> None:
        try:
            await there.call(ASK, Note())
        except LocalProtocolError as error:
            raised.append(error)

    async with both(Handlers().on(ASK, echo), Handlers().on(TELL, ask_back).on(ASK, echo)) as (here, there):
        await here.notify(TELL, Note())
        await here.call(ASK, Note())
    assert len(raised) == 1


async def test_pending_calls_end_with_the_reason_when_the_peer_goes_away() -> None:
    async with one(Handlers()) as (connection, theirs):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with pytest.raises(ConnectionClosed, match="the peer closed"):
                    await connection.call(ASK, Note())

            group.start_soon(ask)
            await theirs.receive()
            await theirs.aclose()
        with pytest.raises(ConnectionClosed):
            await connection.notify(TELL, Note())


async def test_a_call_still_hears_its_error_bare_from_within_the_block() -> None:
    ours, theirs = memory_pair()

    async def ask() -> None:
        async with Connection(ours, Handlers()) as connection:
            await theirs.aclose()
            await connection.call(ASK, Note())

    with pytest.raises(ConnectionClosed):
        await ask()


async def test_what_was_said_before_closing_is_sent() -> None:
    numbers: list[int] = []

    async def read(theirs: MemoryTransport) -> None:
        while len(numbers) < 60:
            numbers.append((await heard(theirs))["params"]["number"])

    ours, theirs = memory_pair(1)
    async with anyio.create_task_group() as group:
        async with Connection(ours, Handlers()) as connection:
            for number in range(60):
                await connection.notify(TELL, Note(number=number))
            group.start_soon(read, theirs)
    await theirs.aclose()
    assert numbers == list(range(60))


async def test_a_message_over_the_limit_is_answered_and_the_connection_lives() -> None:
    ours, theirs = memory_pair()

    class Narrow:
        """A transport whose first text was too long."""

        def __init__(self) -> None:
            self.first = True
            self.send, self.send_now, self.aclose, self.epitaph = ours.send, ours.send_now, ours.aclose, ours.epitaph

        async def receive(self) -> bytes | Oversize:
            if self.first:
                self.first = False
                return Oversize(99, 10)
            return await ours.receive()

    async with Connection(Narrow(), Handlers().on(ASK, echo)):
        refusal = await heard(theirs)
        assert refusal["error"]["code"] == ErrorCode.INVALID_REQUEST
        assert "99 bytes" in refusal["error"]["message"]
        await raw(theirs, id=1, method="test/ask", params={"number": 2})
        assert (await heard(theirs))["result"] == {"number": 2}
        await theirs.aclose()


async def test_more_requests_than_the_bound_are_refused_and_the_rest_go_on() -> None:
    gate = anyio.Event()

    async def wait(note: Note) -> Note:
        await gate.wait()
        return note

    async with both(Handlers(), Handlers().on(ASK, wait)) as (here, _):
        outcomes: list[bool] = []

        async def one() -> None:
            try:
                await here.call(ASK, Note())
                outcomes.append(True)
            except RequestError:
                outcomes.append(False)
                gate.set()

        async with anyio.create_task_group() as group:
            for _ in range(RUNNING_REQUESTS + 3):
                group.start_soon(one)
        assert outcomes.count(False) == 3


async def test_the_repr_tells_the_state() -> None:
    async with one(Handlers()) as (here, _):
        assert repr(here) == "<Connection here [open, 0 asked, 0 running, 0 unsent]>"
    assert repr(here) == "<Connection here [closed: closed by us, 0 asked, 0 running, 0 unsent]>"
