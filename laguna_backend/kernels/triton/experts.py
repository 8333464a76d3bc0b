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

from .narrow import parts, products, weights_at
from .tuned import READING, tuned

TILE, WIDE, STEP = 32, 64, 64  # rows, outputs and depth of a tile, for many
NONE = -1  # the kind of a matrix that is not there


@triton.jit
def gated(
    x, codes, scale, zero, which, n, H, I, KIND: tl.constexpr, GROUP: tl.constexpr, TALL: tl.constexpr,
    DEEP: tl.constexpr,
):  # fmt: skip
    """silu(gate) * up for rows n of an expert's gate and up: [TALL]."""
    gate, up = tl.zeros([TALL, DEEP], tl.float32), tl.zeros([TALL, DEEP], tl.float32)
    for first in range(0, H, DEEP):
        deep = first + tl.arange(0, DEEP)
        given = tl.load(x + deep, mask=deep < H, other=0.0).to(tl.float32)[None, :]
        gate += weights_at(codes, scale, zero, which, n, first, 2 * I, H, KIND, GROUP, DEEP).to(tl.float32) * given
        up += weights_at(codes, scale, zero, which, I + n, first, 2 * I, H, KIND, GROUP, DEEP).to(tl.float32) * given
    kind = x.dtype.element_ty
    g, u = tl.sum(gate, axis=1).to(kind).to(tl.float32), tl.sum(up, axis=1).to(kind).to(tl.float32)
    return ((g / (1.0 + tl.exp(-g))).to(kind).to(tl.float32) * u).to(kind)


@tuned(READING, "H", "I", "J", "KIND", "OWN")
@triton.jit
def up_kernel(
    x, chosen, codes, scale, zero, own_codes, own_scale, own_zero, held, H: tl.constexpr, I: tl.constexpr,
    J: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr, OWN: tl.constexpr, OWN_GROUP: tl.constexpr,
    TOP: tl.constexpr, TALL: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    WAYS: tl.constexpr = TOP + (OWN >= 0)
    row, way = tl.program_id(0) // WAYS, tl.program_id(0) % WAYS
    n = tl.program_id(1) * TALL + tl.arange(0, TALL)
    line = held + row * (TOP * I + J) + way * I + n
    if way < TOP:
        if TOP > 0:
            expert = tl.load(chosen + row * TOP + way).to(tl.int64)
            found = gated(x + row * H, codes, scale, zero, expert, n, H, I, KIND, GROUP, TALL, DEEP)
            tl.store(line, found, mask=n < I)
    elif OWN >= 0:
        found = gated(x + row * H, own_codes, own_scale, own_zero, 0, n, H, J, OWN, OWN_GROUP, TALL, DEEP)
        tl.store(line, found, mask=n < J)


@tuned(READING, "H", "I", "J", "KIND", "OWN")
@triton.jit
def down_kernel(
    held, chosen, weights, codes, scale, zero, own_codes, own_scale, own_zero, out, routed_scale, H: tl.constexpr,
    I: tl.constexpr, J: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr, OWN: tl.constexpr,
    OWN_GROUP: tl.constexpr, TOP: tl.constexpr, TALL: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    n = tl.program_id(1) * TALL + tl.arange(0, TALL)
    kind = out.dtype.element_ty
    line = held + row * (TOP * I + J)
    all = tl.zeros([TALL], tl.float32)
    if TOP > 0:
        routed = tl.zeros([TALL, DEEP], tl.float32)
        for way in tl.static_range(TOP):  # in order: the sum is the same each time
            expert = tl.load(chosen + row * TOP + way).to(tl.int64)
            weight = tl.load(weights + row * TOP + way).to(tl.float32)
            found = products(line + way * I, codes, scale, zero, expert, n, H, I, KIND, GROUP, TALL, DEEP)
            routed += found * weight
        all = (tl.sum(routed, axis=1).to(kind).to(tl.float32) * routed_scale).to(kind).to(tl.float32)
    if OWN >= 0:
        found = products(line + TOP * I, own_codes, own_scale, own_zero, 0, n, H, J, OWN, OWN_GROUP, TALL, DEEP)
        all += tl.sum(found, axis=1).to(kind).to(tl.float32)
    tl.store(out + row * H + n, all.to(kind), mask=n < H)


def mix_few(
    x: Tensor,
    weights: Tensor,
    chosen: Tensor,
    gate_up: Any,
    down: Any,
    own: tuple[Any, Any] | None = None,
    routed_scale: float = 1.0,
) -> Tensor:
    """x [T, H], weights and experts [T, top_k], gate_up [E, 2I, H], down [E, H, I] -> [T, H], for a few rows: their sum
    times `routed_scale`, and what the expert adds that sees every row (gate_up and down of its `own`)."""
    rows, top_k = chosen.shape
    size, inner = down.shape[-2:]
    into, back = own or (gate_up, down)
    extra = back.shape[-1] if own else 0
    held, out = x.new_empty(rows, top_k * inner + extra), torch.empty_like(x)

    def grid(ways: int, wide: int) -> Any:
        return lambda tile: (rows * ways, triton.cdiv(wide, tile["TALL"]))

    *routed, kind, group = parts(gate_up)
    *shared, own_kind, own_group = parts(into)
    sizes = size, inner, extra
    kinds = kind, group, own_kind if own else NONE, own_group
    up_kernel[grid(top_k + bool(own), max(inner, extra))](x, chosen, *routed, *shared, held, *sizes, *kinds, top_k)
    *routed, kind, group = parts(down)
    *shared, own_kind, own_group = parts(back)
    kinds = kind, group, own_kind if own else NONE, own_group
    down_kernel[grid(1, size)](held, chosen, weights, *routed, *shared, out, routed_scale, *sizes, *kinds, top_k)
    return out


def swiglu_few(x: Tensor, gate_up: Any, down: Any) -> Tensor:
    """The same of one expert alone, that sees every row: gate_up [2I, H], down [H, I]."""
    nobody = torch.empty(len(x), 0, dtype=torch.int32, device=x.device)
    return mix_few(x, x, nobody, gate_up, down, (gate_up, down))


@triton.jit
def product(
    a, rows, there, codes, scale, zero, expert, n, N, K, KIND: tl.constexpr, GROUP: tl.constexpr, WIDE: tl.constexpr,
    TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Rows of a [.., K] times rows n of an expert's matrix [N, K]: [TILE, WIDE] in float32."""
    total = tl.zeros([TILE, WIDE], tl.float32)
    for first in range(0, K, STEP):
        deep = first + tl.arange(0, STEP)
        x = tl.load(a + rows[:, None] * K + deep[None, :], mask=there[:, None] & (deep < K)[None, :], other=0.0)
        y = weights_at(codes, scale, zero, expert, n, first, N, K, KIND, GROUP, STEP).to(x.dtype)
        if not tl.target_info.is_cuda():  # Triton's interpreter has no products of bfloat16
            x, y = x.to(tl.float32), y.to(tl.float32)
        total = tl.dot(x, tl.trans(y), total)
    return total


@triton.jit
def grouped_kernel(
    x, source, experts, firsts, ends, codes, scale, zero, out, N, K, KIND: tl.constexpr, GROUP: tl.constexpr,
    GATED: tl.constexpr, TILE: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr,
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
        found = product(x, rows, there, codes, scale, zero, expert, n, many, K, KIND, GROUP, WIDE, TILE, STEP)
        if GATED:
            up = product(x, rows, there, codes, scale, zero, expert, N + n, many, K, KIND, GROUP, WIDE, TILE, STEP)
            up = up.to(kind).to(tl.float32)
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
    for source, given, out, matrix, gated in (
        (order // top_k, x, held, gate_up, True), (lines, held, found, down, False),
    ):  # fmt: skip
        wide, deep = out.shape[1], given.shape[1]
        *matrices, kind, group = parts(matrix)
        grouped_kernel[len(expert), triton.cdiv(wide, WIDE)](
            given, source, expert, firsts, ends, *matrices, out, wide, deep, kind, group, gated, TILE, WIDE, STEP
        )
    back = torch.empty_like(order)
    back[order] = lines  # where each row's choices came to lie: their sum goes in the row's own order
    return (found[back].view(rows, top_k, size).float() * weights[..., None].float()).sum(dim=1).to(x.dtype)
