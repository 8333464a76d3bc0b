"""JSON texts in and out, strictly.

`loads` refuses what RFC 8259 does not allow and what could not be sent on again: NaN and Infinity, numbers too large
for a float, invalid UTF-8, lone surrogates, more than 200 levels of nesting, integers of more than 4,300 digits.
Of a repeated key the last value counts, as in every JSON library that ACP peers use.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, cast

from pydantic_core import from_json

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of these."""

_LARGE_EXPONENT, _MANY_DIGITS = re.compile(rb"[0-9][eE]\+?[0-9]{2}"), re.compile(rb"[0-9]{300}")
"""What only a number too large for a float has, and some texts; two patterns, for together they take thrice as long."""
_LARGE_NUMBER = re.compile(rb"(?:^|[\s\[:,-])[0-9]+(?:\.[0-9]+)?[eE]\+?[0-9]{2}")
"""The first of them where a number begins; an id in hexadecimal, say, has only that."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encoder() -> Callable[[Json], str]:
    """The strict encoder's work. It makes its inner one anew for every value, which costs more than a small message."""
    inner: Any = json.encoder
    make: Any = inner.c_make_encoder
    if make is None:  # a Python without the C part
        return _strict.encode
    chunks: Any = make(None, _strict.default, inner.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


_encode = _encoder()


def loads(text: bytes | str) -> Json:
    """The value of one JSON text; ValueError says what is wrong and where."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    value: Json = from_json(raw, allow_inf_nan=False)
    suspect = _LARGE_EXPONENT.search(raw) and _LARGE_NUMBER.search(raw)
    suspect = suspect or (len(raw) > 300 and _MANY_DIGITS.search(raw))
    if suspect and not _is_finite(value):
        raise ValueError("a number is too large for a float")
    return value


def dumps(value: Json) -> bytes:
    """`value` as one line of UTF-8 without spaces. ValueError if it is not JSON; a lone surrogate becomes U+FFFD."""
    try:
        text = _encode(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from error
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8")


def _is_finite(value: Json) -> bool:
    pending: list[Json] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(cast("dict[str, Json]", item).values())
        elif isinstance(item, list):
            pending.extend(cast("list[Json]", item))
        elif isinstance(item, float) and not math.isfinite(item):
            return False
    return True
