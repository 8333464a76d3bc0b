"""What a transport has to know of a text to send it the right way: what kind of message it is, and of which session.

Streamable HTTP has a stream for each session, and a header that names it. Nothing here judges a message; one that
cannot be read belongs to no session.
"""

from __future__ import annotations

import re
from typing import NamedTuple, cast

from ..envelope import CANCEL, RequestId, envelope_problem, failed, is_id
from ..errors import RequestError
from ..json_text import Json, loads

LONGEST_SESSION_ID = 1024  # characters

OPENING = frozenset(("session/load", "session/resume"))
"""Requests that name a session which the connection may not have yet."""
ENDING = frozenset(("session/close", "session/delete"))
"""Requests after whose answer nothing more is said of the session they name."""


# Nearly all that an agent says, as `Peer` writes it: known without reading what can be large.
_UPDATE = re.compile(rb'\{"jsonrpc":"2\.0","method":"session/update","params":\{"sessionId":"([!#-\[\]-~]{1,1024})",')


class Message(NamedTuple):
    """One message. `session` is the one that it names, in its params or its result; None for none.

    `method` is None in an answer. `has_id` tells a request from a notification. `cancels` is the id of the request that
    a `$/cancel_request` is about.
    """

    method: str | None = None
    id: RequestId = None
    has_id: bool = False
    session: str | None = None
    failed: bool = False
    cancels: RequestId = None
    version: int | None = None

    @property
    def is_request(self) -> bool:
        return self.method is not None and self.has_id

    @property
    def is_answer(self) -> bool:
        return self.method is None and self.has_id


def read_message(text: bytes) -> Message:
    """What a text is. One that is no message is a `Message()`."""
    if update := _UPDATE.match(text):
        return Message("session/update", session=update[1].decode())
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return Message()
    return message_of(value)


def read_error(text: bytes) -> RequestError | None:
    """The error that a text answers with; None for any other text."""
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return None
    if envelope_problem(value) is not None or not failed(value):
        return None
    error = value["error"]
    return RequestError(error["code"], error["message"], error.get("data"))


def message_of(value: Json) -> Message:
    """What a JSON value is."""
    if not isinstance(value, dict):
        return Message()
    raw = cast("dict[str, Json]", value)
    id, method = raw.get("id"), raw.get("method")
    has_id = "id" in raw and is_id(id)
    if isinstance(method, str):
        cancels = _field(raw.get("params"), "requestId") if method == CANCEL else None
        return Message(
            method,
            id if has_id else None,
            has_id,
            _session(raw.get("params")),
            cancels=cancels if is_id(cancels) else None,
        )
    if not has_id:
        return Message()
    version = _field(raw.get("result"), "protocolVersion")
    return Message(
        None,
        id,
        True,
        _session(raw.get("result")),
        failed=raw.get("error") is not None,
        version=version if type(version) is int else None,
    )


def _session(value: Json) -> str | None:
    id = _field(value, "sessionId")
    return id if isinstance(id, str) and 0 < len(id) <= LONGEST_SESSION_ID else None


def _field(value: Json, name: str) -> Json:
    return cast("dict[str, Json]", value).get(name) if isinstance(value, dict) else None
