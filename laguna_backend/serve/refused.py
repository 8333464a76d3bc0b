"""What goes wrong, in the form that OpenAI's clients read: a status, and an `error` with message, type and code."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from acp_server.model import ModelError

from ..engine.request import Busy, ContextOverflow, Refusal

LATER = {"Retry-After": "2"}
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that is not answered. `param` is the field that is wrong."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def headers(self) -> dict[str, str]:
        if self.status == 401:
            return {"WWW-Authenticate": 'Bearer realm="laguna"'}
        return LATER if self.status in (429, 503) else {}

    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def refusal_of(error: ModelError) -> Refused:
    """Whose fault it is that the model does not answer, by what the error comes from."""
    match error.__cause__:
        case Busy():
            return Refused(429, str(error), code="busy")
        case ContextOverflow():
            return Refused(400, str(error), code="context_length_exceeded", param="messages")
        case Refusal() | ValueError():
            return Refused(400, str(error))
        case _:
            return Refused(500, error.told())
