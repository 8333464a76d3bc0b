"""Values drawn from the schemas, with jsonschema as the referee: what is valid passes unchanged, the rest does not."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

import acp.v1.schema
import acp.v2.schema
from acp.conformance.exploring.strategies import Values, lenient, within_formats
from acp.wire import Wire, dumps, loads, pointers

ROOT = Path(__file__).resolve().parents[2]
MODULES: dict[str, ModuleType] = {"v1": acp.v1.schema, "v2": acp.v2.schema}
quick = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=True
)


@cache
def schema(version: str) -> Any:
    text = (ROOT / "spec" / version / "schema.json").read_text(encoding="utf-8")
    return within_formats(json.loads(text))


@cache
def referee(version: str, name: str, forgiving: bool = False) -> Draft202012Validator:
    document = lenient(schema(version)) if forgiving else schema(version)
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": document["$defs"]})


@cache
def values(version: str) -> Values:
    return Values(schema(version))


def method_types() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for version, module in MODULES.items():
        types = [t for method in module.METHODS for t in (method.params, method.result) if t is not None]
        found += [(version, name) for name in sorted({t.__name__ for t in types})]
    return found


def model(version: str, name: str) -> type[Wire]:
    return getattr(MODULES[version], name)


def decode(version: str, name: str, value: Any) -> Wire | None:
    """The model, or None if it refuses the value."""
    try:
        return model(version, name).decode(value)
    except ValidationError as error:
        places = pointers(error)
        return None if places else pytest.fail("a refusal without a place")


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: true is not 1, and 1 is 1.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return left == right and (numbers or type(left) is type(right))


@pytest.mark.parametrize(("version", "name"), method_types())
def test_a_valid_value_passes_through_the_model_unchanged(version: str, name: str) -> None:
    @settings(quick, max_examples=8)
    @given(values(version).valid(name))
    def check(value: Any) -> None:
        before = copy.deepcopy(value)
        assert referee(version, name).is_valid(value)
        decoded = model(version, name).decode(value)
        assert same(loads(dumps(decoded.encode())), before)
        assert same(value, before)

    check()


@pytest.mark.parametrize("version", MODULES)
def test_an_invalid_value_is_refused_or_falls_under_a_leniency(version: str) -> None:
    names = [name for one, name in method_types() if one == version]

    @settings(quick, max_examples=500)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(names))
        value = data.draw(values(version).nearly_valid(name))
        decoded = decode(version, name, value)
        forgiven = referee(version, name, True).is_valid(value)
        assert (decoded is not None) == forgiven, (name, value)
        if decoded is not None and referee(version, name).is_valid(value):
            assert same(decoded.encode(), value), (name, value)

    check()
