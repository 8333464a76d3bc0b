"""Messages of a chain: read from a text, wrapped as `proxy/successor` and out of it."""

from __future__ import annotations

from typing import cast

from ..envelope import RequestId, envelope_problem, error_message, mended
from ..errors import ErrorCode, RequestError
from ..json_text import Json, loads
from ..transports import Oversize

INITIALIZE, PROXY_INITIALIZE, SUCCESSOR = "initialize", "proxy/initialize", "proxy/successor"
Message = dict[str, Json]


class Refusal(Exception):
    """A text or a message that goes nowhere; `answer` is what its sender hears, if anything.

    `instead` is the error that a malformed answer is taken for.
    """

    def __init__(
        self, error: RequestError, id: RequestId = None, *, silent: bool = False, instead: Message | None = None
    ) -> None:
        super().__init__(str(error))
        self.instead = instead
        self.answer = None if silent else error_message(id, error)


def read(text: bytes | Oversize) -> Message:
    """The message of a text. Raises Refusal."""
    if isinstance(text, Oversize):
        raise Refusal(RequestError(ErrorCode.INVALID_REQUEST, f"Invalid request: {text}"))
    try:
        message = loads(text)
    except (ValueError, RecursionError):
        raise Refusal(RequestError(ErrorCode.PARSE_ERROR, "Parse error")) from None
    if problem := envelope_problem(message):
        error = RequestError(ErrorCode.INVALID_REQUEST, f"Invalid request: {problem}")
        raise Refusal(error, instead=mended(message, problem))
    return message


def wrapped(message: Message) -> Message:
    """A request or notification for a proxy, from its successor or for it."""
    inner = {key: message[key] for key in ("method", "params") if key in message}
    outer: Message = {"jsonrpc": "2.0", "method": SUCCESSOR, "params": inner}
    return outer | {"id": message["id"]} if "id" in message else outer


def unwrapped(message: Message) -> Message:
    """What a `proxy/successor` message holds; its own `_meta` is for this hop alone. Raises Refusal.

    Params of null are none, as the schema says.
    """
    outer: Json = message.get("params")
    inner = cast("Message", outer) if isinstance(outer, dict) else {}
    params = inner.get("params")
    if not isinstance(inner.get("method"), str) or not (params is None or isinstance(params, dict | list)):
        error = RequestError.invalid_params("proxy/successor holds a method, and params that are an object or a list")
        raise Refusal(error, message.get("id"), silent="id" not in message)
    out: Message = {"jsonrpc": "2.0", "method": inner["method"]}
    if "id" in message:
        out["id"] = message["id"]
    if params is not None:
        out["params"] = params
    return out


def object_of(value: Json) -> Message:
    """A JSON value if it is an object, or an empty one."""
    return cast("Message", value) if isinstance(value, dict) else {}
