"""Where a message goes in a chain of client, proxies and agent. The whole of a conductor's judgement, and no I/O.

Hop 0 is the client, the last one the agent, those between are proxies. The conductor also sees to what it alone can:
a proxy answers `proxy/initialize` only when its successor has answered, and nobody changes the protocol version.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..envelope import CANCEL, error_message, failed, is_id, respelled
from ..errors import ErrorCode, RequestError
from ..json_text import Json
from ..transports import Oversize
from .routes import Route, Routes
from .wrapping import INITIALIZE, PROXY_INITIALIZE, SUCCESSOR, Message, Refusal, object_of, read, unwrapped, wrapped

log = logging.getLogger("acp")

CLIENT = 0
Outgoing = tuple[int, Message]


@dataclass(slots=True)
class _Opening:
    """How far a proxy is with its `proxy/initialize`."""

    version: Json
    answered: bool = False
    successor_version: Json = None


class Chain:
    """The hops by name, the client first and the agent last."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(names) < 2:
            raise ValueError("a chain has at least a client and an agent")
        self.names = tuple(names)
        self.agent = len(names) - 1
        self.routes = Routes()
        self._openings: dict[int, _Opening] = {}

    def receive(self, hop: int, text: bytes | Oversize) -> Sequence[Outgoing]:
        """What to send where because of a text from a hop."""
        try:
            message = read(text)
            if "method" not in message:
                return self._answer(hop, message)
            if message["method"] == CANCEL:
                return self._cancel(hop, message)
            return self._pass_on(hop, message)
        except Refusal as refusal:
            log.info("from %s: %s", self.names[hop], refusal)
            heard = [] if refusal.answer is None else [(hop, refusal.answer)]
            return heard if refusal.instead is None else [*heard, *self._answer(hop, refusal.instead)]

    def last_answers(self, why: str) -> Sequence[Outgoing]:
        """What the client hears of its open requests when the chain ends before they were answered."""
        error = RequestError(ErrorCode.INTERNAL_ERROR, why)
        owed = [self.routes.close(row.target, row.id) for row in self.routes.waiting(CLIENT)]
        return [(CLIENT, error_message(row.origin_id, error)) for row in owed if row is not None]

    # Requests and notifications ----------------------------------------------------------------------------

    def _pass_on(self, hop: int, message: Message) -> Sequence[Outgoing]:
        method = message["method"]
        if method == PROXY_INITIALIZE or (method == SUCCESSOR and hop in (CLIENT, self.agent)):
            raise self._refusal(message, RequestError.method_not_found(method))
        if method == SUCCESSOR:
            return self._send(hop, hop + 1, unwrapped(message))
        return self._send(hop, hop + 1 if hop == CLIENT else hop - 1, message)

    def _send(self, hop: int, target: int, message: Message) -> Sequence[Outgoing]:
        method = message["method"]
        if target > hop and method == INITIALIZE and "id" in message:
            self._check_forwarded(hop, message)
        if "id" in message:
            try:
                route = self.routes.open(hop, message["id"], method, target)
            except RequestError as error:
                raise Refusal(error, message["id"]) from None
            message = {**message, "id": route.id}
        if target < hop:
            return [(target, message if target == CLIENT else wrapped(message))]
        if method == INITIALIZE and target != self.agent and "id" in message:
            self._openings[target] = _Opening(object_of(message.get("params")).get("protocolVersion"))
            message = {**message, "method": PROXY_INITIALIZE}
        return [(target, message)]

    def _check_forwarded(self, hop: int, message: Message) -> None:
        opening = self._openings.get(hop)
        version = object_of(message.get("params")).get("protocolVersion")
        if opening is not None and version != opening.version:
            raise self._refusal(message, RequestError.invalid_params("A proxy may not change protocolVersion"))

    def _refusal(self, message: Message, error: RequestError) -> Refusal:
        return Refusal(error, message.get("id"), silent="id" not in message)

    def _cancel(self, hop: int, message: Message) -> Sequence[Outgoing]:
        """Cancelling goes from hop to hop, under each one's id, and what it is not about is passed over."""
        params = object_of(message.get("params"))
        id = params.get("requestId", False)
        route = self.routes.find(hop, id) if is_id(id) else None
        if route is None:
            return []
        return [(route.target, {**message, "params": {**params, "requestId": route.id}})]

    # Answers -----------------------------------------------------------------------------------------------

    def _answer(self, hop: int, message: Message) -> Sequence[Outgoing]:
        message = respelled(message) or message  # every id that we give away is a number
        route = self.routes.close(hop, message["id"])
        if route is None:
            log.info("from %s: an answer to nothing: %r", self.names[hop], message["id"])
            return []
        message = {**message, "id": route.origin_id}
        if route.method == INITIALIZE and not failed(message):
            message = self._initialized(route, message)
        return [(route.origin, message)]

    def _initialized(self, route: Route, message: Message) -> Message:
        """The answer to `initialize` as it goes on, or the error of a proxy that broke the rules of its opening."""
        version = object_of(message["result"]).get("protocolVersion")
        opening = self._openings.pop(route.target, None)
        problem = None
        if opening is not None and not opening.answered:
            problem = "answered initialize before its successor did"
        elif opening is not None and version != opening.successor_version:
            problem = f"changed protocolVersion from {opening.successor_version!r} to {version!r}"
        if problem is not None:
            log.error("%s %s", self.names[route.target], problem)
            error = RequestError(ErrorCode.INTERNAL_ERROR, f"{self.names[route.target]} {problem}")
            return error_message(route.origin_id, error)
        if (waiting := self._openings.get(route.origin)) is not None:
            waiting.answered, waiting.successor_version = True, version
        return message
