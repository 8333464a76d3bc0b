"""`laguna fidelity`: how far a rounded cache or packed weights take a model's predictions from those it would make.

The same tokens go through the model with and without the rounding, and each position's two distributions over the next
token are compared: the Kullback-Leibler divergence in nats, and how often the most likely token is the same one. An FP8
cache is told apart by kind of layer. Random weights make nearly even distributions, whose best token changes easily;
laguna-nano's are those of a trained model.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..backend import NANO, group_of
from ..checkpoint.configuration import read_config
from ..checkpoint.weights import CheckpointError, load_weights
from ..loading import found, parameters, tokenizer_of
from ..model.cache import KVCache, Storage
from ..model.config import ConfigError, LagunaConfig
from ..model.device import place, spread
from ..model.forward import Laguna, joined
from ..model.linear import GROUPS, PRECISIONS, Packer
from ..nano.names import Names
from ..nano.train import conversation
from .slice import SHAPES, packed, pooled_weights, shape_config

CHUNK = 128  # positions whose distributions are there at once
SMALLER = 48  # to see what sums in another order change, which is no rounding of ours
NOISE = "the same in smaller chunks"

Scales = Mapping[tuple[int, str], float]
"""An FP8 cache's own, by layer and part."""
Layers = Mapping[int, Storage]
"""How the cache of some layers is kept, where that is not how the others' is."""


@dataclass(frozen=True)
class Distance:
    """Of one way to round from the way that it is measured against, over `positions`."""

    name: str
    kl: float
    """nats, mean"""
    worst: float
    top1: float
    """share of the positions at which the most likely token is the same"""
    positions: int


class Comparison:
    """Gathers distances of predictions, chunk by chunk."""

    def __init__(self) -> None:
        self.kl: list[Tensor] = []
        self.same: list[Tensor] = []

    def add(self, expected: Tensor, found: Tensor) -> None:
        """Logits [T, V] of the same positions."""
        p, q = expected.double().log_softmax(-1), found.double().log_softmax(-1)
        self.kl.append((p.exp() * (p - q)).sum(-1))
        self.same.append(expected.argmax(-1) == found.argmax(-1))

    def distance(self, name: str) -> Distance:
        kl, same = torch.cat(self.kl), torch.cat(self.same).double()
        return Distance(name, float(kl.mean()), float(kl.max()), float(same.mean()), len(kl))


def kinds(config: LagunaConfig, storage: Storage) -> dict[str, Layers]:
    """That storage in the layers of each kind, and in all."""
    full: dict[int, Storage] = {i: storage for i, spec in enumerate(config.layers) if spec.window is None}
    sliding: dict[int, Storage] = {i: storage for i, spec in enumerate(config.layers) if spec.window is not None}
    return {"full layers": full, "sliding layers": sliding, "all layers": full | sliding}


@torch.inference_mode()
def cache_distances(
    laguna: Laguna, texts: Sequence[Sequence[int]], scales: Mapping[tuple[int, str], float]
) -> list[Distance]:
    """Of an FP8 cache from one in bfloat16, by kind of layer. To compare with: of one in float32, and of the very same
    when the tokens come in smaller chunks, which is the noise of the model's own arithmetic."""
    config = laguna.config
    ways: dict[str, tuple[Storage, Layers]] = {
        f"FP8 cache in {name}": ("bfloat16", layers) for name, layers in kinds(config, "fp8").items() if layers
    }
    ways["float32 cache"] = ("float32", {})
    ways[NOISE] = ("bfloat16", {})
    found = {name: Comparison() for name in ways}
    for text in texts:
        plain = KVCache(config, storage="bfloat16")
        caches = {
            name: KVCache(config, storage=storage, layers=layers, scales=scales)
            for name, (storage, layers) in ways.items()
        }
        for tokens in torch.tensor([list(text)]).split(CHUNK, dim=1):
            expected = laguna.forward(tokens, plain)[0]
            for name, cache in caches.items():
                pieces = tokens.split(SMALLER, dim=1) if name == NOISE else (tokens,)
                logits = [laguna.forward(piece, cache)[0] for piece in pieces]
                found[name].add(expected, torch.cat(logits))
    return [comparison.distance(name) for name, comparison in found.items()]


@torch.inference_mode()
def weight_distance(exact: Laguna, rounded: Laguna, texts: Sequence[Sequence[int]], name: str) -> Distance:
    """Of packed weights from those they were made of, their input rounded as the kernels round it."""
    comparison = Comparison()
    for text in texts:
        caches = [KVCache(exact.config, storage="bfloat16") for _ in range(2)]
        for tokens in torch.tensor([list(text)]).split(CHUNK, dim=1):
            logits = (model.forward(tokens, cache)[0] for model, cache in zip((exact, rounded), caches, strict=True))
            comparison.add(*logits)
    return comparison.distance(name)


# The command ---------------------------------------------------------------------------------------------


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="laguna fidelity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "directory", type=Path, nargs="?", metavar="DIR", help="a checkpoint; nano: the one shipped here"
    )
    parser.add_argument("--shape", choices=SHAPES, default="xs2", help="without DIR: a slice with random weights")
    parser.add_argument("--layers", type=int, default=4, metavar="N", help="of the slice")
    parser.add_argument("--text", type=Path, metavar="FILE", help="what the model reads; else code, or nano's tasks")
    parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="positions that are compared")
    parser.add_argument("--weights", choices=PRECISIONS[1:], help="compare packed weights instead of the cache")
    parser.add_argument("--group", type=int, choices=GROUPS, help="INT4's groups; default 32")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    given = parser.parse_args(argv)
    if not 1 < given.tokens <= 131_072 or not 0 < given.layers <= 4096:
        parser.error("--tokens and --layers are positive numbers")
    try:
        given.group = group_of(given.weights or "bf16", given.group)
    except ValueError as error:
        parser.error(f"--group: {error}")
    return given


def main(argv: Sequence[str]) -> int:
    given = arguments(argv)
    try:
        name, laguna, scales, texts = subject(given)
    except (ConfigError, CheckpointError, ValueError, OSError) as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    if given.weights:
        packer = Packer(given.weights, given.group, narrow=given.weights == "fp8")
        rounded = Laguna(laguna.config, packed(laguna.weights, packer))
        label = f"{given.weights} weights" + (f", groups of {given.group}" if given.weights == "int4" else "")
        rows = [weight_distance(laguna, rounded, texts, label)]
    else:
        rows = cache_distances(laguna, texts, scales)
    if given.json:
        print(json.dumps({"model": name, "distances": [asdict(row) for row in rows]}))
        return 0
    print(f"{name}, {rows[0].positions} positions")
    print("| beside the bf16 model | KL, nats | worst | same best token |\n|---|---:|---:|---:|")
    for row in rows:
        print(f"| {row.name} | {row.kl:.2e} | {row.worst:.2e} | {row.top1:.2%} |")
    return 0


Subject = tuple[str, Laguna, Scales, list[list[int]]]


def subject(given: argparse.Namespace) -> Subject:
    """What is measured: its name, the model, its cache's scales, and what it reads, `tokens` in all."""
    count: int = given.tokens
    if given.directory is None:
        raw = shape_config(given.shape, given.layers)
        config = LagunaConfig.from_dict(raw)
        spread(place("cpu"), parameters(config))
        generator = torch.Generator().manual_seed(2)
        text = torch.randint(0, config.vocab_size, (count,), generator=generator).tolist()
        name = f"{given.shape}, {given.layers} layers, random weights, random tokens"
        return name, Laguna(config, joined(pooled_weights(config))), {}, [text]
    directory = found(given.directory)
    config = read_config(directory)
    placement = place("cpu", parameters=parameters(config))
    spread(placement, parameters(config))
    loaded = load_weights(directory, config, dtype=placement.dtype)
    laguna = Laguna(config, joined(loaded.weights))
    tokenizer = tokenizer_of(directory)
    if directory.resolve() == NANO.resolve() and given.text is None:
        names, texts = Names(random.Random(9), held_out=True), list[list[int]]()
        while sum(map(len, texts)) < count:
            texts.append(conversation(tokenizer, names).ids[: config.max_context])
        return "laguna-nano, held-out tasks", laguna, loaded.cache_scales, texts
    path: Path = given.text or Path(__file__)
    ids = tokenizer.encode(path.read_text(encoding="utf-8"), add_special_tokens=False).ids
    if not ids:
        raise ValueError(f"{path} is empty")
    ids = [*config.eos[:1], *ids, *ids * (count // len(ids))][: min(count, config.max_context)]
    return f"{directory.name}, {path.name}", laguna, loaded.cache_scales, [ids]
