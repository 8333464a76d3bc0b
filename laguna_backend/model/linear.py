"""Matrices as they lie in memory, and their product with rows: plain, INT8 by row, INT4 by group (CPU).

`linear` is F.linear of any of them. The packed ones go through torch's own kernels, which read the packed bytes and
multiply in bfloat16; a prompt's many rows are worth widening an INT8 matrix a strip at a time, for oneDNN computes
three times as fast as that kernel. A stack of matrices (a layer's experts) is one object; `stack[e]` is one of them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

kernels: Any = torch
"""For torch's packed kernels, whose names begin with an underscore and which the tests therefore pin down."""

Precision = Literal["bf16", "int8", "int4"]
"""How weights are held: as they come, or packed on loading."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

GROUPS = (32, 64, 128)
LANES = 16  # what torch's INT8 kernel takes of a row at a time
ROWS = 64  # what torch's INT4 kernel takes at a time
MANY = 48  # rows of x from which on widening pays
STRIP = 1024  # rows widened at a time: they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Int8:
    """codes [.., N, K'] int8 and scale [.., N] bfloat16: weight = codes * scale.

    K' is K filled up to whole lanes: torch's kernel reads sixteen at a time, beyond the end if it must.
    """

    codes: Tensor
    scale: Tensor
    columns: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.codes.shape[:-1], self.columns))

    def __getitem__(self, index: int) -> Int8:
        return Int8(self.codes[index], self.scale[index], self.columns)

    def tensors(self) -> tuple[Tensor, ...]:
        return self.codes, self.scale

    def times(self, x: Tensor) -> Tensor:
        """x [T, K] bfloat16 -> [T, N]."""
        wide = filled(x, self.codes.shape[-1])
        if x.shape[0] < MANY:
            return kernels._weight_int8pack_mm(wide, self.codes, self.scale)
        strips = [F.linear(wide, strip.to(x.dtype)) for strip in self.codes.split(STRIP)]
        return torch.cat(strips, dim=-1).mul_(self.scale)


@dataclass(frozen=True, slots=True)
class Int4:
    """Nibbles in the kernel's order [.., N', K'/2] uint8, scale and zero [.., K'/group, N', 2] bfloat16.

    weight = (nibble - 8) * scale + zero. N' and K' are N and K filled up to whole blocks and groups.
    """

    packed: Tensor
    scales: Tensor
    rows: int
    columns: int
    group: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.packed.shape[:-2], self.rows, self.columns))

    def __getitem__(self, index: int) -> Int4:
        return Int4(self.packed[index], self.scales[index], self.rows, self.columns, self.group)

    def tensors(self) -> tuple[Tensor, ...]:
        return self.packed, self.scales

    def times(self, x: Tensor) -> Tensor:
        """x [T, K] bfloat16 -> [T, N]."""
        wide = filled(x, 2 * self.packed.shape[-1])
        out = kernels._weight_int4pack_mm_for_cpu(wide, self.packed, self.group, self.scales)
        return out[:, : self.rows] if out.shape[1] != self.rows else out


Matrix = Tensor | Int8 | Int4


def filled(x: Tensor, columns: int) -> Tensor:
    """x with zeros to its right, contiguous: the kernels look at nothing but its address."""
    return F.pad(x, (0, columns - x.shape[1])) if columns != x.shape[1] else x.contiguous()


def linear(x: Tensor, w: Matrix) -> Tensor:
    """x [.., K] times the matrix's rows: [.., N]."""
    if isinstance(w, Tensor):
        return F.linear(x, w)
    if x.dim() == 2:
        return w.times(x)
    return w.times(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


@contextmanager
def one_row(device: torch.device) -> Generator[None, None, None]:
    """Where products are of one row: on a CPU without oneDNN, whose bfloat16 kernels read a matrix at half the speed of
    torch's own there (measured: 16 to 19 against 28 to 33 GB/s of 33). The switch is the process's; one thread uses
    torch here (`worker`)."""
    if device.type != "cpu" or not kernels._C._get_mkldnn_enabled():
        yield
        return
    kernels._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        kernels._C._set_mkldnn_enabled(True)


def tensors_of(w: Matrix) -> tuple[Tensor, ...]:
    """The tensors that a matrix is made of."""
    return (w,) if isinstance(w, Tensor) else w.tensors()


# Packing -------------------------------------------------------------------------------------------------


def to_int8(w: Tensor) -> tuple[Int8, Tensor]:
    """A matrix [N, K] packed, and what it means now, in float32. The largest of each row is 127 steps away from 0."""
    wide = w.float()
    scale = (wide.abs().amax(dim=1) / 127).clamp_min(1e-30).bfloat16()
    step = scale.float()[:, None]
    codes = (wide / step).round_().clamp_(-128, 127)
    packed = F.pad(codes.to(torch.int8), (0, -w.shape[1] % LANES))
    return Int8(packed, scale, w.shape[1]), codes.mul_(step)


def to_int4(w: Tensor, group: int) -> tuple[Int4, Tensor]:
    """A matrix [N, K] packed, and what it means now, in float32. Each group has sixteen steps from its least number to
    its largest; scale and zero are rounded to bfloat16 first, so that the nibbles make up for it."""
    rows, columns = w.shape
    wide = F.pad(w.float(), (0, -columns % group, 0, -rows % ROWS))
    tiles = wide.view(wide.shape[0], -1, group)
    low, high = tiles.aminmax(dim=-1, keepdim=True)
    scale = ((high - low) / 15).clamp_min(1e-30).bfloat16().float()
    zero = (low + 8 * scale).bfloat16().float()
    nibbles = ((tiles - zero) / scale).round_().add_(8).clamp_(0, 15)
    packed = kernels._convert_weight_to_int4pack_for_cpu(nibbles.view_as(wide).int(), 1)
    scales = torch.cat((scale, zero), dim=-1).transpose(0, 1).contiguous().bfloat16()
    means = nibbles.sub_(8).mul_(scale).add_(zero).view_as(wide)[:rows, :columns]
    return Int4(packed, scales, rows, columns, group), means


class Packer:
    """Packs matrices to one precision and keeps account of the error that this makes."""

    def __init__(self, precision: Precision = "bf16", group: int = 32) -> None:
        if group not in GROUPS:
            raise ValueError(f"groups of {group} are not supported; supported are {', '.join(map(str, GROUPS))}")
        self.precision: Precision = precision
        self.group = group
        self.squares = self.wrong = 0.0

    def __call__(self, w: Tensor, precision: Precision | None = None) -> Matrix:
        """The matrix [N, K] in this precision, or in another one that is asked for."""
        wanted = precision or self.precision
        if wanted == "bf16":
            return w
        packed, means = to_int8(w) if wanted == "int8" else to_int4(w, self.group)
        wide = w.float()
        self.squares += float(wide.square().sum())
        self.wrong += float(means.sub_(wide).square_().sum())
        return packed

    def error(self) -> float:
        """Root of the squared errors over that of the squared weights, of all that was packed."""
        return (self.wrong / self.squares) ** 0.5 if self.squares else 0.0


class Stack:
    """Gathers `count` matrices of one kind and shape into one object as they come, so that none lies there twice."""

    def __init__(self, count: int) -> None:
        self.count, self.done = count, 0
        self.first: Matrix | None = None
        self.parts: list[Tensor] = []

    def add(self, matrix: Matrix) -> None:
        if self.first is None:
            self.first = matrix
            self.parts = [part.new_empty((self.count, *part.shape)) for part in tensors_of(matrix)]
        for whole, part in zip(self.parts, tensors_of(matrix), strict=True):
            whole[self.done] = part
        self.done += 1

    def whole(self) -> Matrix:
        first = self.first
        if isinstance(first, Int8):
            return Int8(self.parts[0], self.parts[1], first.columns)
        if isinstance(first, Int4):
            return Int4(self.parts[0], self.parts[1], first.rows, first.columns, first.group)
        return self.parts[0]
