"""JSON that somebody else wrote, taken apart without surprises: what has another shape is as good as empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def count(value: Any, least: int = 0) -> int:
    """A whole number of at least `least`, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else 0
