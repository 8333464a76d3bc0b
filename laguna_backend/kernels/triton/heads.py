# type: ignore - Triton's own language, which no type checker knows
"""What one token's products become: queries normed and turned; keys too, and stored with the values, in one launch.

The plain twins are `model.layer.norm`, `model.rope.rotate` and `model.cache.Store.write`, and so they round.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .numbers import narrowed


@triton.jit
def keep(x, rows, scales, scale, row, at, FP8: tl.constexpr, EACH: tl.constexpr, D: tl.constexpr):
    """Store x [D] as one row: as it is, or as FP8 with the part's scale, or with one of its own."""
    if FP8:
        if EACH:
            scale = tl.maximum(tl.max(tl.abs(x)) / 448.0, 1e-12)
            tl.store(scales + row, scale)
        tl.store(rows + row * D + at, narrowed(x / scale))
    else:
        tl.store(rows + row * D + at, x.to(rows.dtype.element_ty))


@triton.jit
def turn_and_store_kernel(
    inputs, q_weight, k_weight, cos, sin, length, queries, k_rows, v_rows, k_scales, v_scales, k_scale, v_scale,
    capacity, eps, HEADS: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, ROTARY: tl.constexpr, FP8: tl.constexpr,
    EACH: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    at = tl.arange(0, D)
    kind = inputs.dtype.element_ty
    place = tl.load(length)
    row = ((head - HEADS) % KV).to(tl.int64) * capacity + place % capacity
    x = tl.load(inputs + head * D + at).to(tl.float32)
    if head >= HEADS + KV:
        keep(x, v_rows, v_scales, v_scale, row, at, FP8, EACH, D)
    else:
        half: tl.constexpr = ROTARY // 2
        other = tl.where(at < half, at + half, tl.where(at < ROTARY, at - half, at))  # its partner in turning
        y = tl.load(inputs + head * D + other).to(tl.float32)
        weight = q_weight if head < HEADS else k_weight
        factor = tl.rsqrt(tl.sum(x * x) / D + eps)
        x = ((x * factor).to(kind).to(tl.float32) * tl.load(weight + at).to(tl.float32)).to(kind).to(tl.float32)
        y = ((y * factor).to(kind).to(tl.float32) * tl.load(weight + other).to(tl.float32)).to(kind).to(tl.float32)
        turns = at < ROTARY
        c = tl.load(cos + place * ROTARY + at, mask=turns, other=1.0).to(tl.float32)
        s = tl.load(sin + place * ROTARY + at, mask=turns, other=0.0).to(tl.float32)
        turned = (x * c).to(kind).to(tl.float32) + (tl.where(at < half, -y, y) * s).to(kind).to(tl.float32)
        turned = turned.to(kind).to(tl.float32)
        if head < HEADS:
            tl.store(queries + head * D + at, turned.to(kind))
        else:
            keep(turned, k_rows, k_scales, k_scale, row, at, FP8, EACH, D)


def turn_and_store(
    inputs: Tensor,
    heads: int,
    norms: tuple[Tensor, Tensor],
    turn: tuple[Tensor, Tensor],
    length: Tensor,
    stores: Any,
    eps: float,
) -> Tensor:
    """Queries [heads, D] of one token's products `inputs` [(heads + 2 KV) D + gates], whose keys and values go into
    `stores` (k and v) at the place `length` [1], modulo their capacity. `turn`: cos and sin [places, rotary]."""
    k, v = stores
    queries = inputs.new_empty(heads, k.dim)
    fp8 = k.storage == "fp8"
    turn_and_store_kernel[(heads + 2 * k.heads,)](
        inputs, *norms, *turn, length, queries, k.rows, v.rows, k.scales, v.scales, k.scale or 1.0, v.scale or 1.0,
        k.capacity, eps, heads, k.heads, k.dim, turn[0].shape[-1], fp8, fp8 and k.scale is None,
    )  # fmt: skip
    return queries
