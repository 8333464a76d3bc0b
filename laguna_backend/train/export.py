"""A trained or merged model as a checkpoint directory in the released layout, complete with what lies beside weights.

`laguna merge BASE ADAPTER OUT` makes one of a checkpoint and an adapter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint.adapter import adapt, read_adapter
from ..checkpoint.configuration import raw_config, read_config
from ..checkpoint.weights import load_weights, released, released_layer, write_released
from ..loading import chat_template, found, tokenizer_of
from ..model.linear import plain
from .errors import TrainingError, WrongUse
from .network import Network, gathered
from .world import World

# What lies beside a checkpoint's weights and belongs to it whatever they are. The model card is about other weights.
BESIDE = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "LICENSE", "LICENSE.md")

OF_NUMBERS = ("quantization_config", "torch_dtype", "dtype")


def write_checkpoint(tensors: Iterable[tuple[str, Tensor]], base: Path, directory: Path) -> None:
    """Write tensors under their released names in bfloat16, with configuration, tokenizer and template of `base`."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {name: value for name, value in raw_config(base).items() if name not in OF_NUMBERS} | {"dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    for name in BESIDE:
        if (base / name).exists():
            shutil.copyfile(base / name, directory / name)
    (directory / "chat_template.jinja").write_text(chat_template(base).source, encoding="utf-8")
    tokenizer_of(base).save(str(directory / "tokenizer.json"))
    write_released(tensors, directory)


def export(network: Network, base: Path, directory: Path, world: World) -> None:
    """Write a network that was trained in full. Every process calls it; the first one writes."""
    tensors = trained(network)
    if world.first:
        write_checkpoint(tensors, base, directory)
    else:
        for _ in tensors:  # gathering takes all processes
            pass
    world.meet()


def trained(network: Network) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its released name, gathered a layer at a time."""
    yield "model.embed_tokens.weight", gathered(network.embed)
    for index, layer in network.whole():
        yield from released_layer(layer, index)
    top = network.last(gathered)
    yield "model.norm.weight", top.norm
    yield "lm_head.weight", plain(top.head)


def merge(base: Path, adapter: Path, directory: Path) -> None:
    """A checkpoint and an adapter made one. Raises ConfigError, CheckpointError, TemplateFailure or ValueError."""
    config = read_config(base)
    read = read_adapter(adapter)
    weights = load_weights(base, config, dtype=torch.bfloat16).weights
    adapt(weights, read)
    write_checkpoint(released(weights), base, directory)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="laguna merge", description="Make a checkpoint of a checkpoint and an adapter, in bf16."
    )
    parser.add_argument("base", type=Path, metavar="BASE", help="the checkpoint that the adapter was trained for")
    parser.add_argument("adapter", type=Path, metavar="ADAPTER")
    parser.add_argument("out", type=Path, metavar="OUT", help="a directory that does not exist or is empty")
    given = parser.parse_args(argv)
    out: Path = given.out
    try:
        if out.exists() and any(out.iterdir()):
            raise WrongUse(f"{out} is not empty")
        merge(found(given.base), given.adapter, out)
    except (TrainingError, OSError, ValueError) as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    print(f"merged into {out}")
    return 0
