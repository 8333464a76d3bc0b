"""A process whose stdin and stdout are the wire: hostile lines, stray prints, every kind of descriptor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from acp.transports.descriptors import DescriptorTransport
from acp.transports.lines import Oversize

PEER = [sys.executable, str(Path(__file__).with_name("stdio_peer.py"))]


@pytest.fixture
def command(anyio_backend: str) -> list[str]:
    return [*PEER, anyio_backend]


def talk(command: list[str], data: bytes, **options: Any) -> tuple[list[bytes], str]:
    """What a peer says to a whole input and its end: the lines of stdout, and stderr."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=True, **options)
    return done.stdout.splitlines(), done.stderr.decode()


def request(id: Any, method: str = "test/echo", **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


def shape(line: bytes) -> Any:
    """Who is answered, and how."""
    message = json.loads(line)
    assert message["jsonrpc"] == "2.0"
    return message["id"], message["error"]["code"] if "error" in message else message["result"]


GOLDEN: list[tuple[bytes, Any]] = [
    (b"nonsense\n", (None, -32700)),
    (b'{"jsonrpc":"2.0","id":1,"method":"test/echo"\n', (None, -32700)),
    (b'{"jsonrpc":"2.0","id":1,"method":"test/echo","params":{"text":"\xff"}}\n', (None, -32700)),
    (b'{"jsonrpc":"2.0","id":1,"method":"test/echo","params":{"text":"\\ud800"}}\n', (None, -32700)),
    (b'{"jsonrpc":"2.0","id":1,"method":"test/echo","params":{"text":NaN}}\n', (None, -32700)),
    (b'{"jsonrpc":"2.0","id":1,"method":"test/echo","params":{"text":Infinity}}\n', (None, -32700)),
    (b"[" * 100_000 + b"\n", (None, -32700)),
    (b'{"a":' * 100_000 + b"\n", (None, -32700)),
    (b"[]\n", (None, -32600)),
    (b'[{"jsonrpc":"2.0","id":1,"method":"test/echo"}]\n', (None, -32600)),
    (b"7\n", (None, -32600)),
    (b"null\n", (None, -32600)),
    (b"{}\n", (None, -32600)),
    (b'{"jsonrpc":"2.0","id":[1],"method":"test/echo"}\n', (None, -32600)),
    (b"x" * 2_000_000 + b"\n", (None, -32600)),
    (b'{"jsonrpc":"2.0","id":"u","method":"_x/unknown"}\n', ("u", -32601)),
    (b'{"jsonrpc":"2.0","id":2,"method":"test/echo","params":{"text":7}}\n', (2, -32602)),
    (b'{"jsonrpc":"2.0","id":2,"method":"test/echo","params":["x"]}\n', (2, -32602)),
    (b'{"jsonrpc":"2.0","method":"_x/unknown"}\n', None),
    (b'{"jsonrpc":"2.0","method":"$/unknown","params":[]}\n', None),
    (b'{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":99}}\n', None),
    (b'{"jsonrpc":"2.0","method":"$/cancel_request"}\n', None),
    (b'{"jsonrpc":"2.0","id":77,"result":{}}\n', None),
    (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}\n', None),
    (b"\n \r\n", None),
]


def test_after_every_hostile_line_the_next_request_is_answered(command: list[str]) -> None:
    """One process gets them all; between them it must answer, ids kept with their type."""
    sent, expected = b"", list[Any]()
    for number, (line, answer) in enumerate(GOLDEN):
        id = number if number % 2 else str(number)
        sent += line + request(id, text=f"still here {number}")
        expected += [] if answer is None else [answer]
        expected.append((id, {"text": f"still here {number}"}))
    lines, _ = talk(command, sent)
    assert lines.pop() == b"stdout is back"
    shapes = [shape(line) for line in lines]
    # Requests run beside the reader, so refusals may overtake results.
    assert [found for found in shapes if found[0] is None] == [found for found in expected if found[0] is None]
    assert sorted(map(repr, shapes)) == sorted(map(repr, expected))


def test_nothing_but_the_wire_reaches_stdout(command: list[str]) -> None:
    async def conversation() -> list[bytes]:
        async with await anyio.open_process(command) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdin.send(request(1, "test/noise", text="done") + request(2, text="beside"))
            answers = b""
            while answers.count(b"\n") < 2:
                answers += await process.stdout.receive()
            await process.stdin.aclose()
            errors = b"".join([chunk async for chunk in process.stderr])
            for stray in (b"a stray print", b"a stray write", b"a stray child"):
                assert stray in errors
            assert b"".join([chunk async for chunk in process.stdout]) == b"stdout is back\n"
            return answers.splitlines()

    answers = anyio.run(conversation)
    assert sorted(map(shape, answers)) == [(1, {"text": "doneb''''"}), (2, {"text": "beside"})]


def test_the_end_of_stdin_ends_the_process_though_a_request_runs(command: list[str]) -> None:
    lines, errors = talk(command, request(1, "test/hang"))
    assert lines == [b"stdout is back"]
    assert errors == "the peer closed the connection\n"


def test_a_last_line_without_its_newline_is_read(command: list[str]) -> None:
    lines, _ = talk(command, request(1, "nothing")[:-1])
    assert shape(lines[0]) == (1, -32601)


def test_a_message_larger_than_any_pipe_goes_both_ways(command: list[str]) -> None:
    text = "é" * 3_000_000

    async def conversation() -> bytes:
        async with await anyio.open_process([*command, str(2**25)], stderr=None) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(request(1, text=text))
            answer = bytearray()
            while not answer.endswith(b"\n"):
                answer += await process.stdout.receive()
            await process.stdin.aclose()
            await process.wait()
            return bytes(answer)

    assert shape(anyio.run(conversation)) == (1, {"text": text})


def test_it_works_on_files_and_on_sockets(command: list[str], tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"7\n")
    with source.open("rb") as stdin, target.open("wb") as stdout:
        subprocess.run(command, stdin=stdin, stdout=stdout, timeout=60, check=True, stderr=subprocess.DEVNULL)
    first, last = target.read_bytes().splitlines()
    assert (shape(first), last) == ((None, -32600), b"stdout is back")

    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL) as process,
    ):
        theirs.close()
        ours.settimeout(30)
        ours.sendall(request(1, text="x" * 500_000))
        answer = b""
        while not answer.endswith(b"\n"):
            answer += ours.recv(65536)
        assert shape(answer) == (1, {"text": "x" * 500_000})
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(30) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_from_the_start_is_no_failure(command: list[str], closed: str) -> None:
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *command]
    done = subprocess.run(shell, input=b"7\n", capture_output=True, timeout=60, check=True)
    answered = b"-32600" in done.stdout
    assert answered == (closed == "2>&-")


@pytest.mark.anyio
async def test_a_full_pipe_makes_the_sender_wait_and_not_the_event_loop() -> None:
    read, write = os.pipe()
    silent, _silent = os.pipe()
    transport = DescriptorTransport(silent, write)
    text, found = b"x" * 300_000, b""
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(transport.send, text)
            await anyio.wait_all_tasks_blocked()  # the pipe is full now, and we still run
            while len(found) < len(text) + 1:
                await anyio.wait_readable(read)
                found += os.read(read, 4096)
    assert found == text + b"\n"
    await transport.aclose()
    os.close(read)
    os.close(_silent)


@pytest.mark.anyio
async def test_a_reader_that_goes_away_is_an_error_to_the_sender() -> None:
    read, write = os.pipe()
    silent, _silent = os.pipe()
    transport = DescriptorTransport(silent, write)
    os.close(read)
    with pytest.raises(BrokenPipeError):
        await transport.send(b"{}")
    await transport.aclose()
    os.close(_silent)


@pytest.mark.anyio
async def test_closing_wakes_whoever_reads() -> None:
    here, there = socket.socketpair()
    with there:
        transport = DescriptorTransport(fd := here.detach(), fd)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:

                async def read() -> None:
                    with pytest.raises((anyio.ClosedResourceError, anyio.EndOfStream)):
                        await transport.receive()

                group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await transport.aclose()


@pytest.mark.anyio
async def test_a_line_over_the_limit_is_skipped_on_the_way() -> None:
    here, there = socket.socketpair()
    with there:
        transport = DescriptorTransport(fd := here.detach(), fd, limit=1000)
        there.sendall(b"x" * 5000 + b"\n{}\n")
        assert await transport.receive() == Oversize(5000, 1000)
        assert await transport.receive() == b"{}"
        await transport.aclose()
