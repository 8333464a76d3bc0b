"""The house's walls: who may import what. The table is that of the packages' chapters; a door opens here first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("acp", "acp_server", "acp_client", "laguna_backend")

PURE = ("errors", "methods", "json_text", "unions", "wire", "updates", "dialect", "dispatch", "peer", "v1/", "v2/")

# Third-party package → the files that may import it, as path prefixes.
FOREIGN = {
    "jsonrpcserver": ("acp/dispatch.py",),
    "websockets": ("acp/transports/websocket.py",),
    "hypothesis": ("acp/conformance/strategies.py",),
    "torch": ("laguna_backend/",),
    "safetensors": ("laguna_backend/weights.py",),
    "tokenizers": ("laguna_backend/",),
    "jinja2": ("laguna_backend/",),
    "numpy": ("laguna_backend/",),
    "pathspec": ("acp_server/",),
    "jsonschema": ("acp/conformance/",),
}
ANYWHERE = {"anyio", "pydantic", "pydantic_core", "annotated_types"}

# Our package → ours that it may import besides itself; exceptions by file below.
OURS = {"acp": set[str](), "acp_server": {"acp"}, "acp_client": {"acp"}, "laguna_backend": set[str]()}
DOORS = {
    # The seam: the backend speaks the agent's words for models, and nothing else of the agent.
    "laguna_backend/": {"acp_server.model"},
    # The evaluation drives the real agent as any client would, through the client library.
    "laguna_backend/nano/evaluate.py": {"acp_client", "acp.updates"},
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, by its absolute name, wherever in the file."""
    module = path.relative_to(ROOT).with_suffix("").parts
    package = module[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield stem
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def allowed_ours(name: str, target: str) -> bool:
    package = name.split("/")[0]
    if target.split(".")[0] in {package, *OURS[package]}:
        return True
    doors = {door for prefix, opened in DOORS.items() if name.startswith(prefix) for door in opened}
    return any(target == door or target.startswith(door + ".") or door.startswith(target + ".") for door in doors)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_its_place_in_the_house_allows(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for target in imports(path):
        top = target.split(".")[0]
        if top in PACKAGES:
            assert allowed_ours(name, target), f"{name} may not import {target}"
        elif top in FOREIGN:
            assert name.startswith(FOREIGN[top]), f"{name} may not import {top}"
        assert top != "tests", f"{name} imports from the tests"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_files_of_a_version_import_that_version(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for target in imports(path):
        for version in ("v1", "v2"):
            if target.startswith(f"acp.{version}"):
                assert version in name or name == "acp/dialect.py", f"{name} may not import {target}"


@pytest.mark.parametrize("stem", PURE)
def test_the_pure_part_of_acp_does_no_io(stem: str) -> None:
    found = [
        path for path in (ROOT / "acp").rglob("*.py") if path.relative_to(ROOT / "acp").as_posix().startswith(stem)
    ]
    assert found, f"there is no acp/{stem}"
    for path in found:
        tops = {target.split(".")[0] for target in imports(path)}
        assert not tops & {"anyio", "asyncio", "trio", "socket", "subprocess", "threading", "time"}, path.name


def test_torch_is_not_imported_by_importing_the_backend() -> None:
    for name in ("__init__", "backend", "worker", "config"):
        path = ROOT / "laguna_backend" / f"{name}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tops = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert "torch" not in tops, name
