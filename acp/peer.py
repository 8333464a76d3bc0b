"""One side of a JSON-RPC 2.0 conversation, without any I/O.

Give it each text that arrives (`receive`) and it says what happened, as events; tell it what to say (`call`,
`notify`, `reply`, `fail`) and it holds the texts to send (`texts_to_send`). Nothing a peer sends makes it raise:
what is not JSON, not a message or not allowed is answered with an error, and the conversation goes on.

An array is answered with one -32600, as schema 2.4.0 asks; `batch=True` takes its elements one by one instead, and
answers each by itself.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from .dispatch import Dispatcher
from .envelope import CANCEL, RequestId, envelope_problem, error_message, failed, is_id, mended, respelled
from .errors import ErrorCode, LocalProtocolError, RequestError
from .methods import Method
from .wire import Json, dumps, loads, pointers

P = TypeVar("P")
R = TypeVar("R")

LONGEST_ECHO = 200  # characters of a peer's own words that go into an error message


@dataclass(frozen=True, slots=True)
class Called:
    """The peer asks for `method`; it waits for `reply` or `fail`."""

    id: RequestId
    method: Method[Any, Any]
    params: Any


@dataclass(frozen=True, slots=True)
class Notified:
    """The peer tells us something."""

    method: Method[Any, Any]
    params: Any


@dataclass(frozen=True, slots=True)
class Replied:
    """The answer to our call `id`: a result of the method's type, or an error."""

    id: RequestId
    outcome: Any | RequestError


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The peer no longer wants the answer to its request `id`, which we have not given yet."""

    id: RequestId


@dataclass(frozen=True, slots=True)
class Refused:
    """Something could not be taken. A request was answered with `error`; anything else was dropped."""

    error: RequestError
    id: RequestId = None


Event = Called | Notified | Replied | CancelAsked | Refused


class Peer:
    """Our side of one conversation."""

    def __init__(self, *, batch: bool = False) -> None:
        self._batch = batch
        self._dispatcher = Dispatcher()
        self._outgoing: dict[str, Method[Any, Any]] = {}
        self._ids = itertools.count(1)
        self._asked: dict[RequestId, Method[Any, Any]] = {}
        self._running: set[RequestId] = set()
        self._texts: deque[bytes] = deque()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Peer [{len(self._asked)} asked, {len(self._running)} running, {len(self._texts)} to send]>"

    def open(self, incoming: Iterable[Method[Any, Any]] = (), outgoing: Iterable[Method[Any, Any]] = ()) -> None:
        """Allow methods: `incoming` those that the peer may use, `outgoing` those that we may."""
        self._dispatcher.open(incoming)
        self._outgoing.update({method.name: method for method in outgoing})

    def refuse_others(self, error: RequestError) -> None:
        """Refuse what is not allowed with `error`, until `close`."""
        self._dispatcher.otherwise = error

    def close(self) -> None:
        """Allow no method any more; `open` allows others."""
        self._dispatcher.close()
        self._outgoing.clear()

    # What arrives ----------------------------------------------------------------------------------------

    def receive(self, text: bytes) -> list[Event]:
        """What one text from the peer means."""
        try:
            message = loads(text)
        except (ValueError, RecursionError) as error:
            return [self._refuse(RequestError(ErrorCode.PARSE_ERROR, "Parse error", {"reason": _short(error)}))]
        if isinstance(message, list) and self._batch and message:
            return [event for part in message for event in self._message(part)]  # pyright: ignore[reportUnknownVariableType]
        return self._message(message)

    def refuse_text(self, reason: str) -> Refused:
        """A text that the transport could not even deliver."""
        return self._refuse(RequestError(ErrorCode.INVALID_REQUEST, f"Invalid request: {reason}"))

    def _message(self, message: Json) -> list[Event]:
        if problem := envelope_problem(message):
            refused = self._refuse(RequestError(ErrorCode.INVALID_REQUEST, f"Invalid request: {problem}"))
            answer = mended(message, problem)
            return [refused] if answer is None or answer["id"] not in self._asked else [refused, self._answer(answer)]
        if "method" not in message:
            return [self._answer(message)]
        if "id" in message:
            return [self._request(message)]
        return self._notification(message)

    def _request(self, message: dict[str, Json]) -> Event:
        id: RequestId = message["id"]
        if id in self._running:
            problem = "Invalid request: this id belongs to a request that is not answered yet"
            return self._refuse(RequestError(ErrorCode.INVALID_REQUEST, problem))
        try:
            noted = self._dispatcher.decide(message)
            if noted.method.is_notification:
                raise RequestError(ErrorCode.INVALID_REQUEST, "Invalid request: the method is a notification")
        except RequestError as error:
            return self._refuse(error, id)
        self._running.add(id)
        return Called(id, noted.method, noted.params)

    def _notification(self, message: dict[str, Json]) -> list[Event]:
        if message["method"] == CANCEL:
            params: dict[str, Json] = message["params"] if isinstance(message.get("params"), dict) else {}
            id = params.get("requestId", False)
            # Unknown or finished ids are no concern of ours (protocol cancellation).
            return [CancelAsked(id)] if is_id(id) and id in self._running else []
        try:
            noted = self._dispatcher.decide(message)
        except RequestError as error:
            return [Refused(error)]  # a notification gets no answer, not even to an error
        if not noted.method.is_notification:
            return [Refused(RequestError(ErrorCode.INVALID_REQUEST, "A request came without an id"))]
        return [Notified(noted.method, noted.params)]

    def _answer(self, message: dict[str, Json]) -> Event:
        id: RequestId = message["id"]
        method = self._asked.pop(id, None)
        if method is None:
            if (answer := respelled(message)) is not None and answer["id"] in self._asked:
                return self._answer(answer)
            words = f": {_short(message['error']['message'])}" if failed(message) else ""
            problem = f"A reply to something that was never asked{words}"
            return Refused(RequestError(ErrorCode.INVALID_REQUEST, problem), id)
        if failed(message):
            error = message["error"]
            return Replied(id, RequestError(error["code"], error["message"], error.get("data")))
        result: Any = message["result"]
        try:
            # Some methods answer null where the schema has an empty object (protocol 1.1, 9).
            return Replied(id, method.result.decode({} if result is None else result))  # type: ignore[union-attr]
        except ValidationError as error:
            data = pointers(error)
            return Replied(id, RequestError(ErrorCode.INTERNAL_ERROR, f"Invalid result of {method.name}", data))

    # What we say -----------------------------------------------------------------------------------------

    def call(self, method: Method[P, R], params: P) -> int:
        """Ask the peer; the answer will come as `Replied` with the id given back. Raises LocalProtocolError."""
        self._check(method)
        id = next(self._ids)
        text = self._text({"jsonrpc": "2.0", "id": id, "method": method.name, "params": _encode(params)})
        self._asked[id] = method
        self._say(text)
        return id

    def notify(self, method: Method[P, None], params: P) -> None:
        """Tell the peer. Raises LocalProtocolError."""
        self._check(method)
        self._say(self._text({"jsonrpc": "2.0", "method": method.name, "params": _encode(params)}))

    def cancel(self, id: RequestId) -> None:
        """Tell the peer that we no longer want the answer to our call `id`. The id stays taken until it answers."""
        if id in self._asked:
            message = {"jsonrpc": "2.0", "method": CANCEL, "params": {"requestId": id}}
            self._say(self._text(message))

    def reply(self, id: RequestId, result: Any) -> None:
        """Answer the peer's request `id`. Raises LocalProtocolError, and then nothing was said: the request is not
        waiting for an answer, or the result is no JSON."""
        text = self._text({"jsonrpc": "2.0", "id": id, "result": _encode(result)})
        self._settle(id)
        self._say(text)

    def fail(self, id: RequestId, error: RequestError) -> None:
        """Answer the peer's request `id` with an error. Raises LocalProtocolError like `reply`."""
        text = self._error_text(id, error)
        self._settle(id)
        self._say(text)

    def texts_to_send(self) -> list[bytes]:
        """The texts said since the last time, in order."""
        texts = list(self._texts)
        self._texts.clear()
        self._bytes = 0
        return texts

    @property
    def pending(self) -> int:
        """Texts said and not yet taken."""
        return len(self._texts)

    @property
    def pending_bytes(self) -> int:
        """Their size, together."""
        return self._bytes

    @property
    def asked(self) -> int:
        """Our calls that the peer has not answered."""
        return len(self._asked)

    @property
    def running(self) -> int:
        """The peer's requests that we have not answered."""
        return len(self._running)

    # Pieces ----------------------------------------------------------------------------------------------

    def _check(self, method: Method[Any, Any]) -> None:
        if method.name not in self._outgoing:
            needs = f": the peer did not advertise {method.needs}" if method.needs else ""
            raise LocalProtocolError(f"{method.name} is not open{needs}")

    def _settle(self, id: RequestId) -> None:
        if id not in self._running:
            raise LocalProtocolError(f"no request {id!r} is waiting for an answer")
        self._running.remove(id)

    def _refuse(self, error: RequestError, id: RequestId = None) -> Refused:
        self._say(self._error_text(id, error))
        return Refused(error, id)

    def _say(self, text: bytes) -> None:
        self._texts.append(text)
        self._bytes += len(text)

    def _error_text(self, id: RequestId, error: RequestError) -> bytes:
        return self._text(error_message(id, error))

    def _text(self, message: Json) -> bytes:
        try:
            return dumps(message)
        except ValueError as error:
            raise LocalProtocolError(f"cannot be sent as JSON: {error}") from error


def _encode(value: Any) -> Json:
    return {} if value is None else value.encode()


def _short(error: Exception | str) -> str:
    return " ".join(str(error).split())[:LONGEST_ECHO]
