"""Adapters: what LoRA adds to a checkpoint's matrices, and the two files that hold it.

`adapter_model.safetensors` has `base_model.model.<module>.lora_A.weight` [r, K] and `.lora_B.weight` [N, r] for each
module, which is named as in a released checkpoint, one for each expert. `adapter_config.json` is PEFT's, whose package
can put the adapter on transformers' Laguna. A module's weight is W + alpha / r * B A.

An adapter can be merged into plain weights, or attached: then every product goes through it, which is what packed
weights need, whose steps are too wide for what it adds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields import Fields, shown
from ..model.config import ConfigError
from ..model.linear import LowRank, Matrix, plain, tensors_of
from ..model.parameters import Apart, Dense, Layer, Weights
from .configuration import read_json
from .shards import CheckpointError, Shard
from .weights import write_tensors

TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")
EXPERT = re.compile(r"\.experts\.(\d+)\.")
SHARED, SHARED_IN_TRANSFORMERS = ".mlp.shared_expert.", ".mlp.shared_experts."
# What PEFT can do besides, and we do not: fields that must not be set.
REFUSED = ("use_dora", "modules_to_save", "layer_replication", "fan_in_fan_out", "lora_bias")
# In transformers the gates and ups of all experts are one parameter. PEFT makes one part for it out of our two, which
# has twice the rank and so must have twice the alpha.
FUSED = r".*\.gate_up_proj"


@dataclass(frozen=True, slots=True)
class Low:
    """What is added to one module, before scaling: up @ down. down [r, K] and up [N, r]; of a layer's experts, which
    are one module here (`…mlp.experts.gate_proj`), a stack of each."""

    down: Tensor
    up: Tensor


@dataclass(frozen=True)
class Adapter:
    """The parts of an adapter by module, and what multiplies them all. `base` names the checkpoint, for people."""

    parts: Mapping[str, Low]
    rank: int
    alpha: float
    dropout: float = 0.0
    rank_stabilised: bool = False
    base: str = ""

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


# Where parts belong --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slot:
    """A matrix of a layer, and the modules that are its rows, one after another."""

    owner: Any
    field: str
    modules: tuple[str, ...]
    rows: tuple[int, ...]

    @property
    def matrix(self) -> Matrix:
        return getattr(self.owner, self.field)

    @property
    def device(self) -> torch.device:
        return tensors_of(self.matrix)[0].device

    def attach(self, parts: Mapping[str, Low], scale: float, dropout: float = 0.0) -> None:
        """Put what there is for these modules beside the matrix."""
        mine = [(place, parts[name]) for place, name in enumerate(self.modules) if name in parts]
        if not mine:
            return
        ranks = [part.down.shape[-2] for _, part in mine]
        starts = [0, *accumulate(ranks)]
        ups: list[Tensor] = []
        for place, rows in enumerate(self.rows):  # a block for each module, zeros for one that has no part
            at = next((at for at, (owner, _) in enumerate(mine) if owner == place), None)
            if at is None:
                like = mine[0][1].up
                ups.append(like.new_zeros(*like.shape[:-2], rows, starts[-1]))
            else:
                ups.append(F.pad(mine[at][1].up, (starts[at], starts[-1] - starts[at + 1])))
        base = self.matrix
        if isinstance(base, LowRank):
            raise TypeError(f"{self.modules[0]} has an adapter already")
        down = torch.cat([part.down for _, part in mine], dim=-2)
        setattr(self.owner, self.field, LowRank(base, down, torch.cat(ups, dim=-2), scale, dropout))

    @torch.no_grad()
    def merge(self, parts: Mapping[str, Low], scale: float) -> None:
        """Add what there is for these modules to the matrix where it lies, rounded once from float32."""
        for name, rows in zip(self.modules, plain(self.matrix).split(self.rows, dim=-2), strict=True):
            if name not in parts:
                continue
            part = parts[name]
            pieces = zip(rows, part.down, part.up, strict=True) if rows.dim() == 3 else [(rows, part.down, part.up)]
            for weight, down, up in pieces:
                more = up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32)
                weight.copy_(weight.float() + scale * more)


def slots(layer: Layer, index: int) -> Iterator[Slot]:
    """The matrices of a layer that an adapter may add to: attention, shared expert, experts, dense feed-forward."""
    at = f"model.layers.{index}"
    names = tuple(f"{at}.self_attn.{name}_proj" for name in "qkvg")
    if isinstance(layer.inputs, Apart):
        for name, part in zip(names, fields(layer.inputs), strict=True):
            yield Slot(layer.inputs, part.name, (name,), (getattr(layer.inputs, part.name).shape[0],))
    else:
        yield Slot(layer.inputs, "rows", names, layer.inputs.sizes)
    yield Slot(layer, "out", (f"{at}.self_attn.o_proj",), (layer.out.shape[0],))
    mlp = layer.mlp
    if isinstance(mlp, Dense):
        yield from _feed_forward(mlp, "gate_up", "down", f"{at}.mlp")
    else:
        yield from _feed_forward(mlp, "gate_up", "down", f"{at}.mlp.experts")
        yield from _feed_forward(mlp, "shared_gate_up", "shared_down", f"{at}.mlp.shared_expert")


def _feed_forward(owner: Any, gate_up: str, down: str, at: str) -> Iterator[Slot]:
    inner = getattr(owner, gate_up).shape[-2] // 2
    yield Slot(owner, gate_up, (f"{at}.gate_proj", f"{at}.up_proj"), (inner, inner))
    yield Slot(owner, down, (f"{at}.down_proj",), (getattr(owner, down).shape[-2],))


def every_slot(weights: Weights) -> Iterator[Slot]:
    for index, layer in enumerate(weights.layers):
        yield from slots(layer, index)


def check(adapter: Adapter, found: Iterable[Slot]) -> None:
    """Raises CheckpointError where a part has no place or another shape than its module."""
    shapes = {
        name: (*slot.matrix.shape[:-2], rows, slot.matrix.shape[-1])
        for slot in found
        for name, rows in zip(slot.modules, slot.rows, strict=True)
    }
    for name, part in adapter.parts.items():
        if name not in shapes:
            raise CheckpointError(f"the adapter is for another model: this one has no {name}")
        fits = part.up.shape[:-1] == shapes[name][:-1] and part.down.shape[-1] == shapes[name][-1]
        if not fits or part.down.shape[:-2] != shapes[name][:-2] or part.down.shape[-2] != part.up.shape[-1]:
            sides = f"{list(part.up.shape)} times {list(part.down.shape)}"
            raise CheckpointError(f"the adapter is for another model: {name} is {list(shapes[name])}, its part {sides}")


def adapt(weights: Weights, adapter: Adapter) -> None:
    """Make the weights those of the adapted model: merged where they are plain, attached where they are packed.

    Raises CheckpointError when the adapter belongs to another model; then nothing was changed.
    """
    found = list(every_slot(weights))
    check(adapter, found)
    for slot in found:
        if isinstance(slot.matrix, Tensor):
            slot.merge(adapter.parts, adapter.scale)
        else:
            dtype = weights.embed.dtype
            parts = {
                name: Low(part.down.to(slot.device, dtype), part.up.to(slot.device, dtype))
                for name, part in adapter.parts.items()
                if name in slot.modules
            }
            slot.attach(parts, adapter.scale)


# Files ---------------------------------------------------------------------------------------------------


def save_adapter(adapter: Adapter, directory: Path) -> None:
    """Write both files. The directory is made."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for module, part in adapter.parts.items():
        pairs = {module: (part.down, part.up)}
        if part.down.dim() == 3:
            head, _, projection = module.rpartition(".")
            both = zip(part.down, part.up, strict=True)
            pairs = {f"{head}.{expert}.{projection}": pair for expert, pair in enumerate(both)}
        for name, (down, up) in pairs.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = down
            tensors[f"base_model.model.{name}.lora_B.weight"] = up
    write_tensors({name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}, directory / TENSORS)
    text = json.dumps(peft_config(adapter), indent=2)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")


def peft_config(adapter: Adapter) -> dict[str, Any]:
    """What PEFT has to know to put the adapter on transformers' Laguna, whose names these are."""
    modules = [name for name, part in adapter.parts.items() if part.down.dim() == 2]
    stacked = {name.rpartition(".")[2] for name, part in adapter.parts.items() if part.down.dim() == 3}
    fused = stacked >= {"gate_proj", "up_proj"}
    parameters = ["mlp.experts.gate_up_proj"] * fused + ["mlp.experts.down_proj"] * ("down_proj" in stacked)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.rank_stabilised,
        "bias": "none",
        "target_modules": sorted(name.replace(SHARED, SHARED_IN_TRANSFORMERS) for name in modules),
        "target_parameters": parameters or None,
        "rank_pattern": {FUSED: 2 * adapter.rank} if fused else {},
        "alpha_pattern": {FUSED: doubled(adapter.alpha, adapter.rank_stabilised)} if fused else {},
        "inference_mode": True,
    }


def doubled(alpha: float, rank_stabilised: bool) -> float:
    """The alpha that makes the same scale of twice the rank."""
    return alpha * (math.sqrt(2) if rank_stabilised else 2)


def read_adapter(directory: Path) -> Adapter:
    """Read an adapter's directory. Raises CheckpointError: no such files, not whole, or more than LoRA."""
    try:
        config = Fields(read_json(directory / CONFIG))
        if config.get("peft_type") != "LORA":
            raise CheckpointError(f"{CONFIG}: peft_type is {shown(config.get('peft_type'))}; only 'LORA' is known")
        for field in REFUSED:
            if config.get(field):
                raise CheckpointError(f"{CONFIG}: {field} is {shown(config.get(field))}, which is not supported")
        rank = config.integer("r")
        alpha = config.number("lora_alpha")
        dropout, base = config.number("lora_dropout", 0.0), config.text("base_model_name_or_path", "")
        stabilised = bool(config.get("use_rslora", False))
        if config.get("alpha_pattern") not in (None, {}, {FUSED: doubled(alpha, stabilised)}):
            raise CheckpointError(f"{CONFIG}: alpha_pattern is {shown(config.get('alpha_pattern'))}: not supported")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    with closing(Shard(directory / TENSORS)) as shard:
        tensors = {name: shard.read(name).float() for name in shard.entries}
    parts = _parts(tensors)
    for name, part in parts.items():
        if part.down.shape[-2] != rank:
            raise CheckpointError(f"{TENSORS}: the part of {name} has rank {part.down.shape[-2]}, {CONFIG} says {rank}")
        if not (torch.isfinite(part.down).all() and torch.isfinite(part.up).all()):
            raise CheckpointError(f"{TENSORS}: the part of {name} holds NaN or infinity")
    return Adapter(parts, rank, alpha, dropout, stabilised, base)


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, Low]:
    """The tensors of a file by module: experts stacked."""
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None or tensor.dim() != 2:
            raise CheckpointError(f"{TENSORS}: {name} is no part of an adapter")
        module = match["module"].replace(SHARED_IN_TRANSFORMERS, SHARED)
        expert = EXPERT.search(module)
        stacked = EXPERT.sub(".experts.", module)
        found.setdefault(stacked, {}).setdefault(int(expert[1]) if expert else -1, {})[match["part"]] = tensor
    parts: dict[str, Low] = {}
    for module, members in found.items():
        whole = [members.get(number, {}) for number in (range(len(members)) if -1 not in members else (-1,))]
        if len(whole) != len(members) or any(set(pair) != {"A", "B"} for pair in whole):
            raise CheckpointError(f"{TENSORS}: the part of {module} is not whole")
        shapes = {(pair["A"].shape, pair["B"].shape) for pair in whole}
        if len(shapes) != 1:
            raise CheckpointError(f"{TENSORS}: the experts' parts of {module} differ in shape")
        if -1 in members:
            parts[module] = Low(whole[0]["A"], whole[0]["B"])
        else:
            parts[module] = Low(torch.stack([p["A"] for p in whole]), torch.stack([p["B"] for p in whole]))
    return parts
