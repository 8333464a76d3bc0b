"""What makes a JSON value a JSON-RPC 2.0 message, and the one shape of an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from .errors import ErrorCode, RequestError
from .json_text import Json

RequestId = int | str | None
CANCEL = "$/cancel_request"
_LONGEST_NUMBER = 20
"""Digits of an id of ours that is said back as text."""
_LONGEST_WORDS = 200
"""Characters of a peer's own words that go into an error message."""


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
    if "id" not in message or not ("result" in message or "error" in message):
        return "neither a request nor an answer"
    if "result" in message and "error" in message and (message["result"] is None) == (message["error"] is None):
        return "both a result and an error"
    if failed(message):
        error = message["error"]
        if not isinstance(error, dict) or type(cast("dict[str, Json]", error).get("code")) is not int:
            return "error has no integer code"
        if not isinstance(cast("dict[str, Json]", error).get("message"), str):
            return "error has no message"
    return None


def failed(answer: Mapping[str, Json]) -> bool:
    """Whether an answer is an error. Of a result and an error the one counts that is not null, as JSON-RPC 1 had it."""
    return "error" in answer and (answer["error"] is not None or "result" not in answer)


def mended(message: Json, problem: str) -> dict[str, Json] | None:
    """The error that a malformed answer is taken for, so that whoever waits for it does not wait for ever.

    Under the id of one of our calls, which are whole numbers, though it may have been said back as text or as a
    fraction. None for what names no such call, or is no answer at all.
    """
    if not isinstance(message, dict):
        return None
    message = cast("dict[str, Json]", message)
    if "method" in message and (isinstance(message["method"], str) or not message.keys() & {"result", "error"}):
        return None
    id = _number(message.get("id"))
    if id is None:
        return None
    error: Json = message.get("error")
    words: Json = cast("dict[str, Json]", error).get("message") if isinstance(error, dict) else error
    said = f": {words[:_LONGEST_WORDS]}" if isinstance(words, str) and words else ""
    return error_message(id, RequestError(ErrorCode.INTERNAL_ERROR, f"Malformed answer ({problem}){said}"))


def respelled(answer: dict[str, Json]) -> dict[str, Json] | None:
    """The same for an answer whose only fault is that a number came back as text; None for any other."""
    return mended(answer, "its id is a string, and was a number") if isinstance(answer.get("id"), str) else None


def _number(id: Json) -> int | None:
    if isinstance(id, str) and id.isascii() and id.isdecimal() and len(id) <= _LONGEST_NUMBER:
        return int(id) if id == str(int(id)) else None
    if type(id) is float and id.is_integer():
        return int(id)
    return id if type(id) is int else None


def error_message(id: RequestId, error: RequestError) -> dict[str, Json]:
    """The message that answers a request with an error, its text on one line."""
    body: dict[str, Json] = {"code": error.code, "message": " ".join(error.message.split())}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "id": id, "error": body}
