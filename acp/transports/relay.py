"""Two transports joined: what one side says the other hears, untouched, until either ends.

Each direction holds one text at a time, so a side that does not read makes the other wait. A text that is too long for
the transport it came by goes nowhere, and whoever sent it is told so, as a `Peer` would. Between the lines of a pipe a
text must have no line ends; in JSON those are blanks, and become spaces.
"""

from __future__ import annotations

import anyio

from ..json_text import dumps
from . import Oversize, Transport

LAST_ANSWERS = 0.5
"""Seconds that are left for what is on its way when one side has ended."""
_BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


async def relay(here: Transport, there: Transport) -> Transport:
    """Pass texts both ways until one side ends; which one. What it still had to say has been passed on by then."""
    ended: list[Transport] = []
    async with anyio.create_task_group() as group:

        async def run(one: Transport, other: Transport) -> None:
            ended.append(await _pass(one, other))
            if len(ended) == 1:
                await anyio.sleep(LAST_ANSWERS)
            group.cancel_scope.cancel()

        group.start_soon(run, here, there)
        group.start_soon(run, there, here)
    return ended[0]


async def _pass(one: Transport, other: Transport) -> Transport:
    """Pass texts one way; which side ended."""
    while True:
        try:
            text = await one.receive()
        except _BROKEN:
            return one
        try:
            if isinstance(text, Oversize):
                error = {"code": -32600, "message": str(text)}
                await one.send(dumps({"jsonrpc": "2.0", "id": None, "error": error}))
            else:
                await other.send(on_one_line(text))
        except _BROKEN:
            return other


def on_one_line(text: bytes) -> bytes:
    """A JSON text without line ends, which can only stand between its words."""
    return text.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in text or b"\r" in text else text
