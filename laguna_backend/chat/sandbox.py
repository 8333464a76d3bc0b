"""A place to run templates of strangers: jinja2's sandbox, with bounds on time and memory that it lacks.

jinja2 keeps a template from touching anything. It does not keep it from looping over a loop over a loop or from writing
a string that fills the memory. Here every line that a template runs looks at the clock, and every operation that can
make a string or list much longer than what goes in looks at the result's length first.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from jinja2 import Template
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LARGEST_TEXT = 1 << 26  # characters of a string, and of the whole result
LARGEST_LIST = 1_000_000
LARGEST_INTEGER_BITS = 4096
SECONDS = 5.0  # a long conversation takes some milliseconds

# Filters and methods that pad, repeat or format, none of which chat templates use.
REMOVED_FILTERS = ("batch", "center", "format", "indent", "pprint", "slice", "urlize", "wordwrap", "xmlattr")
REMOVED_METHODS = {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "translate", "zfill"}
WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(?:\d{4,}|\*)")


class TooMuch(SecurityError):
    """The template went past a bound."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and runs templates within bounds."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in REMOVED_FILTERS:
            del self.filters[name]
        join, replace = self.filters["join"], self.filters["replace"]
        self.filters["join"] = _checked(join, _length_of_join)
        self.filters["replace"] = _checked(replace, _length_of_replace)

    def wrap_str_format(self, value: Any) -> None:
        """jinja2 would give templates a `format` of its own, whatever `is_safe_attribute` says."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in REMOVED_METHODS and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        method = args[1]
        text = getattr(method, "__self__", None)
        if isinstance(text, str) and method.__name__ == "join" and len(args) == 3:
            _check_length(_length_of_join(None, args[2], text))
        elif isinstance(text, str) and method.__name__ == "replace" and len(args) > 3:
            _check_length(_length_of_replace(None, text, *args[2:4]))
        return super().call(*args, **kwargs)

    def compiled(self, source: str) -> Template:
        """A template whose `~` is bounded too."""
        template = self.from_string(source)
        cast("dict[str, Any]", template.root_render_func.__globals__)["str_join"] = _concatenate  # type: ignore[attr-defined]
        return template


def render(template: Template, values: dict[str, Any]) -> str:
    """The template's text. Raises TooMuch, and whatever the template raises."""
    pieces: list[str] = []
    total = 0
    with deadline(SECONDS):
        for piece in template.generate(values):
            total += len(piece)
            _check_length(total)
            pieces.append(piece)
    return "".join(pieces)


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Raises TooMuch from the line of a template that runs `seconds` after now. For this thread only."""
    end = time.monotonic() + seconds

    def line(_frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any]:
        if time.monotonic() > end:
            raise TooMuch(f"it ran longer than {seconds:g} seconds")
        return line

    def trace(frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any] | None:
        return line if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raises TooMuch when the result would be too large."""
    match operator, left, right:
        case "**", int(), int() if max(left.bit_length(), 1) * abs(right) > LARGEST_INTEGER_BITS:
            raise TooMuch("a power is too large")
        case "*", int(), int() if left.bit_length() + right.bit_length() > LARGEST_INTEGER_BITS:
            raise TooMuch("a product is too large")
        case "*", str() | list() | tuple(), int():
            _check_size(cast(Sized, left), right)
        case "*", int(), str() | list() | tuple():
            _check_size(cast(Sized, right), left)
        case "+", str(), str():
            _check_length(len(left) + len(right))
        case "+", list() | tuple(), list() | tuple():
            if len(cast(Sized, left)) + len(cast(Sized, right)) > LARGEST_LIST:
                raise TooMuch("a list is too long")
        case "%", str(), _ if WIDE_FORMAT.search(left):
            raise TooMuch("a format is too wide")
        case _:
            pass


def _check_size(value: Sized, times: int) -> None:
    if len(value) * times > (LARGEST_TEXT if isinstance(value, str) else LARGEST_LIST):
        raise TooMuch("a repetition is too long")


def _check_length(length: int) -> None:
    if length > LARGEST_TEXT:
        raise TooMuch("its text is too long")


def _concatenate(values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    _check_length(sum(map(len, texts)))
    return "".join(texts)


def _length_of_join(_context: Any, values: Any, separator: Any = "", *_: Any, **__: Any) -> int:
    if not isinstance(values, list | tuple):
        return 0
    many = cast("list[Any]", values)
    return len(many) * len(str(separator)) + sum(len(value) for value in many if isinstance(value, str))


def _length_of_replace(_context: Any, text: Any, old: Any, new: Any, *_: Any) -> int:
    whole, before, after = str(text), str(old), str(new)
    return len(whole) + (whole.count(before) * len(after) if len(after) > len(before) else 0)


def _checked(run: Callable[..., Any], length: Callable[..., int]) -> Callable[..., Any]:
    """A filter that checks the length of its result first. It keeps the marks by which jinja2 passes its context."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_length(length(*args, **kwargs))
        return run(*args, **kwargs)

    checked.__dict__.update(run.__dict__)
    return checked
