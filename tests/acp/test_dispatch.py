"""Where a message becomes a call."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from acp.dispatch import Dispatcher, Noted
from acp.errors import ErrorCode, RequestError
from acp.methods import Method
from acp.v1 import schema
from acp.wire import Wire


class Point(Wire):
    noted: int
    request: str = ""


PLACE: Method[Point, Point] = Method("test/place", "both", Point, Point)


def dispatcher() -> Dispatcher:
    made = Dispatcher()
    made.open([PLACE, schema.SESSION_UPDATE])
    return made


def decide(params: Any, method: str = "test/place") -> Noted:
    return dispatcher().decide({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def refusal(params: Any, method: str = "test/place") -> tuple[int, Any]:
    with pytest.raises(RequestError) as caught:
        decide(params, method)
    return caught.value.code, caught.value.data


def test_params_become_a_value_of_the_methods_type() -> None:
    noted = decide({"noted": 3})
    assert noted.method is PLACE
    assert noted.params == Point(noted=3)


@pytest.mark.parametrize("name", ["noted", "request", "self", "context", "method", "params", "/"])
def test_a_param_may_have_any_name(name: str) -> None:
    noted = decide({"noted": 1, name: "1"} if name != "noted" else {"noted": 1})
    assert noted.params.encode()[name] in ("1", 1)


def test_a_method_that_is_not_open_is_not_found() -> None:
    assert refusal({}, "session/new") == (ErrorCode.METHOD_NOT_FOUND, {"method": "session/new"})


def test_params_that_do_not_fit_are_pointed_at_without_their_values() -> None:
    code, data = refusal({"noted": "secret"})
    assert code == ErrorCode.INVALID_PARAMS
    assert [item["pointer"] for item in data] == ["/noted"]
    assert "secret" not in repr(data)


@pytest.mark.parametrize("params", [None, {}])
def test_params_that_are_missing_count_as_none_given(params: Any) -> None:
    code, data = refusal(params)
    assert (code, [item["pointer"] for item in data]) == (ErrorCode.INVALID_PARAMS, ["/noted"])


def test_params_in_a_list_are_refused() -> None:
    assert refusal([1]) == (ErrorCode.INVALID_PARAMS, None)


def test_a_failing_type_is_an_internal_error_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Wire):
        @classmethod
        def decode(cls, value: Any) -> Any:
            raise KeyError("/home/me/secret")

    made = Dispatcher()
    made.open([Method("test/odd", "both", Odd, Odd)])
    with caplog.at_level(logging.CRITICAL), pytest.raises(RequestError) as caught:
        made.decide({"method": "test/odd"})
    assert (caught.value.code, caught.value.message, caught.value.data) == (-32603, "Internal error", None)


def test_importing_it_warns_of_nothing() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", "import acp.dispatch"], check=True, timeout=60)


@pytest.mark.parametrize(
    "message",
    [
        {"method": "test/place", "params": {"noted": 1}},
        {"method": "test/place", "params": {"noted": 1.0, "request": "x", "other": [1]}},
        {"method": "test/place", "params": {"noted": "one"}},
        {"method": "test/place", "params": {}},
        {"method": "test/place", "params": [1]},
        {"method": "test/place", "params": None},
        {"method": "test/place"},
        {"method": "test/none", "params": {"noted": 1}},
    ],
)
def test_what_is_decided_at_once_is_what_the_library_decides(message: dict[str, Any]) -> None:
    def outcome(decide: Callable[[dict[str, Any]], Noted]) -> object:
        try:
            return decide(message)
        except RequestError as error:
            return error.code, error.message, error.data

    assert outcome(dispatcher().decide) == outcome(dispatcher().decide_slowly)
