"""Rotary position embedding: plain, partial and YaRN (arXiv 2309.00071), as transformers computes it."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor

from .config import Rope


def inverse_frequencies(rope: Rope) -> Tensor:
    """Angle per position of each pair of dimensions: [rotary_dim / 2], float32, on the CPU."""
    exponent = torch.arange(0, rope.rotary_dim, 2, dtype=torch.float32) / rope.rotary_dim
    plain = 1.0 / (rope.theta**exponent)
    if rope.factor is None:
        return plain
    # YaRN: dimensions that turn often within the original context keep their frequency, slow ones are stretched.
    low = math.floor(_dimension_of(rope, rope.beta_fast))
    high = math.ceil(_dimension_of(rope, rope.beta_slow))
    low, high = max(low, 0), min(high, rope.rotary_dim - 1)
    width = (high - low) or 0.001
    stretched = ((torch.arange(rope.rotary_dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    kept = 1 - stretched
    return plain / rope.factor * (1 - kept) + plain * kept


def _dimension_of(rope: Rope, rotations: float) -> float:
    """The dimension that makes `rotations` turns over the original context."""
    turns = math.log(rope.original_context / (rotations * 2 * math.pi))
    return rope.rotary_dim * turns / (2 * math.log(rope.theta))


def tables(rope: Rope, frequencies: Tensor, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin at `positions` [T]: two of [T, rotary_dim]. Angles in float32, rounded to `dtype` at the end."""
    angles = positions.float()[:, None] * frequencies[None, :]
    angles = torch.cat((angles, angles), dim=-1)
    cos = angles.cos() * rope.attention_factor
    sin = angles.sin() * rope.attention_factor
    return cos.to(dtype), sin.to(dtype)


class Tables:
    """cos and sin of one kind of rope, made for blocks of positions: decoding takes them one at a time, and several
    sequences take turns at places of their own."""

    BLOCK, KEPT = 256, 64

    def __init__(self, rope: Rope, device: torch.device) -> None:
        self.rope, self.frequencies = rope, inverse_frequencies(rope).to(device)
        self.blocks: OrderedDict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = OrderedDict()

    def at(self, start: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Those of `count` positions from `start` on: two of [count, rotary_dim]."""
        first, last = start // self.BLOCK, max(start, start + count - 1) // self.BLOCK
        parts = [self.block(index, dtype) for index in range(first, last + 1)]
        begin = start - first * self.BLOCK
        cos, sin = parts[0] if len(parts) == 1 else (torch.cat(half) for half in zip(*parts, strict=True))
        return cos[begin : begin + count], sin[begin : begin + count]

    def block(self, index: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The block of that number; the last ones used are kept."""
        found = self.blocks.get((index, dtype))
        if found is None:
            start = index * self.BLOCK
            positions = torch.arange(start, start + self.BLOCK, device=self.frequencies.device)
            found = self.blocks[index, dtype] = tables(self.rope, self.frequencies, positions, dtype)
            if len(self.blocks) > self.KEPT:
                self.blocks.popitem(last=False)
        self.blocks.move_to_end((index, dtype))
        return found


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first rotary_dim dimensions of x [B, heads, T, D]; halves are paired (NeoX), the rest passes."""
    dim = cos.shape[-1]
    turning, passing = x[..., :dim], x[..., dim:]
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, passing), dim=-1) if passing.shape[-1] else turned
