"""What a connection does when handlers, results and peers are not as they should be."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from acp import connection as module
from acp.connection import Connection, Handlers
from acp.errors import ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from acp.methods import Method
from acp.transports.memory import MemoryTransport, memory_pair
from acp.wire import Wire

pytestmark = pytest.mark.anyio


class Note(Wire):
    number: float = 0


ASK: Method[Note, Note] = Method("test/ask", "both", Note, Note)
TELL: Method[Note, None] = Method("test/tell", "both", Note)


class Wires:
    """The other end of a connection's transport, to play the peer with."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport

    async def say(self, **message: Any) -> None:
        await self.transport.send(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def ask(self, id: Any, number: float = 0) -> None:
        await self.say(id=id, method="test/ask", params={"number": number})

    async def hear(self) -> dict[str, Any]:
        text = await self.transport.receive()
        assert isinstance(text, bytes)
        return json.loads(text)


@asynccontextmanager
async def connected(handlers: Handlers, **options: Any) -> AsyncGenerator[tuple[Connection, Wires]]:
    ours, theirs = memory_pair(1)
    with anyio.fail_after(60):
        try:
            async with Connection(ours, handlers, name="here", **options) as connection:
                yield connection, Wires(theirs)
        finally:
            await theirs.aclose()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "acp")


@pytest.mark.parametrize(
    "result",
    [Note.model_construct(number=float("nan")), "text", {"number": 1}, object()],
    ids=["NaN", "str", "dict", "?"],
)
async def test_a_result_that_cannot_be_sent_is_an_internal_error_and_the_next_request_is_answered(result: Any) -> None:
    async def answer(note: Note) -> Any:
        return result if note.number else note

    async with connected(Handlers().on(ASK, answer)) as (_, peer):
        await peer.ask(1, number=1)
        assert (await peer.hear())["error"]["code"] == ErrorCode.INTERNAL_ERROR
        await peer.ask(1)
        assert (await peer.hear())["result"] == {"number": 0}


async def test_an_error_whose_data_is_no_json_is_an_internal_error() -> None:
    async def refuse(note: Note) -> Note:
        raise RequestError(1, "m", {"path": object()})

    async with connected(Handlers().on(ASK, refuse)) as (_, peer):
        await peer.ask(1)
        assert (await peer.hear())["error"]["code"] == ErrorCode.INTERNAL_ERROR


async def test_a_refusal_from_within_a_handlers_task_group_goes_out_bare() -> None:
    async def refuse() -> None:
        raise RequestError(-32002, "gone")

    async def answer(note: Note) -> Note:
        async with anyio.create_task_group() as group:
            group.start_soon(refuse)
        return note

    async with connected(Handlers().on(ASK, answer)) as (_, peer):
        await peer.ask(1)
        assert (await peer.hear())["error"] == {"code": -32002, "message": "gone"}


async def test_a_request_that_was_cancelled_answers_so_though_its_cleanup_fails() -> None:
    async def answer(note: Note) -> Note:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("cleanup failed")

    async with connected(Handlers().on(ASK, answer)) as (_, peer):
        await peer.ask("a")
        await anyio.wait_all_tasks_blocked()
        await peer.say(method="$/cancel_request", params={"requestId": "a"})
        answer_ = await peer.hear()
        assert (answer_["id"], answer_["error"]["code"]) == ("a", ErrorCode.REQUEST_CANCELLED)


async def test_cancelling_a_request_before_it_began_answers_it() -> None:
    async def answer(note: Note) -> Note:
        await anyio.lowlevel.checkpoint()
        return note

    async with connected(Handlers().on(ASK, answer), batch=True) as (_, peer):
        ask = {"jsonrpc": "2.0", "id": 1, "method": "test/ask", "params": {}}
        cancel = {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": 1}}
        await peer.transport.send(json.dumps([ask, cancel]).encode())
        assert (await peer.hear())["error"]["code"] == ErrorCode.REQUEST_CANCELLED


async def test_a_cancelled_call_keeps_its_id_until_it_is_answered() -> None:
    async with connected(Handlers()) as (connection, peer):
        async with anyio.create_task_group() as group:
            group.start_soon(connection.call, ASK, Note())
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        id = (await peer.hear())["id"]
        assert await peer.hear() == {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": id}}
        assert "1 asked" in repr(connection)
        await peer.say(id=id, error={"code": -32800, "message": "cancelled"})
        await anyio.wait_all_tasks_blocked()
        assert "0 asked" in repr(connection)


async def test_cancelling_a_request_cancels_what_its_handler_asked_us() -> None:
    async def answer(note: Note) -> Note:
        return await connection.call(ASK, note)

    async with connected(Handlers().on(ASK, answer)) as (connection, peer):
        await peer.ask("outer")
        inner = (await peer.hear())["id"]
        await peer.say(method="$/cancel_request", params={"requestId": "outer"})
        said = [await peer.hear(), await peer.hear()]
        assert {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": inner}} in said
        assert [message["error"]["code"] for message in said if "error" in message] == [-32800]


async def test_what_comes_after_the_reply_comes_after_the_reply() -> None:
    async def answer(note: Note) -> Note:
        async def follow() -> None:
            await connection.notify(TELL, Note(number=7))

        connection.after_reply(follow)
        if note.number:
            raise RequestError(1, "no")
        return note

    async with connected(Handlers().on(ASK, answer)) as (connection, peer):
        await peer.ask(1)
        assert (await peer.hear())["id"] == 1
        assert (await peer.hear())["method"] == "test/tell"
        await peer.ask(2, number=1)
        assert "error" in await peer.hear()
        await peer.ask(3)
        assert (await peer.hear())["id"] == 3  # nothing followed the error
        with pytest.raises(LocalProtocolError):
            connection.after_reply(anyio.lowlevel.checkpoint)


async def test_closing_from_another_task_fails_calls_and_does_not_cancel_the_block() -> None:
    async with connected(Handlers()) as (connection, peer):
        async with anyio.create_task_group() as group:

            async def close() -> None:
                await peer.hear()
                await connection.aclose("enough")

            group.start_soon(close)
            with pytest.raises(ConnectionClosed, match="enough"):
                await connection.call(ASK, Note())
        await anyio.lowlevel.checkpoint()
        assert repr(connection).startswith("<Connection here [closed: enough")


async def test_the_blocks_own_exception_comes_out_as_it_is() -> None:
    async def fail() -> None:
        async with connected(Handlers()):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_a_task_that_a_notification_handler_started_may_call() -> None:
    answers: list[float] = []

    async def later() -> None:
        answers.append((await connection.call(ASK, Note(number=1))).number)

    async def told(_: Note) -> None:
        group.start_soon(later)

    async with connected(Handlers().on(TELL, told)) as (connection, peer):
        async with anyio.create_task_group() as group:
            await peer.say(method="test/tell", params={})
            asked = await peer.hear()
            await peer.say(id=asked["id"], result={"number": 2})
            await anyio.wait_all_tasks_blocked()
    assert answers == [2]


async def test_a_notification_handler_may_call_another_connection() -> None:
    answers: list[float] = []

    async def answer(note: Note) -> Note:
        return Note(number=note.number + 1)

    async def told(note: Note) -> None:
        answers.append((await other.call(ASK, note)).number)

    ours, theirs = memory_pair()
    async with Connection(theirs, Handlers().on(ASK, answer)), Connection(ours) as other:
        async with connected(Handlers().on(TELL, told)) as (_, peer):
            await peer.say(method="test/tell", params={"number": 4})
            await anyio.wait_all_tasks_blocked()
    assert answers == [5]


async def test_what_was_asked_before_the_end_is_answered_and_what_hangs_is_cancelled() -> None:
    cancelled = anyio.Event()

    async def answer(note: Note) -> Note:
        if note.number:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()
        return note

    ours, theirs = memory_pair()
    back, forth = memory_pair()

    class HalfClosed:
        """A transport whose peer has ended its half and still reads the other."""

        send, send_now, receive, epitaph = back.send, back.send_now, ours.receive, ours.epitaph

        async def aclose(self) -> None:
            await ours.aclose()
            await back.aclose()

    peer = Wires(theirs)
    with anyio.fail_after(60):
        async with Connection(HalfClosed(), Handlers().on(ASK, answer)) as connection:
            await peer.ask(1)
            await peer.ask(2, number=1)
            await theirs.aclose()
            assert (await Wires(forth).hear())["id"] == 1
            await connection.wait_closed()
            await cancelled.wait()
            assert connection.reason == "the peer closed the connection"
    await forth.aclose()


async def test_a_peer_that_makes_us_answer_and_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TEXTS", 200)
    async with connected(Handlers()) as (connection, peer):

        async def flood() -> None:
            while True:
                await peer.ask(1)

        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            await connection.wait_closed()
            group.cancel_scope.cancel()
        assert connection.reason == "the peer does not read what we answer"


async def test_a_method_may_be_opened_later() -> None:
    async def answer(note: Note) -> Note:
        return note

    async with connected(Handlers(), calls=()) as (connection, peer):
        await peer.ask(1)
        assert (await peer.hear())["error"]["code"] == ErrorCode.METHOD_NOT_FOUND
        with pytest.raises(LocalProtocolError, match="test/tell is not open"):
            await connection.notify(TELL, Note())
        connection.open(Handlers().on(ASK, answer), [TELL])
        await peer.ask(2)
        assert (await peer.hear())["result"] == {"number": 0}
        await connection.notify(TELL, Note())
        assert (await peer.hear())["method"] == "test/tell"


async def test_a_transport_that_fails_ends_the_conversation_and_not_the_program() -> None:
    ours, theirs = memory_pair()

    class Broken:
        send, send_now, aclose, epitaph = ours.send, ours.send_now, ours.aclose, ours.epitaph

        async def receive(self) -> bytes:
            await anyio.lowlevel.checkpoint()
            raise RuntimeError("a bug")

    async with Connection(Broken(), Handlers()) as connection:
        with pytest.raises(ConnectionClosed, match="internal error"):
            await connection.call(ASK, Note())
    await theirs.aclose()
