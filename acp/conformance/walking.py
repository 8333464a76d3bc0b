"""Ways through JSON that nobody has checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

Json = Any
Object = dict[str, Json]


def members(value: Json, at: str = "$") -> Iterator[tuple[str, str, Json]]:
    """Every member of every object in a value: its path, its name, its value."""
    if isinstance(value, dict):
        for key, item in cast("Object", value).items():
            yield f"{at}.{key}", key, item
            yield from members(item, f"{at}.{key}")
    elif isinstance(value, list):
        for n, item in enumerate(cast("list[Json]", value)):
            yield from members(item, f"{at}[{n}]")


def objects(value: Json) -> list[Object]:
    """The objects of a list; nothing of anything else."""
    items = cast("list[Json]", value) if isinstance(value, list) else []
    return [cast("Object", item) for item in items if isinstance(item, dict)]


def obj(value: Json) -> Object:
    """A value that is an object; an empty one for anything else."""
    return cast("Object", value) if isinstance(value, dict) else {}


def key(id: Json) -> tuple[str, Json]:
    """An id with its type, for a number is no string."""
    return type(id).__name__, id if isinstance(id, str | int | float | None) else repr(id)


def there(value: Json, gate: str) -> bool:
    """Is a capability announced? A dotted path; null, false and absent are no."""
    for part in gate.split("."):
        value = obj(value).get(part)
    return value is not None and value is not False
