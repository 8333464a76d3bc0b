"""What of a model an adapter is trained for, and how its parts begin."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import torch

from ..checkpoint.adapter import Low, Slot, slots
from ..model.parameters import Layer, Weights

GROUPS: Mapping[str, str] = {
    "attention": "*.self_attn.*_proj",
    "shared": "*.mlp.shared_expert.*_proj",
    "experts": "*.mlp.experts.*_proj",
    "dense": "*.mlp.[gud]*_proj",
}
"""Words for groups of modules. Any other word is a pattern of module names, such as `*.layers.3?.self_attn.q_proj`; all
experts of a layer are one module here, `model.layers.3.mlp.experts.gate_proj`."""
USUAL = ("attention", "shared", "dense")


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation (arXiv 2106.09685) of the modules that any of `targets` matches: rank, scale, dropout."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: Sequence[str] = USUAL
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1 or self.alpha <= 0:
            raise ValueError(f"an adapter of rank {self.rank}, alpha {self.alpha} and dropout {self.dropout} is none")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def parts(self, layer: Layer, index: int) -> dict[str, Low]:
        """New parts of a layer, in float32: down as a linear layer begins, up as nothing, so that the model begins as
        it was. They do not depend on what else is adapted."""
        found: dict[str, Low] = {}
        for slot in slots(layer, index):
            for name, rows in zip(slot.modules, slot.rows, strict=True):
                if self.adapts(name):
                    found[name] = self.begun(slot, name, rows)
        return found

    def check(self, weights: Weights) -> None:
        """Raises ValueError for a pattern that no module of the model fits, and when nothing is adapted at all."""
        names = [name for index, layer in enumerate(weights.layers) for s in slots(layer, index) for name in s.modules]
        for target in self.targets:
            if target not in GROUPS and not fnmatch.filter(names, target):
                raise ValueError(f"no module is called {target!r}; groups are {', '.join(GROUPS)}")
        if not any(map(self.adapts, names)):
            raise ValueError(f"the model has no {', '.join(self.targets) or 'module'} to adapt")

    def adapts(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, GROUPS.get(target, target)) for target in self.targets)

    def begun(self, slot: Slot, name: str, rows: int) -> Low:
        shape = slot.matrix.shape
        generator = torch.Generator().manual_seed(crc32(f"{self.seed} {name}".encode()))
        down = torch.rand(*shape[:-2], self.rank, shape[-1], generator=generator)
        bound = shape[-1] ** -0.5
        up = torch.zeros(*shape[:-2], rows, self.rank)
        return Low(((2 * down - 1) * bound).to(slot.device), up.to(slot.device))
