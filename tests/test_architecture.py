"""The house's walls: who may import what. The table is that of the packages' chapters; a door opens here first."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("acp", "acp_server", "acp_client", "laguna_backend")

# Of acp, these and no more may wait for something; of those, these may not.
IMPURE = (
    "__main__",
    "at_once",
    "connection",
    "answering",
    "pending",
    "signals",
    "tasks",
    "transports/",
    "proxy/",
    "conformance/",
)
PURE = ("transports/lines", "transports/sse", "transports/messages", "proxy/chain", "proxy/routes", "proxy/wrapping")
WAITING = {"anyio", "asyncio", "trio", "socket", "subprocess", "threading", "time", "select", "signal"}

# Third-party package → the files that may import it, as path prefixes.
FOREIGN = {
    "jsonrpcserver": ("acp/dispatch.py",),
    "websockets": ("acp/transports/websocket.py", "acp/transports/websocket_opening.py"),
    "h11": ("acp_server/network/http1.py",),
    "h2": ("acp_server/network/http2.py",),
    "httpx2": ("acp/transports/http_wire.py", "acp_server/mcp/transports.py", "acp_server/openai/exchange.py"),
    "hypothesis": ("acp/conformance/exploring/strategies.py", "acp/conformance/exploring/explore.py"),
    "torch": ("laguna_backend/",),
    "triton": ("laguna_backend/kernels/triton/",),
    "safetensors": ("laguna_backend/checkpoint/weights.py",),
    "tokenizers": ("laguna_backend/",),
    "jinja2": ("laguna_backend/",),
    "mcp": ("acp_server/mcp/",),
    "mcp_types": ("acp_server/mcp/",),
    "huggingface_hub": ("laguna_backend/checkpoint/hub.py",),
    "gguf": (),  # optional: `laguna_backend/checkpoint/gguf_file.py` asks for it by name
    "numpy": ("laguna_backend/",),
    "textual": ("acp_client/chat/",),
    "rich": ("acp_client/chat/",),
    "pathspec": ("acp_server/",),
    "psycopg": ("acp_server/storage/postgres.py",),
    "pytest": ("acp/conformance/pytest_plugin.py",),
    "jsonschema": ("acp/conformance/",),
    "starlette": ("laguna_backend/serve/",),
    "uvicorn": ("laguna_backend/serve/command.py", "laguna_backend/serve/patient.py"),
    "pydantic": ("acp/", "acp_server/", "acp_client/", "laguna_backend/serve/"),
    "pydantic_core": ("acp/",),
    "annotated_types": ("acp/",),
    "anyio": (
        "acp/",
        "acp_server/",
        "acp_client/",
        *(f"laguna_backend/engine/{name}.py" for name in ("worker", "relay")),
        "laguna_backend/serve/",
        "laguna_backend/nano/evaluate.py",
    ),
}

# Our package → ours that it may import besides itself; exceptions by file below.
OURS = {"acp": set[str](), "acp_server": {"acp"}, "acp_client": {"acp"}, "laguna_backend": set[str]()}
DOORS = {
    # The seam: the backend speaks the agent's words for models, reads spelled calls as it does, and nothing else of it.
    "laguna_backend/": {"acp_server.model", "acp_server.spelled"},
    # A server of the model judges who comes in as the agent's server does.
    "laguna_backend/serve/": {"acp_server.network.gate", "acp_server.network.admission", "acp.transports.remote"},
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
        elif top not in sys.stdlib_module_names:
            assert name.startswith(FOREIGN.get(top, ())), f"{name} may not import {top}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_a_package_import_one_another_in_one_direction(package: str) -> None:
    folders = {folder.name for folder in (ROOT / package).iterdir() if (folder / "__init__.py").exists()}
    below: dict[str, set[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        place = _place(path.relative_to(ROOT).with_suffix("").parts, folders)
        targets = (target.split(".") for target in imports(path) if target.split(".")[0] == package)
        below.setdefault(place, set()).update(_place(target, folders) for target in targets)
    for folder in folders:
        reached, ahead = set[str](), below[f"{folder}/"] - {f"{folder}/"}
        while ahead:
            place = ahead.pop()
            reached.add(place)
            ahead |= below.get(place, set()) - reached
        assert f"{folder}/" not in reached, f"{package}/{folder}/ imports what imports it"


def _place(module: Sequence[str], folders: Collection[str]) -> str:
    """The folder of a package that a module is in, or the module itself."""
    name = module[1] if len(module) > 1 else "__init__"
    return f"{name}/" if name in folders else name


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_files_of_a_version_import_that_version(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for target in imports(path):
        for version in ("v1", "v2"):
            if target.startswith(f"acp.{version}"):
                assert version in name or name == "acp/dialect.py", f"{name} may not import {target}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_pure_part_of_acp_does_no_io(path: Path) -> None:
    package, _, name = path.relative_to(ROOT).as_posix().partition("/")
    if package == "acp" and (not name.startswith(IMPURE) or name.startswith(PURE)):
        assert not WAITING & {target.split(".")[0] for target in imports(path)}


def test_the_conformance_checks_are_an_opinion_of_their_own() -> None:
    for path in (ROOT / "acp" / "conformance").rglob("*.py"):
        ours = {target for target in imports(path) if target.startswith("acp.")}
        assert not [name for name in ours if name.startswith(("acp.v1", "acp.v2", "acp.dialect", "acp.updates"))]


def test_torch_is_not_imported_on_the_way_to_the_first_answer() -> None:
    code = "import sys, acp_server.__main__, laguna_backend; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_two_test_files_have_one_name() -> None:
    """Else pytest collects neither: to it a file is a module, and the folders of the tests are no packages."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
