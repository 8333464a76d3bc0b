"""The process that a client under test starts as its agent: it carries bytes between the client and the checker.

It knows nothing of the protocol and imports nothing but the standard library, so that it starts at once: the checker,
at the other end of a Unix socket whose path is the argument, says every byte and judges every byte.

A frame is an operation (one byte), a length (four bytes, big-endian) and data. From the checker: `O` write to stdout;
`S` the same, acknowledged once the client has read it; `E` write to stderr, acknowledged; `C` close stdout; `X` end
with the status in the data. To the checker: `P` our process id; `I` what came on stdin; `F` stdin ended; `A` done.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress

HEADER = struct.Struct(">cI")
CHUNK = 2**16
READ_WITHIN = 1.0
"""Seconds that a client gets to read what it is to read before more comes."""
UNSENT = 0x5411  # SIOCOUTQ: what the other end of a socket has not read


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is meant for the client
    with socket.socket(socket.AF_UNIX) as checker:
        checker.connect(sys.argv[1])
        lock = threading.Lock()

        def tell(operation: bytes, data: bytes = b"") -> None:
            with lock:
                checker.sendall(HEADER.pack(operation, len(data)) + data)

        tell(b"P", str(os.getpid()).encode())
        threading.Thread(target=_listen, args=[tell], daemon=True).start()
        with suppress(OSError):  # the client or the checker has gone
            _serve(checker, tell)
    os._exit(1)  # the thread may still wait for stdin


def _listen(tell: Callable[..., None]) -> None:
    try:
        while data := os.read(0, CHUNK):
            tell(b"I", data)
        tell(b"F")
    except OSError:
        os._exit(1)


def _serve(checker: socket.socket, tell: Callable[..., None]) -> None:
    with checker.makefile("rb") as frames:
        while header := frames.read(HEADER.size):
            operation, size = HEADER.unpack(header)
            data = frames.read(size)
            if operation == b"X":
                os._exit(data[0])
            elif operation == b"C":
                os.close(1)
            else:
                _write(2 if operation == b"E" else 1, data)
                if operation == b"S":
                    _wait_until_read()
                if operation != b"O":
                    tell(b"A")


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:  # a client that hands its own stderr on may have made that non-blocking, as node does
            select.select([], [fd], [])


def _wait_until_read() -> None:
    """Wait until nothing lies in the pipe or socket to the client, as far as the system tells."""
    until = time.monotonic() + READ_WITHIN
    while time.monotonic() < until and _unread():
        time.sleep(0.001)


def _unread() -> int:
    amount = array.array("i", [0])
    for question in (termios.FIONREAD, UNSENT):
        try:
            fcntl.ioctl(1, question, amount)
        except OSError:
            continue
        if amount[0]:
            return amount[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
