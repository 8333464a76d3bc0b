"""Where a message becomes a call, or the reason why it cannot.

jsonrpcserver's synchronous dispatcher decides: is there such a method, do the arguments fit? The function registered
for a method runs nothing. It validates the params into the method's type and notes the call; the connection runs it
later. So the decision is pure, and handlers are free to wait, to be cancelled and to be shielded.

A call of a method that is open, with params that fit, is noted without asking: it is nearly every message, and the
dispatcher takes three times as long as the validation. It is asked about everything else (`decide_slowly`, which
decides the same of all; a test holds one against the other).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .errors import ErrorCode, RequestError
from .methods import Method
from .wire import Json, pointers


@functools.cache
def _library(module: str) -> Any:
    """A module of jsonrpcserver, imported when it is first wanted: with what it brings along that takes 65 ms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it still imports pkg_resources
        return importlib.import_module(module)


@dataclass(frozen=True, slots=True)
class Noted:
    """A call that may be made: its method, and params of the method's type."""

    method: Method[Any, Any]
    params: Any


Note = Callable[..., Any]


class Dispatcher:
    """The methods that the peer may call on us; `otherwise` is what every other one is refused with, if not -32601."""

    def __init__(self) -> None:
        self.methods: dict[str, Method[Any, Any]] = {}
        self._notes: dict[str, Note] = {}
        self.otherwise: RequestError | None = None

    def open(self, methods: Iterable[Method[Any, Any]]) -> None:
        """Let the peer call these too."""
        for method in methods:
            self.methods[method.name] = method
            self._notes[method.name] = _note(method)

    def close(self) -> None:
        """Let the peer call nothing."""
        self.otherwise = None
        self.methods.clear()
        self._notes.clear()

    def decide(self, message: dict[str, Json]) -> Noted:
        """The call that a request or notification asks for. Raises RequestError: -32601, -32602."""
        method, params = self.methods.get(message["method"]), message.get("params")
        if method is not None and type(params) is dict:  # pyright: ignore[reportUnknownVariableType]
            try:
                return Noted(method, method.params.decode(params))
            except ValidationError:
                pass
        if method is None and self.otherwise is not None:
            raise self.otherwise
        return self.decide_slowly(message)

    def decide_slowly(self, message: dict[str, Json]) -> Noted:
        """The same, by the library's own judgement."""
        noted: list[Noted] = []
        # As a request, whatever it is: a notification would get no verdict.
        request: dict[str, Any] = {"method": message["method"], "params": message.get("params") or {}, "id": 0}
        answer: Any = _library("jsonrpcserver.dispatcher").dispatch_to_response_pure(
            deserializer=functools.partial(_instead, request),
            validator=_unchanged,  # the peer checked the envelope, in a fifth of the time
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


def _instead(request: dict[str, Any], text: str) -> dict[str, Any]:
    """The request, which was decoded already."""
    return request


def _unchanged(response: Any) -> Any:
    return response


def _note(method: Method[Any, Any]) -> Note:
    """A function that validates and notes. Its context is positional only: a param may have any name."""

    def note(noted: list[Noted], /, **params: Json) -> Any:
        try:
            noted.append(Noted(method, method.params.decode(params)))
        except ValidationError as error:
            problem = _library("jsonrpcserver").JsonRpcError
            raise problem(int(ErrorCode.INVALID_PARAMS), "Invalid params", pointers(error)) from error
        return _library("jsonrpcserver").Success()

    # Found once, not at every message: a third of what a decision would cost.
    note.__signature__ = inspect.signature(note)  # type: ignore[attr-defined]
    return note
