"""What makes a JSON value a JSON-RPC 2.0 message, and the one shape of an error."""

from __future__ import annotations

from typing import cast

from .errors import RequestError
from .json_text import Json

RequestId = int | str | None
CANCEL = "$/cancel_request"


def is_id(value: Json) -> bool:
    """Whether a request may bear this id: a string, an integer or null, and no boolean."""
    return value is None or type(value) is int or type(value) is str


def envelope_problem(message: Json) -> str | None:
    """What keeps a JSON value from being a message; None if nothing does."""
    if isinstance(message, list):
        return "arrays are not supported"
    if not isinstance(message, dict):
        return "not an object"
    message = cast("dict[str, Json]", message)
    if message.get("jsonrpc") != "2.0":
        return "jsonrpc is not '2.0'"
    if not is_id(message.get("id")):
        return "id is neither a string nor an integer"
    if "method" in message:
        if not isinstance(message["method"], str):
            return "method is not a string"
        if not isinstance(message.get("params"), dict | list | None):
            return "params is not an object"
        return None
    if "id" not in message or ("result" in message) == ("error" in message):
        return "neither a request nor an answer"
    if "error" in message:
        error = message["error"]
        if not isinstance(error, dict) or type(cast("dict[str, Json]", error).get("code")) is not int:
            return "error has no integer code"
        if not isinstance(cast("dict[str, Json]", error).get("message"), str):
            return "error has no message"
    return None


def error_message(id: RequestId, error: RequestError) -> dict[str, Json]:
    """The message that answers a request with an error, its text on one line."""
    body: dict[str, Json] = {"code": error.code, "message": " ".join(error.message.split())}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "id": id, "error": body}
