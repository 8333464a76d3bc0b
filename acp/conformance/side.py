"""One side of a conversation, as the checker plays it: raw JSON, deadlines, and a record of every text."""

from __future__ import annotations

import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Generic, NoReturn, TypeVar

import anyio

from ..transports import Oversize
from .patterns import Variables
from .walking import Json, Object, key
from .watching import Watch

W = TypeVar("W", bound=Watch)
Message = Object
ALIVE = "_check/alive"
LONGEST_SHOWN = 10_000
"""Bytes of a text that a transcript holds whole."""
LOUDEST = 100_000
"""Messages that are heard in one conversation."""


class CheckFailed(Exception):
    """The side under test did not do what the check asks for."""


class Gone(CheckFailed):
    """The side under test has ended, or closed the connection."""


class Skipped(Exception):
    """The side under test does not do what the check is about, and does not have to."""


class Side(ABC, Generic[W]):
    """Texts to and from the side under test. Whatever is waited for comes within `patience` seconds or the check fails.

    Its requests that nobody waits for are answered on the way: by a hook that was set with `on`, or as `serve` has it.
    """

    us = "client"
    them = "agent"

    def __init__(self, version: int, patience: float, watch: W) -> None:
        self.version, self.patience, self.watch = version, patience, watch
        self.startup = patience
        """Seconds that the first message may take."""
        self.transcript: list[tuple[str, str]] = []
        self.heard: list[Message] = []
        """What the other side said, in order."""
        self.variables: Variables = {"elsewhere": os.path.realpath(tempfile.gettempdir()), "version": version}
        self.gone = False
        self._last = 0
        self._passed: dict[tuple[str, Json], Message] = {}
        self._hooks: dict[str, Callable[[Message], Awaitable[None]]] = {}

    @abstractmethod
    async def put(self, text: bytes) -> None:
        """Give a text to the carrier. Raises anyio.BrokenResourceError, anyio.ClosedResourceError."""

    @abstractmethod
    async def take(self) -> bytes | Oversize:
        """The next text from the carrier. Raises anyio.EndOfStream."""

    @abstractmethod
    def epitaph(self) -> str:
        """What is known of how the side under test ended."""

    @abstractmethod
    async def answer_default(self, message: Message) -> None:
        """Answer a request that nobody waits for and no hook takes."""

    # Saying --------------------------------------------------------------------------------------------------

    async def text(self, text: bytes) -> None:
        """Send a text as it is; it is taken to be no message."""
        self.watch.excused += 1
        await self._write(text)

    async def send(self, message: Message) -> None:
        """Send a message."""
        await self._write(self.encoded(message))

    def encoded(self, message: Message) -> bytes:
        """The text of a message that is about to be sent in another way than `send` does."""
        message = {"jsonrpc": "2.0", **message}
        self.watch.sent(message)
        return json.dumps(message, ensure_ascii=False).encode()

    async def _write(self, text: bytes) -> None:
        self.note(text, self.us)
        with self.living():
            await self.put(text)

    def note(self, text: bytes, who: str) -> None:
        """Put a text into the transcript, cut if it is very long."""
        shown = text if len(text) < LONGEST_SHOWN else text[:1000] + f" … {len(text)} bytes".encode()
        self.transcript.append((who, shown.decode(errors="replace")))

    @contextmanager
    def living(self) -> Generator[None]:
        """What fails inside because the other side has gone fails the check."""
        try:
            yield
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self.gone = True
            raise Gone(f"the {self.them} has gone; {self.epitaph()}") from None

    async def ask(self, method: str, params: Json) -> int:
        """Send a request under an id of its own; the id."""
        self._last += 1
        await self.send({"id": self._last, "method": method, "params": params})
        return self._last

    async def call(self, method: str, params: Json) -> Json:
        """The result of a request; an error fails the check."""
        answer = await self.answer(await self.ask(method, params))
        if "error" in answer:
            self.fail(f"{method} was answered with {answer['error']}")
        return answer["result"]

    async def refused(self, method: str, params: Json, *codes: int) -> Object:
        """The error of a request; a result fails the check, and so does another code than these if there are any."""
        answer = await self.answer(await self.ask(method, params))
        if "error" not in answer:
            self.fail(f"{method} was answered with {answer.get('result')!r}, not with an error")
        error = answer["error"]
        if codes and error.get("code") not in codes:
            self.fail(f"{method} was answered with {error}, not with {' or '.join(map(str, codes))}")
        return error

    async def answer_with(self, request: Message, result: Json) -> None:
        await self.send({"id": request["id"], "result": result})

    async def refuse(self, request: Message, code: int, words: str, **more: Json) -> None:
        await self.send({"id": request["id"], "error": {"code": code, "message": words, **more}})

    def fail(self, words: str) -> NoReturn:
        raise CheckFailed(words)

    # Hearing -------------------------------------------------------------------------------------------------

    async def hear(self) -> Message:
        """The next message."""
        while True:
            try:
                text = await self.take()
            except anyio.EndOfStream:
                self.gone = True
                raise Gone(f"the {self.them} has gone; {self.epitaph()}") from None
            except anyio.BrokenResourceError:
                self.gone = True
                raise Gone(f"the connection to the {self.them} broke; {self.epitaph()}") from None
            if isinstance(text, Oversize):
                raise CheckFailed(str(text))
            self.note(text, self.them)
            if (message := self.watch.heard(text)) is not None:
                self.heard.append(message)
                if len(self.heard) > LOUDEST:
                    raise CheckFailed(f"the {self.them} said more than {LOUDEST} messages")
                return message

    async def until(self, wanted: Callable[[Message], bool], what: str) -> Message:
        """The next message that is wanted; what comes before it is served."""
        seconds = self.patience if self.heard else self.startup
        with anyio.move_on_after(seconds):
            while not wanted(message := await self.hear()):
                await self.serve(message)
            return message
        self.fail(f"no {what} within {seconds:g} s")
        return None

    async def answer(self, id: Json) -> Message:
        """The answer under an id, its type kept."""
        if key(id) in self._passed:
            return self._passed.pop(key(id))
        return await self.until(lambda m: "method" not in m and key(m.get("id")) == key(id), f"answer to {id!r}")

    async def request(self, method: str) -> Message:
        """The other side's next request for a method."""
        return await self.until(lambda m: m.get("method") == method and "id" in m, method)

    async def silence(self, seconds: float, forbidden: Callable[[Message], bool], words: str) -> bool:
        """Listen for so long; what is forbidden fails the check. Has the other side gone meanwhile?"""
        with anyio.move_on_after(seconds):
            while True:
                try:
                    message = await self.hear()
                except Gone:
                    return True
                if forbidden(message):
                    self.fail(f"{words}: {json.dumps(message)[:300]}")
                await self.serve(message)
        return False

    async def listen(self, seconds: float) -> None:
        """Serve what comes for so long."""
        await self.silence(seconds, lambda message: False, "")

    async def alive(self) -> None:
        """See that the other side still answers what it is asked."""
        await self.answer(await self.ask(ALIVE, {}))

    def on(self, method: str, hook: Callable[[Message], Awaitable[None]]) -> None:
        """Have a request that nobody waits for answered in another way."""
        self._hooks[method] = hook

    def has_answered(self, id: Json) -> bool:
        """Has an answer come that nobody has taken yet?"""
        return key(id) in self._passed

    async def serve(self, message: Message) -> None:
        """Answer a request that nobody waits for; keep an answer that nobody waits for yet."""
        method: Json = message.get("method")
        if method is None:
            self._passed[key(message.get("id"))] = message
        elif isinstance(method, str) and "id" in message:
            await self._hooks.get(method, self.answer_default)(message)
