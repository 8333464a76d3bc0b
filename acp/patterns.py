"""Texts against the `pattern` and the `format` of a schema that somebody else wrote, in linear time."""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

from pydantic_core import SchemaError, SchemaValidator, core_schema

Format = Literal["email", "uri", "date", "date-time"]

LONGEST_PATTERN = 1000

_EMAIL = re.compile(
    r"[!-?A-~]{1,64}@(?=.{1,255}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE)
_CLASS = re.compile(r"\\(.)", re.DOTALL)
_CLASSES = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
"""In the patterns of JSON Schema these are ASCII."""


def matches(pattern: str, text: str) -> bool | None:
    """Whether `pattern` is found somewhere in `text`; None for a pattern that we cannot judge.

    A pattern comes from the other side, and Python's own engine can be made to take for ever. This one, Rust's, takes
    linear time, and has neither look-around nor references back.
    """
    matcher = _matcher(pattern)
    return None if matcher is None else matcher.isinstance_python(text)


@lru_cache(maxsize=128)
def _matcher(pattern: str) -> SchemaValidator | None:
    if len(pattern) > LONGEST_PATTERN:
        return None
    translated = _CLASS.sub(lambda found: _CLASSES.get(found[1], found[0]), pattern)
    try:
        return SchemaValidator(core_schema.str_schema(pattern=translated, regex_engine="rust-regex"))
    except SchemaError:
        return None


def has_format(format: Format, text: str) -> bool:
    """Whether `text` is an e-mail address, a URI (RFC 3986), a date or a time with its date (RFC 3339)."""
    match format:
        case "email":
            return _EMAIL.fullmatch(text) is not None
        case "uri":
            return _URI.fullmatch(text) is not None
        case "date":
            return _DATE.fullmatch(text) is not None and _is_day(text)
        case "date-time":
            day, separator, time = text[:10], text[10:11], _TIME.fullmatch(text[11:])
            if _DATE.fullmatch(day) is None or separator not in tuple("Tt ") or time is None:
                return False
            second = "59" if time[2] == "60" else time[2]  # a leap second
            return _is_day(f"{day}T{time[1]}:{second}{time[3].upper()}")


def _is_day(text: str) -> bool:
    try:
        (datetime if "T" in text else date).fromisoformat(text)
    except ValueError:
        return False
    return True
