"""A small peer on stdin and stdout, for tests: it answers, prints where it must not, and ends as it is told."""

from __future__ import annotations

import os
import subprocess
import sys

import anyio

from acp.connection import Connection, Handlers
from acp.errors import RequestError
from acp.methods import Method
from acp.transports.stdio import stdio_transport
from acp.wire import Wire


class Text(Wire):
    text: str = ""


ECHO: Method[Text, Text] = Method("test/echo", "both", Text, Text)
NOISE: Method[Text, Text] = Method("test/noise", "both", Text, Text)
HANG: Method[Text, Text] = Method("test/hang", "both", Text, Text)
TELL: Method[Text, None] = Method("test/tell", "both", Text)


async def echo(request: Text) -> Text:
    return request


async def noise(request: Text) -> Text:
    """Print from Python, from C and from a child process, and try to eat the wire's input."""
    print("a stray print", flush=True)
    os.write(1, b"a stray write\n")
    await anyio.run_process([sys.executable, "-c", "print('a stray child')"], stdout=None, stderr=None)
    eaten = await anyio.run_process(["cat"], stdin=None, stdout=subprocess.PIPE, stderr=None)
    return Text(text=f"{request.text}{eaten.stdout!r}{sys.stdin.read()!r}")


async def hang(request: Text) -> Text:
    await anyio.sleep_forever()
    raise RequestError.cancelled()


async def serve(limit: int) -> None:
    handlers = Handlers().on(ECHO, echo).on(NOISE, noise).on(HANG, hang)
    async with stdio_transport(limit=limit) as transport:
        async with Connection(transport, handlers, name="small") as connection:
            await connection.wait_closed()
    print(connection.reason, file=sys.stderr)
    print("stdout is back")


if __name__ == "__main__":
    anyio.run(serve, int(sys.argv[2]) if len(sys.argv) > 2 else 2**20, backend=sys.argv[1])
