"""Where a message becomes a call, or the reason why it cannot.

jsonrpcserver's synchronous dispatcher decides: is there such a method, do the arguments fit? The function registered
for a method runs nothing. It validates the params into the method's type and notes the call; the connection runs it
later. So the decision is pure, and handlers are free to wait, to be cancelled and to be shielded.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .errors import ErrorCode, RequestError
from .methods import Method
from .wire import Json, pointers

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it still imports pkg_resources
    from jsonrpcserver import JsonRpcError, Success
    from jsonrpcserver.dispatcher import dispatch_to_response_pure


@dataclass(frozen=True, slots=True)
class Noted:
    """A call that may be made: its method, and params of the method's type."""

    method: Method[Any, Any]
    params: Any


Note = Callable[..., Any]


class Dispatcher:
    """The methods that the peer may call on us."""

    def __init__(self) -> None:
        self.methods: dict[str, Method[Any, Any]] = {}
        self._notes: dict[str, Note] = {}

    def open(self, methods: Iterable[Method[Any, Any]]) -> None:
        """Let the peer call these too."""
        for method in methods:
            self.methods[method.name] = method
            self._notes[method.name] = _note(method)

    def close(self) -> None:
        """Let the peer call nothing."""
        self.methods.clear()
        self._notes.clear()

    def decide(self, message: dict[str, Json]) -> Noted:
        """The call that a request or notification asks for. Raises RequestError: -32601, -32602."""
        noted: list[Noted] = []
        # As a request, whatever it is: a notification would get no verdict.
        request: dict[str, Any] = {"method": message["method"], "params": message.get("params") or {}, "id": 0}
        answer: Any = dispatch_to_response_pure(
            deserializer=lambda _: request,
            validator=lambda valid: valid,  # the peer checked the envelope, in a fifth of the time
            methods=self._notes,
            context=noted,
            post_process=_unchanged,
            request="",
        )
        if noted:
            return noted[0]
        error: Any = answer._error  # an oslash Left: the library has no other way to look inside
        if error.code == ErrorCode.METHOD_NOT_FOUND:
            raise RequestError.method_not_found(message["method"])
        if error.code != ErrorCode.INVALID_PARAMS:
            raise RequestError(ErrorCode.INTERNAL_ERROR, "Internal error")
        if isinstance(message.get("params"), list):
            raise RequestError.invalid_params("Params must be an object")
        data: Any = error.data
        pointed = data if type(data) is list else None  # pyright: ignore[reportUnknownVariableType]
        raise RequestError.invalid_params("Invalid params", pointed)


def _unchanged(response: Any) -> Any:
    return response


def _note(method: Method[Any, Any]) -> Note:
    """A function that validates and notes. Its context is positional only: a param may have any name."""

    def note(noted: list[Noted], /, **params: Json) -> Any:
        try:
            noted.append(Noted(method, method.params.decode(params)))
        except ValidationError as error:
            raise JsonRpcError(int(ErrorCode.INVALID_PARAMS), "Invalid params", pointers(error)) from error
        return Success()

    # Found once, not at every message: a third of what a decision would cost.
    note.__signature__ = inspect.signature(note)  # type: ignore[attr-defined]
    return note
