"""The generated models say what the schemas say: every definition, property, bound, value, arm and x- rule."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from model_facts import ModelFacts
from schema_facts import SchemaFacts

import acp.v1.schema
import acp.v2.schema

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from spec import condense  # noqa: E402

OFFICIAL = ROOT.parent / "shared" / "spec"
MODULES: dict[str, ModuleType] = {"v1": acp.v1.schema, "v2": acp.v2.schema}
SCHEMAS = [("v1", True, 178), ("v1", False, 252), ("v2", True, 197), ("v2", False, 262)]
names = [f"{version}-{'stable' if stable else 'unstable'}" for version, stable, _ in SCHEMAS]
each_schema = pytest.mark.parametrize(("version", "stable", "count"), SCHEMAS, ids=names)
needs_official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="the official schema files are not beside this checkout (../shared/spec)"
)


def official(version: str, stable: bool) -> Any:
    name = "schema.json" if stable else "schema.unstable.json"
    return json.loads((OFFICIAL / version / name).read_text(encoding="utf-8"))


def condensed(version: str, stable: bool) -> Any:
    text = (ROOT / "spec" / version / "schema.json").read_text(encoding="utf-8")
    return condense.project(json.loads(text), stable=stable)


def differences(version: str, stable: bool, schema: Any) -> list[str]:
    """Where the models and a schema differ, a line each."""
    expected = SchemaFacts(schema)
    models = ModelFacts(MODULES[version], set(condensed(version, False)["$defs"]), stable=stable)
    found = models.all()
    lines: list[str] = []
    compare("", expected.all(), found, lines)
    for method in expected.methods() ^ models.methods():
        lines.append(f"method {method}")
    return lines


def compare(where: str, expected: Any, found: Any, lines: list[str]) -> None:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            if key not in found:
                lines.append(f"{where}/{key} is missing in the models: {expected[key]}")
            elif key not in expected:
                lines.append(f"{where}/{key} is only in the models: {found[key]}")
            else:
                compare(f"{where}/{key}", expected[key], found[key], lines)
    elif json.dumps(expected, sort_keys=True) != json.dumps(found, sort_keys=True):
        lines.append(f"{where}: the schema says {expected}, the models say {found}")


@needs_official
@each_schema
def test_the_models_say_what_the_official_schema_says(version: str, stable: bool, count: int) -> None:
    schema = official(version, stable)
    assert len(schema["$defs"]) == count
    assert differences(version, stable, schema) == []


@each_schema
def test_the_models_say_what_the_condensed_schema_says(version: str, stable: bool, count: int) -> None:
    schema = condensed(version, stable)
    assert len(schema["$defs"]) == count
    assert differences(version, stable, schema) == []


CHANGES = [
    ("a property's type", ["PromptRequest", "properties", "sessionId"], {"type": "integer", "format": "int64"}),
    ("what is required", ["PromptRequest", "required"], ["sessionId"]),
    ("a bound", ["UsageUpdate", "properties", "used", "minimum"], 1),
    ("a value of an enumeration", ["StopReason", "oneOf", 0, "const"], "finished"),
    ("a leniency", ["ToolCallUpdate", "properties", "title", "x-deserialize-default-on-error"], False),
    ("a default", ["AgentCapabilities", "properties", "loadSession", "default"], True),
    ("an arm", ["ContentBlock", "oneOf", 0, "properties", "type", "const"], "prose"),
    ("the side of a method", ["PromptRequest", "x-side"], "client"),
]


@pytest.mark.parametrize(("path", "value"), [change[1:] for change in CHANGES], ids=[change[0] for change in CHANGES])
def test_the_comparison_notices_a_change_of_the_schema(path: list[Any], value: Any) -> None:
    schema = condensed("v1", False)
    node = schema["$defs"]
    for step in path[:-1]:
        node = node[step]
    assert node[path[-1]] != value
    node[path[-1]] = value
    assert differences("v1", False, schema) != []


def unordered(node: Any) -> Any:
    """A schema in which the order of lists does not matter."""
    if isinstance(node, dict):
        return {key: unordered(value) for key, value in node.items()}
    if isinstance(node, list):
        return sorted((unordered(item) for item in node), key=lambda item: json.dumps(item, sort_keys=True))
    return node


@needs_official
@each_schema
def test_the_condensed_file_holds_the_official_schema_without_its_prose(version: str, stable: bool, count: int) -> None:
    assert unordered(condensed(version, stable)) == unordered(condense.strip(official(version, stable)))


@needs_official
@each_schema
def test_the_readme_names_the_official_files_by_their_sums(version: str, stable: bool, count: int) -> None:
    name = "schema.json" if stable else "schema.unstable.json"
    digest = hashlib.sha256((OFFICIAL / version / name).read_bytes()).hexdigest()
    assert digest in (ROOT / "spec" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", MODULES)
def test_the_condensed_file_holds_no_sentences(version: str) -> None:
    def prose(node: Any) -> list[str]:
        if isinstance(node, dict):
            here = [node["title"]] if isinstance(node.get("title"), str) and len(node["title"].split()) > 3 else []
            here += [node["description"]] if isinstance(node.get("description"), str) else []
            return here + [text for value in node.values() for text in prose(value)]
        return [text for item in node for text in prose(item)] if isinstance(node, list) else []

    assert prose(json.loads((ROOT / "spec" / version / "schema.json").read_text(encoding="utf-8"))) == []


def test_the_checked_in_models_are_what_the_generator_writes() -> None:
    command = [sys.executable, str(ROOT / "spec" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_importing_the_models_builds_none_of_them() -> None:
    code = "import acp.v1.schema as s; print(s.PromptRequest.__pydantic_complete__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
