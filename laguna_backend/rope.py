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


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first rotary_dim dimensions of x [B, heads, T, D]; halves are paired (NeoX), the rest passes."""
    dim = cos.shape[-1]
    turning, passing = x[..., :dim], x[..., dim:]
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, passing), dim=-1) if passing.shape[-1] else turned
