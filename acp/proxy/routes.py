"""Which request on one hop is which on the next.

Ids belong to a connection. A request that is passed on gets an id of ours there; its answer and its cancelling find
their way back by this table.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..envelope import RequestId
from ..errors import ErrorCode, RequestError

MOST_OPEN = 10_000
"""Requests that may be on their way at a time; more are refused."""


@dataclass(frozen=True, slots=True)
class Route:
    """A request that was passed on: where it came from and under which id, where it went and under which."""

    origin: int
    origin_id: RequestId
    method: str
    target: int
    id: int


class Routes:
    """The requests that are on their way. Hops are numbers."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._by_target: dict[tuple[int, RequestId], Route] = {}
        self._by_origin: dict[tuple[int, RequestId], Route] = {}

    def __len__(self) -> int:
        return len(self._by_target)

    def open(self, origin: int, origin_id: RequestId, method: str, target: int) -> Route:
        """Take a request on its way. Raises RequestError when its id is taken, or too many are on their way."""
        if (origin, origin_id) in self._by_origin:
            problem = "Invalid request: this id belongs to a request that is not answered yet"
            raise RequestError(ErrorCode.INVALID_REQUEST, problem)
        if len(self._by_target) >= MOST_OPEN:
            raise RequestError(ErrorCode.INTERNAL_ERROR, f"More than {MOST_OPEN} requests at a time")
        route = Route(origin, origin_id, method, target, next(self._ids))
        self._by_target[target, route.id] = self._by_origin[origin, origin_id] = route
        return route

    def close(self, target: int, id: RequestId) -> Route | None:
        """The request that an answer on a hop is for; None if there is none."""
        route = self._by_target.pop((target, id), None)
        if route is not None:
            del self._by_origin[route.origin, route.origin_id]
        return route

    def find(self, origin: int, origin_id: RequestId) -> Route | None:
        """The request that a hop knows under an id."""
        return self._by_origin.get((origin, origin_id))

    def waiting(self, origin: int) -> list[Route]:
        """The requests of a hop that are on their way."""
        return [row for row in self._by_target.values() if row.origin == origin]
