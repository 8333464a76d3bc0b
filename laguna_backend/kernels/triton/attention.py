# type: ignore - Triton's own language, which no type checker knows
"""One token's queries over a layer's cache as it lies, FP8 or wider (flash-decoding: split over the keys).

How many keys there are is read from the device. Each split takes its part of them and leaves a maximum, a sum and an
output; a second launch puts them together and applies the gate. `model.attention.attend_one` is the plain twin. Scales
of FP8 go to the scores and the weights, not to the elements. Products are of what the cache holds: bfloat16, TF32 for
float32, and float16 for FP8, into which a device turns it at once.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .numbers import halved

SPLITS = 32  # times 8 key-value heads: two waves on a device of 132 multiprocessors
KEYS = 64  # of a block
LEAST = 16  # queries of a product


@triton.jit
def part_kernel(
    queries, k_rows, v_rows, k_scales, v_scales, k_scale, v_scale, length, capacity, sm_scale, most, total, outs,
    GROUP: tl.constexpr, PADDED: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, KEYS: tl.constexpr,
    FP8: tl.constexpr, EACH: tl.constexpr,
):  # fmt: skip
    kv, split = tl.program_id(0), tl.program_id(1)
    g, d, n = tl.arange(0, PADDED), tl.arange(0, D), tl.arange(0, KEYS)
    there = g < GROUP
    q = tl.load(queries + (kv * GROUP + g)[:, None] * D + d[None, :], mask=there[:, None], other=0.0)
    # Triton's interpreter has no products of bfloat16.
    kind = tl.float16 if FP8 else k_rows.dtype.element_ty
    kind = kind if tl.target_info.is_cuda() else tl.float32
    q = q.to(kind)
    keys = tl.minimum(tl.load(length) + 1, capacity)  # with the token itself; a ring that is full has no more
    each = tl.cdiv(tl.cdiv(keys, SPLITS), KEYS) * KEYS
    end = tl.minimum((split + 1) * each, keys)
    m = tl.full([PADDED], float("-inf"), tl.float32)
    sums = tl.zeros([PADDED], tl.float32)
    out = tl.zeros([PADDED, D], tl.float32)
    base = kv.to(tl.int64) * capacity
    for first in range(split * each, end, KEYS):
        at = first + n
        seen = at < end
        rows = (base + at)[:, None] * D + d[None, :]
        k = tl.load(k_rows + rows, mask=seen[:, None], other=0)
        v = tl.load(v_rows + rows, mask=seen[:, None], other=0)
        if FP8:
            k, v = halved(k), halved(v)
        scores = tl.dot(q, tl.trans(k.to(kind)), input_precision="tf32") * sm_scale
        if EACH:
            scores *= tl.load(k_scales + base + at, mask=seen, other=0.0)[None, :]
        else:
            scores *= k_scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        larger = tl.maximum(m, tl.max(scores, axis=1))
        weights, shrunk = tl.exp(scores - larger[:, None]), tl.exp(m - larger)
        sums = sums * shrunk + tl.sum(weights, axis=1)
        if EACH:
            weights *= tl.load(v_scales + base + at, mask=seen, other=0.0)[None, :]
        else:
            weights *= v_scale
        out = out * shrunk[:, None] + tl.dot(weights.to(kind), v.to(kind), input_precision="tf32")
        m = larger
    line = (kv * GROUP + g) * SPLITS + split
    tl.store(most + line, m, mask=there)
    tl.store(total + line, sums, mask=there)
    tl.store(outs + line[:, None] * D + d[None, :], out, mask=there[:, None])


@triton.jit
def whole_kernel(most, total, outs, gates, out, D: tl.constexpr, SPLITS: tl.constexpr, WIDE: tl.constexpr):
    head = tl.program_id(0)
    s, d = tl.arange(0, SPLITS), tl.arange(0, D)
    kind = out.dtype.element_ty
    m = tl.load(most + head * SPLITS + s)
    weights = tl.exp(m - tl.max(m))  # 0 of a split without keys
    parts = tl.load(outs + (head * SPLITS + s)[:, None] * D + d[None, :])
    summed = tl.sum(tl.load(total + head * SPLITS + s) * weights)
    heard = (tl.sum(parts * weights[:, None], axis=0) / summed).to(kind).to(tl.float32)
    gate = tl.load(gates + head * D + d if WIDE else gates + head + d * 0).to(tl.float32)
    opened = tl.where(gate > 20.0, gate, tl.log(1.0 + tl.exp(tl.minimum(gate, 20.0))))  # softplus
    tl.store(out + head * D + d, (heard * opened.to(kind).to(tl.float32)).to(kind))


def attend_gated(queries: Tensor, stores: Any, length: Tensor, gates: Tensor) -> Tensor:
    """What queries [heads, D] of the token at the place `length` [1] see in `stores` (k and v), which hold it already,
    times softplus of gates [heads] or [heads * D]: [heads * D]."""
    k, v = stores
    heads, dim = queries.shape
    group, fp8 = heads // k.heads, k.storage == "fp8"
    scales = [(fp8 and store.scale) or 1.0 for store in stores]
    most, total = (torch.empty(heads, SPLITS, dtype=torch.float32, device=queries.device) for _ in range(2))
    outs = torch.empty(heads, SPLITS, dim, dtype=torch.float32, device=queries.device)
    part_kernel[(k.heads, SPLITS)](
        queries, k.rows, v.rows, k.scales, v.scales, *scales, length, k.capacity, dim**-0.5,
        most, total, outs, group, max(LEAST, triton.next_power_of_2(group)), dim, SPLITS, KEYS, fp8,
        fp8 and k.scale is None,
    )  # fmt: skip
    out = queries.new_empty(heads * dim)
    whole_kernel[(heads,)](most, total, outs, gates, out, dim, SPLITS, gates.numel() != heads)
    return out
