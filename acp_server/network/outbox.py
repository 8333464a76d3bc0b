"""What is to be said on one stream of events: numbered, in order, to one reader who may go away and come back.

A reader that comes back and says what it had last gets what followed, also what was on its way when its connection
broke, as far as that is kept. One that does not say gets what was not handed out yet.
"""

from __future__ import annotations

from collections import deque

import anyio

from acp.errors import AcpError
from acp.tasks import Bell

PATIENT_TEXTS, PATIENT_BYTES = 64, 256 * 2**10
"""What may wait for the reader before whoever can wait does."""
MOST_TEXTS, MOST_BYTES = 10_000, 64 * 2**20
"""What may wait for the reader at all."""
KEPT_TEXTS, KEPT_BYTES, KEPT_SECONDS = 4096, 512 * 2**10, 60.0
"""What is kept of what was handed out, for a reader that may come back for it: more than can be on its way."""


class Taken(AcpError):
    """The stream has a reader."""


class Forgotten(AcpError):
    """What the reader has missed is not kept any more."""


class Outbox:
    """Texts for one reader. `put` never waits; whoever says much waits for `room` first."""

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self.progress = anyio.current_time()
        """When the reader last took something, or had little to take."""
        self._waiting, self._waiting_bytes = deque[bytes](), 0
        self._kept, self._kept_bytes = deque[tuple[float, bytes]](), 0
        self._next = 1
        self._keeps = self._finished = False
        self._changed = Bell()

    def __repr__(self) -> str:
        reader = "read" if self.reader else "not read"
        return f"<Outbox [{reader}, {len(self._waiting)} waiting, {len(self._kept)} kept]>"

    def put(self, text: bytes) -> None:
        if not self.is_crowded:
            self.progress = anyio.current_time()
        self._waiting.append(text)
        self._waiting_bytes += len(text)
        self._changed.ring()

    @property
    def is_crowded(self) -> bool:
        return len(self._waiting) > PATIENT_TEXTS or self._waiting_bytes > PATIENT_BYTES

    @property
    def is_overflowing(self) -> bool:
        return len(self._waiting) > MOST_TEXTS or self._waiting_bytes > MOST_BYTES

    async def room(self) -> None:
        """Wait until little waits for the reader, or nothing more will."""
        while self.is_crowded and not self._finished:
            await self._changed.wait()

    def finish(self) -> None:
        """Nothing more will be said."""
        self._finished = True
        self._changed.ring()

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    # The reader ------------------------------------------------------------------------------------

    def attach(self, after: int | None) -> Reader:
        """Become the reader. `after` is the number of what it had last, 0 for nothing; None if it does not say.

        Who says so takes the place of the reader there is: that is the same one, on a connection it has lost. Raises
        Taken, Forgotten.
        """
        if after is None and self.reader is not None:
            raise Taken("the stream has a reader already")
        if after is not None:
            self._rewind(after)
            self._keeps = True
        if self.reader is not None:
            self.reader.leave()
        self.reader = Reader(self)
        self._changed.ring()
        return self.reader

    def begin_anew(self) -> None:
        """Nobody comes back for what was handed out."""
        self._kept.clear()
        self._kept_bytes, self._next = 0, 1

    def _rewind(self, after: int) -> None:
        if not self._next - 1 - len(self._kept) <= after < self._next:
            raise Forgotten("what came after that is not kept any more")
        for _ in range(self._next - 1 - after):
            _, text = self._kept.pop()
            self._waiting.appendleft(text)
            self._kept_bytes -= len(text)
            self._waiting_bytes += len(text)
        self._next = after + 1

    async def take(self, reader: Reader, most: int) -> list[tuple[int, bytes]]:
        """The next texts and their numbers, together about `most` bytes; waits for one. Raises EndOfStream."""
        while self.reader is reader and not self._waiting:
            if self._finished:
                raise anyio.EndOfStream
            await self._changed.wait()
        if self.reader is not reader:
            raise anyio.EndOfStream
        taken: list[tuple[int, bytes]] = []
        self.progress = anyio.current_time()
        while self._waiting and (not taken or most >= len(self._waiting[0])):
            text = self._waiting.popleft()
            taken.append((self._next, text))
            self._next += 1
            self._waiting_bytes -= len(text)
            most -= len(text)
            if self._keeps:
                self._keep(text)
        self._changed.ring()
        return taken

    def _keep(self, text: bytes) -> None:
        self._kept.append((self.progress, text))
        self._kept_bytes += len(text)
        while len(self._kept) > KEPT_TEXTS or self._kept_bytes > max(KEPT_BYTES, len(text)):
            self._kept_bytes -= len(self._kept.popleft()[1])

    def forget(self, now: float) -> None:
        """Let go of what nobody comes back for any more."""
        while self._kept and now - self._kept[0][0] > KEPT_SECONDS:
            self._kept_bytes -= len(self._kept.popleft()[1])

    def leave(self, reader: Reader) -> None:
        if self.reader is reader:
            self.reader = None
            self._changed.ring()


class Reader:
    """Who reads an outbox now."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def take(self, most: int) -> list[tuple[int, bytes]]:
        """`Outbox.take`; the stream also ends when another reader has come."""
        return await self._outbox.take(self, most)

    def leave(self) -> None:
        self._outbox.leave(self)
