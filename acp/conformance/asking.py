"""Asking the other side, whichever is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn

Json = Any
Message = dict[str, Json]


class CheckFailed(Exception):
    """The side under test did not do what the check asks for."""


class Asking(ABC):
    """The checker's end of a conversation: requests under ids of its own, and their answers."""

    def __init__(self) -> None:
        self._last = 0

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Send a message."""

    @abstractmethod
    async def answer(self, id: Json) -> Message:
        """The answer under an id, its type kept."""

    async def ask(self, method: str, params: Json) -> int:
        """Send a request; its id."""
        self._last += 1
        await self.send({"id": self._last, "method": method, "params": params})
        return self._last

    async def call(self, method: str, params: Json) -> Json:
        """The result of a request; an error fails the check."""
        answer = await self.answer(await self.ask(method, params))
        if "error" in answer:
            self.fail(f"{method} was answered with {answer['error']}")
        return answer["result"]

    def fail(self, words: str) -> NoReturn:
        raise CheckFailed(words)
