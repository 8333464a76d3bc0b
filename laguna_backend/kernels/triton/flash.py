# type: ignore - Triton's own language, which no type checker knows
"""A chunk's queries over the keys that they may see, tile by tile with a running softmax (FlashAttention-2, arXiv
2307.08691). `model.attention.attend_plain` is the plain twin. In a sliding layer keys that no query of a tile sees are
never read; a mask is computed only where a tile's queries see some of a tile's keys and not others."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tuned import SEEING, tuned

LOG2_E = 1.4426950408889634


@tuned(SEEING, "WINDOW", "GROUP", "D")
@triton.jit
def seen_kernel(
    q, k, v, out, queries, keys, q_head, q_row, k_head, k_row, v_head, v_row, sm_scale, WINDOW: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    block = tl.num_programs(0) - 1 - tl.program_id(0)  # what sees the most goes first
    head = tl.program_id(1)
    row, d = block * QUERIES + tl.arange(0, QUERIES), tl.arange(0, D)
    there = (row < queries)[:, None]
    kind = q.dtype.element_ty if tl.target_info.is_cuda() else tl.float32  # the interpreter multiplies no bfloat16
    mine = tl.load(q + head.to(tl.int64) * q_head + row[:, None] * q_row + d[None, :], mask=there, other=0.0).to(kind)
    place = tl.minimum(keys - queries + row, keys - 1)
    first, last = keys - queries + block * QUERIES, tl.minimum(keys - queries + block * QUERIES + QUERIES, keys)
    start = 0
    if WINDOW > 0:
        start = tl.maximum(first - WINDOW + 1, 0) // KEYS * KEYS
    k += (head // GROUP).to(tl.int64) * k_head
    v += (head // GROUP).to(tl.int64) * v_head
    m = tl.full([QUERIES], -1e30, tl.float32)
    sums = tl.zeros([QUERIES], tl.float32)
    total = tl.zeros([QUERIES, D], tl.float32)
    for begin in range(start, last, KEYS):
        key = begin + tl.arange(0, KEYS)
        held = (key < keys)[:, None]
        some = tl.load(k + key[:, None].to(tl.int64) * k_row + d[None, :], mask=held, other=0.0).to(kind)
        scores = tl.dot(mine, tl.trans(some)) * sm_scale
        partly = begin + KEYS - 1 > first
        if WINDOW > 0:
            partly = partly | (begin <= last - 1 - WINDOW)
        if partly:
            seen = key[None, :] <= place[:, None]
            if WINDOW > 0:
                seen = seen & (key[None, :] > place[:, None] - WINDOW)
            scores = tl.where(seen, scores, float("-inf"))
        larger = tl.maximum(m, tl.max(scores, axis=1))
        weights, shrunk = tl.exp2(scores - larger[:, None]), tl.exp2(m - larger)
        sums = sums * shrunk + tl.sum(weights, axis=1)
        some = tl.load(v + key[:, None].to(tl.int64) * v_row + d[None, :], mask=held, other=0.0).to(kind)
        total = tl.dot(weights.to(kind), some, total * shrunk[:, None])
        m = larger
    heads = tl.num_programs(1)
    at = (row[:, None].to(tl.int64) * heads + head) * D + d[None, :]
    tl.store(out + at, (total / sums[:, None]).to(out.dtype.element_ty), mask=there)


def attend_many(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """q [1, heads, T, D], k and v [1, KV, S, D], which end where the queries end -> [1, heads, T, D]."""
    _, heads, queries, dim = q.shape
    out = torch.empty(queries, heads, dim, dtype=q.dtype, device=q.device)
    strides = (step for x in (q, k, v) for step in x.stride()[1:3])
    seen_kernel[lambda tile: (triton.cdiv(queries, tile["QUERIES"]), heads)](
        q, k, v, out, queries, k.shape[2], *strides, dim**-0.5 * LOG2_E, window or 0, heads // k.shape[1], dim
    )
    return out.transpose(0, 1)[None]


def takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel can: one sequence, heads of a power of two, whose numbers lie side by side."""
    dim = q.shape[-1]
    return len(q) == 1 and dim >= 16 and dim & (dim - 1) == 0 and all(x.stride(-1) == 1 for x in (q, k, v))
