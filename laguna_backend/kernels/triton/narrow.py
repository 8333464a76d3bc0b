# type: ignore - Triton's own language, which no type checker knows
"""Matrices as they lie, plain or of eight or four bits (`model.narrow`), and the product of few rows with one."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .numbers import widened

FEW = 8  # rows of input up to which a matrix is read once for each
INNER, DEEP = 32, 128  # outputs of a program, and how much of the input at once
PLAIN, FP8, NIBBLES = 0, 1, 2


def parts(w: Any) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """A matrix or a stack as the kernels are told of it: codes, scale, zero (codes, where it has none), kind, group."""
    if isinstance(w, Tensor):
        return w, w, w, PLAIN, 1
    if hasattr(w, "zero"):
        return w.codes, w.scale, w.zero, NIBBLES, w.group
    return w.codes, w.scale, w.codes, FP8, 1


@triton.jit
def weights_at(codes, scale, zero, which, n, deep, N, K, KIND: tl.constexpr, GROUP: tl.constexpr):
    """Rows n and columns deep of matrix `which` [N, K] of a stack: [rows, columns], zeros where there are none. Plain
    ones in their own type, others in float32."""
    there = (n < N)[:, None] & (deep < K)[None, :]
    if KIND == 0:
        return tl.load(codes + which * N * K + n[:, None] * K + deep[None, :], mask=there, other=0.0)
    if KIND == 1:
        down, across = (N + 127) // 128, (K + 127) // 128
        code = tl.load(codes + which * N * K + n[:, None] * K + deep[None, :], mask=there, other=0)
        at = which * down * across + (n // 128)[:, None] * across + (deep // 128)[None, :]
        return widened(code) * tl.load(scale + at, mask=there, other=0.0)
    groups = (K + GROUP - 1) // GROUP
    pairs = groups * (GROUP // 2)
    pair = tl.load(codes + which * N * pairs + n[:, None] * pairs + (deep // 2)[None, :], mask=there, other=0)
    nibble = ((pair >> ((deep % 2) * 4).to(tl.uint8)[None, :]) & 15).to(tl.float32) - 8.0
    at = which * N * groups + n[:, None] * groups + (deep // GROUP)[None, :]
    step = tl.load(scale + at, mask=there, other=0.0).to(tl.float32)
    return nibble * step + tl.load(zero + at, mask=there, other=0.0).to(tl.float32)


@triton.jit
def few_kernel(
    x, codes, scale, zero, out, N, K, KIND: tl.constexpr, GROUP: tl.constexpr, INNER: tl.constexpr, DEEP: tl.constexpr
):
    row = tl.program_id(0)
    n, k = tl.program_id(1) * INNER + tl.arange(0, INNER), tl.arange(0, DEEP)
    total = tl.zeros([INNER], tl.float32)
    for first in range(0, K, DEEP):
        deep = first + k
        given = tl.load(x + row * K + deep, mask=deep < K, other=0.0).to(tl.float32)
        total += tl.sum(
            weights_at(codes, scale, zero, 0, n, deep, N, K, KIND, GROUP).to(tl.float32) * given[None, :], axis=1
        )
    tl.store(out + row * N + n, total.to(out.dtype.element_ty), mask=n < N)


def times_few(x: Tensor, w: Any) -> Tensor:
    """x [T, K] times a matrix [N, K] of any kind: [T, N]. `model.narrow.times_plain` is the plain twin."""
    codes, scale, zero, kind, group = parts(w)
    x, out = x.contiguous(), x.new_empty(len(x), w.shape[-2])
    few_kernel[(len(x), triton.cdiv(out.shape[1], INNER))](
        x, codes, scale, zero, out, out.shape[1], x.shape[1], kind, group, INNER, DEEP
    )
    return out
