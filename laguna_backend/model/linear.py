"""Matrices as they lie in memory, and their product with rows: plain, INT8 by row, INT4 by group (CPU), and those of an
accelerator (`narrow`).

`linear` is F.linear of any of them. Those for a CPU are laid out for our own kernels (`kernels/cpp/matrix.h`): blocks
of sixteen rows, a lane for each row. Those read the packed bytes and round the input to INT8 too, a step for each 32
numbers. The plain twin, where there are no kernels, widens a matrix to the input's type a strip at a time. A stack of
matrices (a layer's experts) is one object; `stack[e]` is one of them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import library, native
from .device import roomy
from .narrow import Fp8, Narrow, Nibbles, to_fp8, to_nibbles

internal: Any = torch
"""For torch's switch of oneDNN, whose name begins with an underscore."""

Precision = Literal["bf16", "int8", "int4", "fp8"]
"""How weights are held: as they come, or packed on loading; INT8 on a CPU, FP8 on an accelerator, INT4 on either."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ON_CPU: tuple[Precision, ...] = ("bf16", "int8", "int4")
ON_ACCELERATOR: tuple[Precision, ...] = ("bf16", "fp8", "int4")

GROUPS = (32, 64, 128)
LANES = 16  # rows of a block
PART = 32  # columns are filled up to whole parts: so many numbers of the input share a step
FEW = 8  # rows of input up to which our kernels are faster than torch's with plain matrices
STRIP = 1024  # rows widened at a time: they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Int8:
    """codes [.., N' / 16, K' / 4, 16, 4] uint8 and scale [.., N'] float32: weight = (code - 128) * scale.

    N' and K' are N and K filled up to whole blocks and parts.
    """

    codes: Tensor
    scale: Tensor
    rows: int
    columns: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.codes.shape[:-4], self.rows, self.columns))

    def __getitem__(self, index: int) -> Int8:
        return Int8(self.codes[index], self.scale[index], self.rows, self.columns)

    def tensors(self) -> tuple[Tensor, ...]:
        return self.codes, self.scale

    def native(self) -> native.Matrix:
        """For the kernels; of a stack, the first matrix with the way to the next."""
        columns = 4 * self.codes.shape[-3]
        step, scale_step = self.codes.shape[-4] * LANES * columns, self.scale.shape[-1]
        addresses = self.codes.data_ptr(), self.scale.data_ptr()
        return native.Matrix(native.INT8, 0, self.rows, columns, *addresses, step, scale_step)

    def widened(self, start: int, end: int) -> Tensor:
        """Rows start to end [end - start, K] in float32; start is that of a block."""
        blocks = self.codes[start // LANES : -(-end // LANES)]
        rows = blocks.transpose(1, 2).reshape(-1, 4 * blocks.shape[1])[: end - start, : self.columns]
        return (rows.float() - 128) * self.scale[start:end, None]

    def times(self, x: Tensor) -> Tensor:
        return times(x, self)


@dataclass(frozen=True, slots=True)
class Int4:
    """packed [.., N' / 16, K' / group, 32 + 8 * group] uint8 and steps [.., N', 2] float32.

    Of each group of a block: 16 scale codes, 16 zero codes (signed), and the nibbles, for each eight columns 16 x 4
    bytes, the first four columns in the low nibbles. weight = (nibble - 8) * scale code * steps[0] + zero code *
    steps[1].
    """

    packed: Tensor
    steps: Tensor
    rows: int
    columns: int
    group: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.packed.shape[:-3], self.rows, self.columns))

    def __getitem__(self, index: int) -> Int4:
        return Int4(self.packed[index], self.steps[index], self.rows, self.columns, self.group)

    def tensors(self) -> tuple[Tensor, ...]:
        return self.packed, self.steps

    def native(self) -> native.Matrix:
        """For the kernels; of a stack, the first matrix with the way to the next."""
        blocks, groups, size = self.packed.shape[-3:]
        addresses = self.packed.data_ptr(), self.steps.data_ptr()
        step, scale_step = blocks * groups * size, 2 * self.steps.shape[-2]
        return native.Matrix(native.INT4, self.group, self.rows, groups * self.group, *addresses, step, scale_step)

    def widened(self, start: int, end: int) -> Tensor:
        """Rows start to end [end - start, K] in float32; start is that of a block."""
        blocks = self.packed[start // LANES : -(-end // LANES)]
        many, groups = blocks.shape[:2]
        scale = blocks[..., :LANES].float()
        zero = blocks[..., LANES : 2 * LANES].view(torch.int8).float()
        pairs = blocks[..., 2 * LANES :].view(many, groups, self.group // 8, LANES, 1, 4)
        nibbles = torch.cat((pairs & 15, pairs >> 4), dim=-2).permute(0, 3, 1, 2, 4, 5)
        nibbles = nibbles.reshape(many, LANES, groups, self.group).float()
        steps = self.steps.view(-1, LANES, 2)[start // LANES : -(-end // LANES)]
        scale = scale.transpose(1, 2) * steps[..., :1]  # [blocks, 16, groups]
        zero = zero.transpose(1, 2) * steps[..., 1:]
        wide = (nibbles - 8) * scale[..., None] + zero[..., None]
        return wide.view(many * LANES, groups * self.group)[: end - start, : self.columns]

    def times(self, x: Tensor) -> Tensor:
        return times(x, self)


Packed = Int8 | Int4


@dataclass(frozen=True, slots=True)
class LowRank:
    """A matrix [.., N, K] and what an adapter adds to it: weight = base + scale * up @ down (LoRA, arXiv 2106.09685).

    down [.., r, K] and up [.., N, r] are in the dtype of what is multiplied. `dropout` of what goes down, in training.
    """

    base: Tensor | Packed | Narrow
    down: Tensor
    up: Tensor
    scale: float
    dropout: float = 0.0

    @property
    def shape(self) -> torch.Size:
        return self.base.shape

    def __getitem__(self, index: int) -> LowRank:
        return LowRank(self.base[index], self.down[index], self.up[index], self.scale, self.dropout)

    def tensors(self) -> tuple[Tensor, ...]:
        return *tensors_of(self.base), self.down, self.up

    def times(self, x: Tensor) -> Tensor:
        """x [T, K] -> [T, N]."""
        less = F.dropout(x, self.dropout) if self.dropout else x
        return linear(x, self.base) + F.linear(F.linear(less, self.down), self.up) * self.scale


Matrix = Tensor | Packed | Narrow | LowRank


def times(x: Tensor, w: Packed) -> Tensor:
    """x [T, K] -> [T, N], by the kernels where there are any, else by the plain twin."""
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, Through.apply(x, w))
    kernels = library()
    if kernels is None or x.dtype not in native.TYPES:
        return times_plain(x, w)
    x = x.contiguous()
    out = x.new_empty(x.shape[0], w.rows)
    matrix, threads = w.native(), torch.get_num_threads()
    kernels.product(
        native.address(matrix), x.data_ptr(), w.columns, x.shape[0], native.TYPES[x.dtype], None, 0.0, None,
        out.data_ptr(), threads,
    )  # fmt: skip
    return out


def times_plain(x: Tensor, w: Packed) -> Tensor:
    """x [T, K] times what the packed matrix means, widened a strip at a time."""
    starts = range(0, w.rows, STRIP)
    strips = [F.linear(x, w.widened(start, min(start + STRIP, w.rows)).to(x.dtype)) for start in starts]
    return torch.cat(strips, dim=-1)


class Through(torch.autograd.Function):
    """The plain twin where x learns: the gradient goes through, by the matrix widened once more and not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Packed) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.matrix = w
        return times_plain(x, w)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        w: Packed = ctx.matrix
        passed = gradient.new_zeros(len(gradient), w.columns)
        for start in range(0, w.rows, STRIP):
            strip = gradient[:, start : start + STRIP]
            passed += strip @ w.widened(start, start + strip.shape[1]).to(gradient.dtype)
        return passed, None


def native_matrix(w: Matrix) -> native.Matrix:
    """Any matrix as the kernels take it. Whoever calls keeps the tensors."""
    if isinstance(w, LowRank | Fp8 | Nibbles):
        raise TypeError("the kernels know no adapters, and not what is packed for accelerators")
    return native.plain(w) if isinstance(w, Tensor) else w.native()


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
    if device.type != "cpu" or not internal._C._get_mkldnn_enabled():
        yield
        return
    internal._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        internal._C._set_mkldnn_enabled(True)


def tensors_of(w: Matrix) -> tuple[Tensor, ...]:
    """The tensors that a matrix is made of."""
    return (w,) if isinstance(w, Tensor) else w.tensors()


def each(stack: Matrix) -> Sequence[Matrix]:
    """The matrices of a stack. Their gradients become the stack's all at once, where that of each `stack[e]` would be
    a whole stack of zeros but for one matrix: with 256 experts that is nearly all of a training step."""
    if isinstance(stack, Tensor):
        return stack.unbind(0)
    if isinstance(stack, LowRank):
        parts = zip(each(stack.base), stack.down.unbind(0), stack.up.unbind(0), strict=True)
        return [replace(stack, base=base, down=down, up=up) for base, down, up in parts]
    return [stack[index] for index in range(stack.shape[0])]


def plain(w: Matrix) -> Tensor:
    """A matrix that is a tensor. Raises TypeError for any other."""
    if not isinstance(w, Tensor):
        raise TypeError("packed weights are for running; those that were packed are gone")
    return w


# Packing -------------------------------------------------------------------------------------------------


def to_int8(w: Tensor) -> tuple[Int8, Tensor]:
    """A matrix [N, K] packed, and what it means now, in float32. The largest of each row is 127 steps away from 0."""
    rows, columns = w.shape
    wide = w.float()
    scale = (wide.abs().amax(dim=1) / 127).clamp_min(1e-30)
    codes = (wide / scale[:, None]).round_().clamp_(-127, 127)
    filled = F.pad(codes + 128, (0, -columns % PART, 0, -rows % LANES), value=128).to(torch.uint8)
    blocks = filled.view(len(filled) // LANES, LANES, -1, 4).transpose(1, 2).contiguous()
    return Int8(blocks, F.pad(scale, (0, -rows % LANES)), rows, columns), codes.mul_(scale[:, None])


def to_int4(w: Tensor, group: int) -> tuple[Int4, Tensor]:
    """A matrix [N, K] packed, and what it means now, in float32.

    Each group has sixteen steps from its least number to its largest. Step and middle are rounded to eight bits of the
    row's largest first, so that the nibbles make up for it.
    """
    rows, columns = w.shape
    wide = F.pad(w.float(), (0, -columns % group, 0, -rows % LANES))
    tiles = wide.view(len(wide), -1, group)  # [N', groups, group]
    low, high = tiles.aminmax(dim=-1)
    scale = ((high - low) / 15).clamp_min(1e-30)
    zero = low + 8 * scale
    steps = torch.stack((scale.amax(dim=1) / 255, zero.abs().amax(dim=1).clamp_min(1e-30) / 127), dim=1)
    scale_codes = (scale / steps[:, :1]).ceil_().clamp_(1, 255)
    zero_codes = (zero / steps[:, 1:]).round_().clamp_(-127, 127)
    scale, zero = (scale_codes * steps[:, :1])[..., None], (zero_codes * steps[:, 1:])[..., None]
    nibbles = ((tiles - zero) / scale).round_().add_(8).clamp_(0, 15)
    halves = nibbles.to(torch.uint8).view(-1, LANES, tiles.shape[1], group // 8, 2, 4)
    pairs = (halves[..., 0, :] | (halves[..., 1, :] << 4)).permute(0, 2, 3, 1, 4)  # [blocks, groups, eights, 16, 4]
    blocks = (codes.view(-1, LANES, tiles.shape[1]).transpose(1, 2) for codes in (scale_codes, zero_codes))
    scales, zeros = (block.to(kind) for block, kind in zip(blocks, (torch.uint8, torch.int8), strict=True))
    packed = torch.cat((scales, zeros.contiguous().view(torch.uint8), pairs.flatten(2)), dim=-1)
    means = nibbles.sub_(8).mul_(scale).add_(zero).view_as(wide)[:rows, :columns]
    return Int4(packed, steps, rows, columns, group), means


class Packer:
    """Packs matrices to one precision and keeps account of the error that this makes.

    `narrow`: as accelerators read them, which is the only way for FP8 and none for INT8.
    """

    def __init__(self, precision: Precision = "bf16", group: int = 32, *, narrow: bool = False) -> None:
        if group not in GROUPS:
            raise ValueError(f"groups of {group} are not supported; supported are {', '.join(map(str, GROUPS))}")
        if precision == ("int8" if narrow else "fp8"):
            raise ValueError(f"{precision} is for {'a CPU' if narrow else 'an accelerator'}")
        self.precision: Precision = precision
        self.group = group
        self.narrow = narrow
        self.head: Precision = "bf16" if precision == "bf16" else "fp8" if narrow else "int8"
        """The precision of the head: eight bits at least, for it decides each token."""
        self.squares = self.wrong = 0.0

    def __call__(self, w: Tensor, precision: Precision | None = None) -> Matrix:
        """The matrix [N, K] in this precision, or in another one that is asked for."""
        wanted = precision or self.precision
        if wanted == "bf16":
            return w
        kernels = library()
        if kernels and not self.narrow and w.is_contiguous() and w.dtype in native.TYPES:
            return self.pack(kernels, w, wanted)
        if self.narrow:
            packed, means = to_fp8(w) if wanted == "fp8" else to_nibbles(w, self.group)
        else:
            packed, means = to_int8(w) if wanted == "int8" else to_int4(w, self.group)
        wide = w.float()
        self.squares += float(wide.square().sum())
        self.wrong += float(means.sub_(wide).square_().sum())
        return packed

    def pack(self, kernels: native.Library, w: Tensor, wanted: Precision) -> Matrix:
        """What `to_int8` and `to_int4` make, by the kernels."""
        rows, columns = w.shape
        blocks = -(-rows // LANES)
        if wanted == "int8":
            codes = roomy(blocks, -(-columns // PART) * PART // 4, LANES, 4, dtype=torch.uint8)
            packed = Int8(codes, torch.empty(blocks * LANES), rows, columns)
        else:
            groups = -(-columns // self.group)
            nibbles = roomy(blocks, groups, 2 * LANES + 8 * self.group, dtype=torch.uint8)
            packed = Int4(nibbles, torch.empty(blocks * LANES, 2), rows, columns, self.group)
        errors = (native.DOUBLE * 2)()
        matrix = packed.native()
        kernels.pack(
            native.address(matrix), w.data_ptr(), columns, native.TYPES[w.dtype], errors, torch.get_num_threads()
        )
        self.squares += errors[0]
        self.wrong += errors[1]
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
            self.parts = [roomy(self.count, *p.shape, dtype=p.dtype, device=p.device) for p in tensors_of(matrix)]
        for whole, part in zip(self.parts, tensors_of(matrix), strict=True):
            whole[self.done] = part
        self.done += 1

    def whole(self) -> Matrix:
        first = self.first
        if isinstance(first, Int8):
            return Int8(self.parts[0], self.parts[1], first.rows, first.columns)
        if isinstance(first, Int4):
            return Int4(self.parts[0], self.parts[1], first.rows, first.columns, first.group)
        if isinstance(first, Fp8):
            return Fp8(self.parts[0], self.parts[1])
        if isinstance(first, Nibbles):
            return Nibbles(self.parts[0], self.parts[1], self.parts[2], first.columns)
        return self.parts[0]
