"""The method tables of the generated modules: every method once as a constant, opened by a capability that exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import acp.v1.schema
import acp.v2.schema
from acp.methods import Method

ROOT = Path(__file__).resolve().parents[2]
MODULES: dict[str, ModuleType] = {"v1": acp.v1.schema, "v2": acp.v2.schema}
each_version = pytest.mark.parametrize("version", MODULES)


def definitions(version: str) -> dict[str, Any]:
    return json.loads((ROOT / "spec" / version / "schema.json").read_text(encoding="utf-8"))["$defs"]


@each_version
def test_every_method_is_a_constant_named_after_it(version: str) -> None:
    module = MODULES[version]
    methods: tuple[Method[Any, Any], ...] = module.METHODS
    assert len({(method.name, method.side, method.is_notification) for method in methods}) == len(methods)
    for method in methods:
        constant = re.sub(r"[^A-Za-z]+", "_", method.name).strip("_").upper()
        assert method in (getattr(module, constant, None), getattr(module, f"{constant}_NOTIFICATION", None))


@each_version
def test_the_table_is_the_schemas(version: str) -> None:
    marked = {(d["x-method"], name) for name, d in definitions(version).items() if "x-method" in d}
    methods: tuple[Method[Any, Any], ...] = MODULES[version].METHODS
    types = [(m.name, t.__name__) for m in methods for t in (m.params, m.result) if t is not None]
    assert sorted(types) == sorted(marked)


@each_version
def test_a_method_is_stable_unless_only_the_unstable_schema_has_it(version: str) -> None:
    methods: tuple[Method[Any, Any], ...] = MODULES[version].METHODS
    for method in methods:
        assert method.stable == (not definitions(version)[method.params.__name__].get("x-unstable", False))


@each_version
def test_a_method_is_opened_by_a_capability_that_the_receiver_can_advertise(version: str) -> None:
    known = definitions(version)
    methods: tuple[Method[Any, Any], ...] = MODULES[version].METHODS
    gated = [method for method in methods if method.needs]
    assert gated
    for method in gated:
        name = {"agent": "AgentCapabilities", "client": "ClientCapabilities"}[method.side]
        for step in (method.needs or "").split("."):
            assert step in known[name]["properties"], (method.name, method.needs)
            targets = re.findall(r"#/\$defs/(\w+)", json.dumps(known[name]["properties"][step]))
            name = targets[0] if targets else ""


def test_the_methods_of_one_whole_turn_are_there_and_stable() -> None:
    names = {method.name for method in acp.v1.schema.METHODS if method.stable}
    turn = {"initialize", "session/new", "session/prompt", "session/cancel", "session/update", "$/cancel_request"}
    assert turn <= names
