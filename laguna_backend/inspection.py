"""`laguna info DIR`: what a checkpoint is and what it needs, read from its configuration and its files' headers."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from .chat.template import TemplateFailure, grammar
from .checkpoint.configuration import read_config
from .checkpoint.gguf_file import gguf_files, kinds_of
from .checkpoint.memory import WORKING, Place, longest, places, weight_bytes
from .checkpoint.shards import INDEX, SINGLE, CheckpointError, shards
from .checkpoint.weights import open_source
from .loading import chat_template, found, name_of, parameters
from .model.cache import Storage, cache_bytes
from .model.config import ConfigError, LagunaConfig
from .model.linear import ON_ACCELERATOR, ON_CPU

CONTEXTS = (4096, 16_384, 32_768, 131_072, 262_144, 1_048_576)
STORAGES: tuple[Storage, ...] = ("float32", "bfloat16", "fp8")
SHOWN: Mapping[str, Storage] = {"bf16 cache": "bfloat16", "FP8 cache": "fp8"}
MIB = 1 << 20


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="laguna info", description="What a checkpoint is and what it needs.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    directory = found(parser.parse_args(argv).directory)
    try:
        for name, value in facts(directory):
            print(f"{name:12} {value}")
        problem = fault(directory, read_config(directory))
    except ConfigError as error:
        problem = str(error)
    if problem:
        print(f"laguna: {problem}", file=sys.stderr)
    return 1 if problem else 0


def facts(directory: Path) -> list[tuple[str, str]]:
    """Names and values to show. Raises ConfigError; what is wrong with weights or template is said, not raised."""
    config = read_config(directory)
    problem = fault(directory, config)
    scaled = not (config.quantization and config.quantization.cache_fp8)
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
        ("weights", f"cannot be read: {problem}" if problem else weights(directory)),
        ("format", "unknown" if problem else number_format(directory, config)),
        ("template", template(directory)),
        ("context", f"{config.max_context:,} tokens"),
    ]
    lengths = sorted({*(size for size in CONTEXTS if size < config.max_context), config.max_context})
    for length in lengths:
        sizes = (f"{cache_bytes(config, length, storage) / MIB:,.1f} MiB {storage}" for storage in STORAGES)
        scales = cache_bytes(config, length, "fp8", scaled=scaled) - cache_bytes(config, length, "fp8")
        more = f", and {scales / MIB:,.1f} MiB for its scales" if scales else ""
        rows.append(("cache", f"{length:>9,} tokens: {', '.join(sizes)}{more}"))
    for narrow, precisions in ((False, ON_CPU), (True, ON_ACCELERATOR)):
        sizes = ((name, weight_bytes(config, name, narrow=narrow)) for name in precisions)
        told = ", ".join(f"{size / MIB:,.0f} MiB in {name}" for name, size in sizes)
        rows.append(("memory", f"{told} ({'accelerators' if narrow else 'CPU'})"))
    fits = "would fit" if problem else "fits"
    rows += [(fits, fitting(config, place, scaled=scaled)) for place in places()]
    return rows


def fault(directory: Path, config: LagunaConfig) -> str | None:
    """What is wrong with a checkpoint's weights as far as headers and sizes tell: missing, cut short, no weights."""
    try:
        with ExitStack() as files:
            source = open_source(directory, files, config)
            if "model.embed_tokens.weight" not in source:
                return "the files have no tensor model.embed_tokens.weight"
    except (CheckpointError, OSError) as error:
        return str(error)
    return None


def fitting(config: LagunaConfig, place: Place, *, scaled: bool) -> str:
    """What of a model fits one device: the longest context with each cache, a GiB set aside to work in."""
    fits: list[str] = []
    for precision in place.precisions:
        room = place.free - weight_bytes(config, precision, narrow=place.narrow) - WORKING
        if room < cache_bytes(config, 1, "fp8", scaled=scaled):
            fits.append(f"{precision} does not fit")
            continue
        lengths = (
            f"{longest(config, room, storage, scaled=scaled):,} tokens ({name})" for name, storage in SHOWN.items()
        )
        fits.append(f"{precision} with {', '.join(lengths)}")
    return f"{place.name}, {place.free / MIB:,.0f} MiB free: {'; '.join(fits)}"


def number_format(directory: Path, config: LagunaConfig) -> str:
    """How the weights are stored: declared by the configuration, or by the files themselves."""
    files = weight_files(directory)
    if files[0].suffix == ".gguf":
        counts: Counter[str] = Counter()
        for path in files:
            counts.update(kinds_of(path))
        stored = "GGUF: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    else:
        stored = str(config.quantization) if config.quantization else f"safetensors, {config.dtype}"
    bits = 8 * sum(path.stat().st_size for path in files) / parameters(config)
    cache = ", FP8 cache with scales" if config.quantization and config.quantization.cache_fp8 else ""
    return f"{stored}; {bits:.1f} bits a parameter{cache}"


def weight_files(directory: Path) -> list[Path]:
    """The files of a checkpoint's weights. Raises CheckpointError."""
    plain = (directory / SINGLE).exists() or (directory / INDEX).exists()
    return shards(directory) if plain else gguf_files(directory) or shards(directory)


def weights(directory: Path) -> str:
    files = weight_files(directory)
    return f"{sum(path.stat().st_size for path in files):,} bytes in {len(files)} file(s)"


def template(directory: Path) -> str:
    try:
        return grammar(chat_template(directory))
    except (TemplateFailure, CheckpointError) as error:
        return str(error)
