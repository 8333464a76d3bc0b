# type: ignore - Triton's own language, which no type checker knows
"""Matrices as they lie, plain or of eight or four bits (`model.narrow`), and the product of few rows with one.

Who reads a matrix once does little with each byte, so what counts is how many bytes are under way: a program keeps the
products of its whole tile apart and adds them up at the end, which lets the loads of several steps run ahead. How tall
and how deep a tile serves a device best, the device is asked the first time (`tuned`).
"""

from typing import Any

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from .numbers import widened
from .tuned import READING, quicker, tuned

FEW = 8  # rows of input up to which a matrix is read once for each
PLAIN, FP8, NIBBLES = 0, 1, 2

ours: dict[tuple[Any, ...], bool] = {}
"""Of plain matrices: whether `times_few` was quicker than the library, by dtype, device and size."""


def parts(w: Any) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """A matrix or a stack as the kernels are told of it: codes, scale, zero (codes, where it has none), kind, group."""
    if isinstance(w, Tensor):
        return w, w, w, PLAIN, 1
    if hasattr(w, "zero"):
        return w.codes, w.scale, w.zero, NIBBLES, w.group
    return w.codes, w.scale, w.codes, FP8, 1


@triton.jit
def weights_at(codes, scale, zero, which, n, first, N, K, KIND: tl.constexpr, GROUP: tl.constexpr, DEEP: tl.constexpr):
    """Rows n and the columns `first` .. + DEEP of matrix `which` [N, K] of a stack: [rows, DEEP], zeros where there are
    none. Plain ones in their own type, others in float32. `first` is a multiple of DEEP."""
    row, deep = which * N + n, first + tl.arange(0, DEEP)
    here = (n < N)[:, None]
    if KIND == 0:
        return tl.load(codes + row[:, None] * K + deep[None, :], mask=here & (deep < K)[None, :], other=0.0)
    elif KIND == 1:  # noqa: RET505, Triton compiles what comes after a return too
        code = tl.load(codes + row[:, None] * K + deep[None, :], mask=here & (deep < K)[None, :], other=0)
        down, across = (N + 127) // 128, (K + 127) // 128
        block = (which * down + n // 128)[:, None] * across
        if DEEP <= 128:
            step = tl.load(scale + block + first // 128, mask=here, other=0.0)
            return widened(code) * step
        else:  # noqa: RET505
            at = first // 128 + tl.arange(0, DEEP // 128)
            step = tl.load(scale + block + at[None, :], mask=here & (at < across)[None, :], other=0.0)
            wide = widened(code).reshape(n.shape[0], DEEP // 128, 128) * step[:, :, None]
            return wide.reshape(n.shape[0], DEEP)
    else:
        groups = (K + GROUP - 1) // GROUP
        pairs = groups * (GROUP // 2)
        half = first // 2 + tl.arange(0, DEEP // 2)
        pair = tl.load(codes + row[:, None] * pairs + half[None, :], mask=here & (half < pairs)[None, :], other=0)
        # A nibble in the last places of 2 ** 23 is that number more: no conversion, which is slow.
        bits = tl.join(pair & 15, pair >> 4).to(tl.uint32) | 0x4B000000
        nibble = bits.to(tl.float32, bitcast=True) - 8388616.0
        EACH: tl.constexpr = min(GROUP, DEEP)
        at = first // GROUP + tl.arange(0, DEEP // EACH)
        known = here & (at < groups)[None, :]
        step = tl.load(scale + row[:, None] * groups + at[None, :], mask=known, other=0.0).to(tl.float32)
        middle = tl.load(zero + row[:, None] * groups + at[None, :], mask=known, other=0.0).to(tl.float32)
        wide = nibble.reshape(n.shape[0], DEEP // EACH, EACH) * step[:, :, None] + middle[:, :, None]
        return wide.reshape(n.shape[0], DEEP)


@triton.jit
def products(
    x, codes, scale, zero, which, n, N, K, KIND: tl.constexpr, GROUP: tl.constexpr, TALL: tl.constexpr,
    DEEP: tl.constexpr,
):  # fmt: skip
    """x [K] times rows n of a matrix, not yet added up: float32 [TALL, DEEP]."""
    total = tl.zeros([TALL, DEEP], tl.float32)
    for first in range(0, K, DEEP):
        deep = first + tl.arange(0, DEEP)
        given = tl.load(x + deep, mask=deep < K, other=0.0).to(tl.float32)
        w = weights_at(codes, scale, zero, which, n, first, N, K, KIND, GROUP, DEEP)
        total += w.to(tl.float32) * given[None, :]
    return total


@tuned(READING, "N", "K", "KIND")
@triton.jit
def few_kernel(
    x, codes, scale, zero, out, N, K, KIND: tl.constexpr, GROUP: tl.constexpr, TALL: tl.constexpr, DEEP: tl.constexpr
):
    row = tl.program_id(0)
    n = tl.program_id(1) * TALL + tl.arange(0, TALL)
    found = tl.sum(products(x + row * K, codes, scale, zero, 0, n, N, K, KIND, GROUP, TALL, DEEP), axis=1)
    tl.store(out + row * N + n, found.to(out.dtype.element_ty), mask=n < N)


def times_few(x: Tensor, w: Any) -> Tensor:
    """x [T, K] times a matrix [N, K] of any kind: [T, N]. `model.narrow.times_plain` is the plain twin."""
    *matrix, kind, group = parts(w)
    x, out = x.contiguous(), x.new_empty(len(x), w.shape[-2])
    rows, wide = out.shape

    def grid(tile: Any) -> tuple[int, int]:
        return rows, triton.cdiv(wide, tile["TALL"])

    few_kernel[grid](x, *matrix, out, wide, x.shape[1], kind, group)
    return out


def times_one(x: Tensor, w: Any) -> Tensor:
    """x [1, K] times a matrix [N, K] of any kind: [1, N]. A plain one goes the way that was quicker the first time."""
    if not isinstance(w, Tensor):
        return times_few(x, w)
    key = w.dtype, w.device, *w.shape
    if key not in ours:
        ours[key] = quicker(lambda: times_few(x, w), lambda: F.linear(x, w))
    return times_few(x, w) if ours[key] else F.linear(x, w)
