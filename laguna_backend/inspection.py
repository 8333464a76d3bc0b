"""`laguna info DIR`: what a checkpoint is and what it needs, read from its configuration and file sizes."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .cache import Storage, cache_bytes
from .config import ConfigError, LagunaConfig
from .loading import name_of, parameters
from .template import ChatTemplate, TemplateFailure, grammar
from .weights import CheckpointError, shards

CONTEXTS = (4096, 16_384, 32_768, 131_072, 262_144, 1_048_576)
STORAGES: tuple[Storage, ...] = ("float32", "bfloat16", "fp8")
MIB = 1 << 20


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="laguna info", description="What a checkpoint is and what it needs.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    directory: Path = parser.parse_args(argv).directory
    try:
        for name, value in facts(directory):
            print(f"{name:12} {value}")
    except ConfigError as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    return 0


def facts(directory: Path) -> list[tuple[str, str]]:
    """Names and values to show. Raises ConfigError; weights or template that are missing are said, not raised."""
    config = LagunaConfig.from_directory(directory)
    kinds = Counter("full attention" if layer.window is None else "sliding" for layer in config.layers)
    windows = sorted({layer.window for layer in config.layers if layer.window is not None})
    heads = sorted({layer.heads for layer in config.layers})
    rows = [
        ("name", name_of(directory.resolve())),
        ("layers", f"{len(config.layers)}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())),
        ("window", ", ".join(map(str, windows)) or "none"),
        ("heads", f"{'/'.join(map(str, heads))} query, {config.kv_heads} key-value, of {config.head_dim}"),
        ("experts", f"{config.experts_per_token} of {config.experts}, and a shared one"),
        ("vocabulary", f"{config.vocab_size}"),
        ("parameters", f"{parameters(config):,}"),
        ("dtype", config.dtype),
        ("weights", weights(directory)),
        ("template", template(directory)),
        ("context", f"{config.max_context:,} tokens"),
    ]
    lengths = sorted({*(size for size in CONTEXTS if size < config.max_context), config.max_context})
    for length in lengths:
        sizes = (f"{cache_bytes(config, length, storage) / MIB:,.1f} MiB {storage}" for storage in STORAGES)
        rows.append(("cache", f"{length:>9,} tokens: {', '.join(sizes)}"))
    return rows


def weights(directory: Path) -> str:
    try:
        files = shards(directory)
        return f"{sum(path.stat().st_size for path in files):,} bytes in {len(files)} file(s)"
    except (CheckpointError, OSError) as error:
        return f"cannot be read: {error}"


def template(directory: Path) -> str:
    try:
        return grammar(ChatTemplate.from_directory(directory))
    except TemplateFailure as error:
        return str(error)
