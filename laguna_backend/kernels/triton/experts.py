# type: ignore - Triton's own language, which no type checker knows
"""The experts that a router chose. `model.moe.mix_plain` is the plain twin of both ways.

Few rows: each reads its experts' own weights, once, where they lie. Many rows: sorted by expert and cut into tiles, all
of them one launch; which expert a tile is of, the device finds out, and the host never waits to be told. Matrices may
be narrow (`model.narrow`).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .narrow import DEEP, INNER, parts, weights_at

TILE, WIDE, STEP = 32, 64, 64  # rows, outputs and depth of a tile, for many


@triton.jit
def gathered_up_kernel(
    x, chosen, codes, scale, zero, held, H, I, KIND: tl.constexpr, GROUP: tl.constexpr, TOP: tl.constexpr,
    INNER: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0)
    n, k = tl.program_id(1) * INNER + tl.arange(0, INNER), tl.arange(0, DEEP)
    expert = tl.load(chosen + line).to(tl.int64)
    gate, up = tl.zeros([INNER], tl.float32), tl.zeros([INNER], tl.float32)
    kind = x.dtype.element_ty
    for first in range(0, H, DEEP):
        deep = first + k
        row = tl.load(x + (line // TOP) * H + deep, mask=deep < H, other=0.0).to(tl.float32)[None, :]
        into = weights_at(codes, scale, zero, expert, n, deep, 2 * I, H, KIND, GROUP)
        gate += tl.sum(into.to(tl.float32) * row, axis=1)
        into = weights_at(codes, scale, zero, expert, I + n, deep, 2 * I, H, KIND, GROUP)
        up += tl.sum(into.to(tl.float32) * row, axis=1)
    gate, up = gate.to(kind).to(tl.float32), up.to(kind).to(tl.float32)
    turned = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    tl.store(held + line * I + n, (turned * up).to(kind), mask=n < I)


@triton.jit
def gathered_down_kernel(
    held, chosen, weights, codes, scale, zero, out, H, I, KIND: tl.constexpr, GROUP: tl.constexpr, TOP: tl.constexpr,
    INNER: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    n, k = tl.program_id(1) * INNER + tl.arange(0, INNER), tl.arange(0, DEEP)
    total = tl.zeros([INNER], tl.float32)
    for choice in range(TOP):  # in order: the sum is the same each time
        line = row * TOP + choice
        expert = tl.load(chosen + line).to(tl.int64)
        found = tl.zeros([INNER], tl.float32)
        for first in range(0, I, DEEP):
            deep = first + k
            given = tl.load(held + line * I + deep, mask=deep < I, other=0.0).to(tl.float32)[None, :]
            found += tl.sum(
                weights_at(codes, scale, zero, expert, n, deep, H, I, KIND, GROUP).to(tl.float32) * given, axis=1
            )
        total += found * tl.load(weights + line).to(tl.float32)
    tl.store(out + row * H + n, total.to(out.dtype.element_ty), mask=n < H)


def mix_few(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Any, down: Any) -> Tensor:
    """x [T, H], weights and experts [T, top_k], gate_up [E, 2I, H], down [E, H, I] -> [T, H], for a few rows."""
    rows, top_k = chosen.shape
    size, inner = down.shape[1:]
    held, out = x.new_empty(rows * top_k, inner), torch.empty_like(x)
    *matrices, kind, group = parts(gate_up)
    grid = rows * top_k, triton.cdiv(inner, INNER)
    gathered_up_kernel[grid](x, chosen, *matrices, held, size, inner, kind, group, top_k, INNER, DEEP)
    *matrices, kind, group = parts(down)
    grid = rows, triton.cdiv(size, INNER)
    gathered_down_kernel[grid](held, chosen, weights, *matrices, out, size, inner, kind, group, top_k, INNER, DEEP)
    return out


@triton.jit
def product(
    a, rows, there, codes, scale, zero, expert, n, N, K, KIND: tl.constexpr, GROUP: tl.constexpr, WIDE: tl.constexpr,
    TILE: tl.constexpr, STEP: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Rows of a [.., K] times rows n of an expert's matrix [N, K]: [TILE, WIDE] in float32."""
    k = tl.arange(0, STEP)
    total = tl.zeros([TILE, WIDE], tl.float32)
    for first in range(0, K, STEP):
        deep = first + k
        x = tl.load(a + rows[:, None] * K + deep[None, :], mask=there[:, None] & (deep < K)[None, :], other=0.0)
        y = weights_at(codes, scale, zero, expert, n, deep, N, K, KIND, GROUP)
        if WIDEN:  # Triton's interpreter has no products of bfloat16
            x, y = x.to(tl.float32), y.to(tl.float32)
        total = tl.dot(x, tl.trans(y.to(x.dtype)), total)
    return total


@triton.jit
def grouped_kernel(
    x, source, experts, firsts, ends, codes, scale, zero, out, N, K, KIND: tl.constexpr, GROUP: tl.constexpr,
    GATED: tl.constexpr, TILE: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    first, end = tl.load(firsts + tile), tl.load(ends + tile)
    if first < end:
        lines = first + tl.arange(0, TILE)
        there = lines < end
        rows = tl.load(source + lines, mask=there, other=0)
        n = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
        kind = out.dtype.element_ty
        expert = tl.load(experts + tile)
        many = 2 * N if GATED else N
        found = product(x, rows, there, codes, scale, zero, expert, n, many, K, KIND, GROUP, WIDE, TILE, STEP, WIDEN)
        if GATED:
            up = product(
                x, rows, there, codes, scale, zero, expert, N + n, many, K, KIND, GROUP, WIDE, TILE, STEP, WIDEN
            ).to(kind).to(tl.float32)  # fmt: skip
            gate = found.to(kind).to(tl.float32)
            found = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32) * up
        at = lines.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(out + at, found.to(kind), mask=there[:, None] & (n < N)[None, :])


def tiles(ordered: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of sorted choices: each tile's expert, its first line and its last line's end. As many tiles as there could be;
    those that are none begin where they end."""
    every = torch.arange(experts, device=ordered.device)
    ends = torch.searchsorted(ordered, every, right=True)  # [E]: where each expert's lines end
    begins = torch.cat((ends.new_zeros(1), ends[:-1]))
    until = ((ends - begins + TILE - 1) // TILE).cumsum(0)  # tiles of an expert and all before it
    tile = torch.arange(ordered.numel() // TILE + experts, device=ordered.device)
    expert = torch.searchsorted(until, tile, right=True).clamp_max(experts - 1)
    before = torch.cat((until.new_zeros(1), until[:-1]))[expert]
    firsts = begins[expert] + (tile - before) * TILE
    return expert, firsts, torch.minimum(firsts + TILE, ends[expert])


def mix_many(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Any, down: Any) -> Tensor:
    """The same as `mix_few`, for many rows: x [T, H] -> [T, H]."""
    rows, top_k = chosen.shape
    size, inner = down.shape[1:]
    ordered, order = chosen.reshape(-1).sort()
    expert, firsts, ends = tiles(ordered, down.shape[0])
    held, found = x.new_empty(rows * top_k, inner), x.new_empty(rows * top_k, size)
    lines = torch.arange(rows * top_k, device=x.device)
    widen = x.device.type == "cpu"
    for source, given, out, matrix, gated in (
        (order // top_k, x, held, gate_up, True), (lines, held, found, down, False),
    ):  # fmt: skip
        wide, deep = out.shape[1], given.shape[1]
        *matrices, kind, group = parts(matrix)
        grouped_kernel[len(expert), triton.cdiv(wide, WIDE)](
            given, source, expert, firsts, ends, *matrices, out, wide, deep, kind, group, gated, TILE, WIDE, STEP, widen
        )
    back = torch.empty_like(order)
    back[order] = lines  # where each row's choices came to lie: their sum goes in the row's own order
    return (found[back].view(rows, top_k, size).float() * weights[..., None].float()).sum(dim=1).to(x.dtype)
