"""What we do when the peer calls, as a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from .methods import Method

P = TypeVar("P")
R = TypeVar("R")
Handler = Callable[[Any], Awaitable[Any]]


class Handlers:
    """Methods with their handlers. What is not in it, the peer may not call."""

    def __init__(self) -> None:
        self.by_name: dict[str, tuple[Method[Any, Any], Handler]] = {}

    def on(self, method: Method[P, R], handler: Callable[[P], Awaitable[R]]) -> Self:
        """Handle `method` with `handler`; gives back the handlers, so that calls chain."""
        self.by_name[method.name] = (method, handler)
        return self

    def methods(self) -> list[Method[Any, Any]]:
        return [method for method, _ in self.by_name.values()]
