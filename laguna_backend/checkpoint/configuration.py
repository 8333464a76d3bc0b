"""A checkpoint directory's configuration: `config.json`, or what a GGUF file says in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..model.config import ConfigError, LagunaConfig


def read_config(directory: Path | str) -> LagunaConfig:
    """Read `config.json`, and `generation_config.json` for the stop tokens where there is one.

    A directory without it may hold a GGUF file, which describes itself. Raises ConfigError: no such file, not JSON,
    not a Laguna.
    """
    folder = Path(directory)
    raw = raw_config(folder)
    config = LagunaConfig.from_dict(raw)
    generation = folder / "generation_config.json"
    eos = read_json(generation).get("eos_token_id") if generation.exists() else None
    if eos is None:
        return config
    try:
        return LagunaConfig.from_dict({**raw, "eos_token_id": eos})
    except ConfigError as error:
        raise ConfigError(f"{generation.name}: {error}") from error


def raw_config(folder: Path) -> dict[str, Any]:
    """What stands in `config.json`, or what it would be. Raises ConfigError."""
    if (folder / "config.json").exists() or not any(folder.glob("*.gguf")):
        return read_json(folder / "config.json")
    from .gguf_file import gguf_config, gguf_files  # brings torch
    from .shards import CheckpointError

    try:
        return gguf_config(gguf_files(folder)[0])
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises ConfigError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]
