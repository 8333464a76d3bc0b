"""Two transports joined: what one side says the other hears, untouched, until either ends.

Each direction holds one text at a time, so a side that does not read makes the other wait. A text that is too long for
the transport it came by goes nowhere, and whoever sent it is told so, as a `Peer` would. Between the lines of a pipe a
text must have no line ends; in JSON those are blanks, and become spaces.
"""

from __future__ import annotations

import anyio

from ..json_text import dumps
from ..tasks import Bell
from . import Oversize, Transport

LAST_ANSWERS = 0.5
"""Seconds of silence after which nothing is on its way any more to a side that has ended."""
FIRST_ANSWER = 5.0
"""The same where the one who answers has said nothing yet: it may be starting, as in `echo MESSAGE | acp bridge`."""
_BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


async def relay(here: Transport, there: Transport) -> Transport:
    """Pass texts both ways until one side ends; which one. What it still had to say has been passed on by then.

    `there` is the side that answers: where it has not yet, it gets the time to.
    """
    asking, answering = _Way(here, there), _Way(there, here)
    ended: list[Transport] = []
    async with anyio.create_task_group() as group:

        async def run(way: _Way, back: _Way) -> None:
            ended.append(await way.run())
            if len(ended) == 1:
                await back.wait_quiet(FIRST_ANSWER if back is answering and not back.texts else LAST_ANSWERS)
            group.cancel_scope.cancel()

        group.start_soon(run, asking, answering)
        group.start_soon(run, answering, asking)
    return ended[0]


class _Way:
    """One direction."""

    def __init__(self, one: Transport, other: Transport) -> None:
        self.texts = 0
        self._one, self._other = one, other
        self._passed = Bell()

    async def run(self) -> Transport:
        """Pass texts; which side ended."""
        while True:
            try:
                text = await self._one.receive()
            except _BROKEN:
                return self._one
            try:
                if isinstance(text, Oversize):
                    error = {"code": -32600, "message": str(text)}
                    await self._one.send(dumps({"jsonrpc": "2.0", "id": None, "error": error}))
                else:
                    await self._other.send(on_one_line(text))
            except _BROKEN:
                return self._other
            self.texts += 1
            self._passed.ring()

    async def wait_quiet(self, patience: float) -> None:
        """Wait until nothing has passed for a while, the first time for as long as `patience`."""
        quiet = False
        while not quiet:
            with anyio.move_on_after(patience) as scope:
                await self._passed.wait()
            quiet, patience = scope.cancelled_caught, LAST_ANSWERS


def on_one_line(text: bytes) -> bytes:
    """A JSON text without line ends, which can only stand between its words."""
    return text.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in text or b"\r" in text else text
