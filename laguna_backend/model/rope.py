"""Rotary position embedding: plain, partial and YaRN (arXiv 2309.00071), as transformers computes it."""

from __future__ import annotations

import math

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
    """cos and sin of one kind of rope, made for many positions at once: decoding takes them one at a time."""

    AHEAD = 256

    def __init__(self, rope: Rope, device: torch.device) -> None:
        self.rope, self.frequencies = rope, inverse_frequencies(rope).to(device)
        self.first = 0
        self.held: tuple[Tensor, Tensor] | None = None

    def at(self, start: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Those of `count` positions from `start` on: two of [count, rotary_dim]."""
        held = self.held
        begin = start - self.first
        if held is None or held[0].dtype != dtype or begin < 0 or begin + count > len(held[0]):
            positions = torch.arange(start, start + max(count, self.AHEAD), device=self.frequencies.device)
            held = self.held = tables(self.rope, self.frequencies, positions, dtype)
            self.first, begin = start, 0
        cos, sin = held
        return cos[begin : begin + count], sin[begin : begin + count]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first rotary_dim dimensions of x [B, heads, T, D]; halves are paired (NeoX), the rest passes."""
    dim = cos.shape[-1]
    turning, passing = x[..., :dim], x[..., dim:]
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, passing), dim=-1) if passing.shape[-1] else turned
