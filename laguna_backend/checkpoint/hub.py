"""Checkpoints of the Hugging Face hub by name, `org/name`: fetched by `laguna pull`, found again where it put them.

The only file that imports huggingface_hub, and only when there is something to ask it. What was fetched lies in its own
cache (`$HF_HOME`), shared with every other program that uses it. A connection that breaks is taken up where it broke; a
pull that failed or was stopped goes on with the files that are missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..model.config import ConfigError
from .configuration import read_config

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = ("*.json", "*.safetensors", "*.gguf", "*.jinja", "LICENSE*", "README.md")
SPARE = 1 << 28  # bytes of disk that are left alone


class HubError(RuntimeError):
    """A checkpoint cannot be had. The message says why, and what can be done."""


def is_name(text: str) -> bool:
    """Whether this is a name on the hub, as far as its form tells."""
    return NAME.fullmatch(text) is not None and not Path(text).exists()


def pulled(name: str) -> Path | None:
    """Where a checkpoint lies that was pulled before, if in part; nothing is asked of the network.

    Its main revision, or the one that came last.
    """
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) / folder_of(name)
    try:
        snapshots = sorted((place / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime)
        main = place / "refs" / "main"
        chosen = place / "snapshots" / main.read_text().strip() if main.exists() else snapshots[-1]
        return chosen if chosen.is_dir() else None
    except (OSError, IndexError):
        return None


def look(directory: Path, adapter: Path | None = None) -> Path:
    """The directory of a checkpoint, which is there as its adapter is. Raises ValueError."""
    place = (pulled(str(directory)) or directory) if is_name(str(directory)) else directory
    if not place.is_dir():
        hint = f"; `laguna pull {directory}` fetches it" if is_name(str(directory)) else ""
        raise ValueError(f"there is no checkpoint directory {place}{hint}")
    if adapter and not adapter.is_dir():
        raise ValueError(f"there is no adapter directory {adapter}")
    return place


def folder_of(name: str) -> str:
    """Where the hub's library keeps a repository, within its cache."""
    return f"models--{name.replace('/', '--')}"


def pull(name: str, *, revision: str | None = None, wanted: Sequence[str] = WANTED) -> Path:
    """Fetch a checkpoint, or what is missing of it, and give back its directory. Raises HubError.

    Its configuration comes first: what is no Laguna, or has no room on the disk, is refused before the weights come.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    if NAME.fullmatch(name) is None:
        raise HubError(f"{name!r} is no name on the hub; one is ORG/NAME")
    try:
        found: Any = HfApi().model_info(name, revision=revision, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in found.siblings or ()}
        kept = {file: size for file, size in files.items() if any(fnmatch(file, pattern) for pattern in wanted)}
        if not any(file.endswith((".safetensors", ".gguf")) for file in kept):
            raise HubError(f"{name} has no weights that match {' '.join(wanted)}")
        if "config.json" in files:
            read_config(Path(hf_hub_download(name, "config.json", revision=revision)).parent)
        place = Path(constants.HF_HUB_CACHE)
        place.mkdir(parents=True, exist_ok=True)
        missing, free = sum(kept.values()) - held(place, name), shutil.disk_usage(place).free
        if missing + SPARE > free:
            raise HubError(f"{name} takes {missing / 2**20:,.0f} MiB more, {place} has {free / 2**20:,.0f} free")
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(kept)))
    except ConfigError as error:
        raise HubError(f"{name} is no Laguna that is known here: {error}") from error
    except Exception as error:  # its own errors, httpx's and the system's: all of them mean that it did not come
        if isinstance(error, HubError):
            raise
        raise HubError(f"{name} cannot be had: {told(error)}") from error


def held(place: Path, name: str) -> int:
    """Bytes that are there already, whole or begun."""
    blobs = place / folder_of(name) / "blobs"
    return sum(path.stat().st_size for path in blobs.glob("*")) if blobs.exists() else 0


def told(error: Exception) -> str:
    """An error of the hub's library in a line, with what can be done about it."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if kind == "GatedRepoError":
        return "its owner asks for consent first, and for a token (`hf auth login`)"
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return "the hub knows no such name or revision, or it is private (`hf auth login`)"
    if "Connect" in kind or "Timeout" in kind or kind in ("OfflineModeIsEnabled", "LocalEntryNotFoundError"):
        return f"the hub cannot be reached ({kind}); pull again when it can"
    return f"{text[:300] or kind}; what came is kept, pull again to go on"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="laguna pull", description="Fetch a checkpoint, or go on fetching it.")
    parser.add_argument("name", metavar="ORG/NAME")
    parser.add_argument("--revision", metavar="R", help="a branch, a tag or a commit")
    parser.add_argument("--include", action="append", metavar="PATTERN", help="only such weights, as *Q4_K_M.gguf")
    given = parser.parse_args(argv)
    small = tuple(pattern for pattern in WANTED if "safetensors" not in pattern and "gguf" not in pattern)
    wanted = (*small, *given.include) if given.include else WANTED
    try:
        print(pull(given.name, revision=given.revision, wanted=wanted))
    except HubError as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    return 0
