"""Typed reading of a JSON object's fields: what does not fit is refused by the name of its field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

LARGEST = 2**31 - 1
HUGE = 1e30


class ConfigError(ValueError):
    """The configuration cannot be a Laguna's. The message names the field."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object; `path` is written before its fields' names in messages. A field that is null is absent."""

    raw: Mapping[str, Any]
    path: str = ""

    def has(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        value = self.raw.get(name)
        return default if value is None else value

    def integer(self, name: str, default: int | None = None, *, least: int = 1, most: int = LARGEST) -> int:
        value = self.get(name, default)
        if not is_integer(value, least, most):
            raise ConfigError(f"{self.path}{name} is {shown(value)}, not a whole number of {least} to {most}")
        return value

    def number(self, name: str, default: float | None = None, *, least: float = -math.inf) -> float:
        value = self.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not max(least, -HUGE) <= value <= HUGE:
            bound = "" if least == -math.inf else f" of at least {least:g}"
            raise ConfigError(f"{self.path}{name} is {shown(value)}, not a number{bound}")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.get(name, default)
        if not isinstance(value, str):
            raise ConfigError(f"{self.path}{name} is {shown(value)}, not a text")
        return value

    def items(self, name: str) -> list[Any]:
        """The list in a field; an absent one is empty."""
        value = self.get(name, [])
        if not isinstance(value, list):
            raise ConfigError(f"{self.path}{name} is {shown(value)}, not a list")
        return cast("list[Any]", value)

    def mapping(self, name: str) -> Fields | None:
        """The object in a field, None when it is absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self.path}{name} is {shown(value)}, not an object")
        return Fields(cast("Mapping[str, Any]", value), f"{self.path}{name}.")


def is_integer(value: Any, least: int, most: int = LARGEST) -> bool:
    """Whether a JSON value is a whole number within bounds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
