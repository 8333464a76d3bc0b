"""Matrices of eight and four bits as accelerators read them: row by row, each row's scales beside it.

Their kernels are `kernels.triton.narrow` and `kernels.triton.experts`, for few rows of input and for a mixture; what is
left, and all of it where there is no Triton, goes through the plain twin, which widens a strip of rows at a time. A
stack of matrices is one object; `stack[e]` is one of them, and `stack[chosen]` several.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..formats import e4m3

BLOCK = 128  # rows and columns that share a scale of FP8
STRIP = 1024  # rows widened at a time, a multiple of BLOCK


@dataclass(frozen=True, slots=True)
class Fp8:
    """codes [.., N, K] uint8 (e4m3) and scale [.., N / 128, K / 128] float32, counted up: weight = code * scale."""

    codes: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    def __getitem__(self, index: int | Tensor) -> Fp8:
        return Fp8(self.codes[index], self.scale[index])

    def tensors(self) -> tuple[Tensor, ...]:
        return self.codes, self.scale

    def widened(self, start: int = 0, end: int | None = None) -> Tensor:
        """Rows start to end [.., end - start, K] in float32; start is that of a block."""
        codes = self.codes[..., start:end, :]
        rows, columns = codes.shape[-2:]
        scale = self.scale[..., start // BLOCK : start // BLOCK + -(-rows // BLOCK), :]
        scale = scale.repeat_interleave(BLOCK, -2)[..., :rows, :].repeat_interleave(BLOCK, -1)[..., :columns]
        return e4m3.decode(codes) * scale

    def times(self, x: Tensor) -> Tensor:
        return times(x, self)


@dataclass(frozen=True, slots=True)
class Nibbles:
    """codes [.., N, K' / 2] uint8, the even column of each pair in the low nibble; scale and zero [.., N, K' / group]
    bfloat16: weight = (nibble - 8) * scale + zero. K' is K (`columns`) filled up to whole groups."""

    codes: Tensor
    scale: Tensor
    zero: Tensor
    columns: int

    @property
    def group(self) -> int:
        return 2 * self.codes.shape[-1] // self.scale.shape[-1]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.codes.shape[:-1], self.columns))

    def __getitem__(self, index: int | Tensor) -> Nibbles:
        return Nibbles(self.codes[index], self.scale[index], self.zero[index], self.columns)

    def tensors(self) -> tuple[Tensor, ...]:
        return self.codes, self.scale, self.zero

    def widened(self, start: int = 0, end: int | None = None) -> Tensor:
        """Rows start to end [.., end - start, K] in float32."""
        codes, scale, zero = (part[..., start:end, :] for part in self.tensors())
        nibbles = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2).float() - 8
        wide = nibbles.unflatten(-1, (scale.shape[-1], self.group)) * scale[..., None].float()
        return wide.add_(zero[..., None].float()).flatten(-2)[..., : self.columns]

    def times(self, x: Tensor) -> Tensor:
        return times(x, self)


Narrow = Fp8 | Nibbles


def times(x: Tensor, w: Narrow) -> Tensor:
    """x [T, K] times a matrix's rows [N, K]: [T, N]. Nothing can be learnt through it."""
    from ..kernels import triton

    if x.is_cuda and triton.available():
        from ..kernels.triton import narrow

        if len(x) <= narrow.FEW:
            return narrow.times_few(x, w)
    return times_plain(x, w)


def times_plain(x: Tensor, w: Narrow) -> Tensor:
    """The same, widened a strip at a time."""
    starts = range(0, w.shape[-2], STRIP)
    return torch.cat([F.linear(x, w.widened(start, start + STRIP).to(x.dtype)) for start in starts], dim=-1)


def to_fp8(w: Tensor) -> tuple[Fp8, Tensor]:
    """A matrix [N, K] packed, and what it means now, in float32. The largest of each block becomes 448."""
    rows, columns = w.shape
    wide = F.pad(w.float(), (0, -columns % BLOCK, 0, -rows % BLOCK))
    blocks = wide.view(len(wide) // BLOCK, BLOCK, -1, BLOCK)
    scale = (blocks.abs().amax(dim=(1, 3)) / e4m3.LARGEST).clamp_min(1e-30)
    codes = e4m3.encode(blocks / scale[:, None, :, None]).view_as(wide)[:rows, :columns].contiguous()
    packed = Fp8(codes, scale)
    return packed, packed.widened()


def to_nibbles(w: Tensor, group: int) -> tuple[Nibbles, Tensor]:
    """A matrix [N, K] packed, and what it means now, in float32.

    Each group has sixteen steps from its least number to its largest; step and middle are rounded to bfloat16 first, so
    that the nibbles make up for it.
    """
    rows, columns = w.shape
    tiles = F.pad(w.float(), (0, -columns % group)).view(rows, -1, group)
    low, high = tiles.aminmax(dim=-1)
    scale = ((high - low) / 15).clamp_min(1e-30).bfloat16()
    zero = (low + 8 * scale.float()).bfloat16()
    steps = (tiles - zero[..., None].float()) / scale[..., None].float()
    nibbles = steps.round_().add_(8).clamp_(0, 15).to(torch.uint8).view(rows, -1, 2)
    packed = Nibbles(nibbles[..., 0] | (nibbles[..., 1] << 4), scale, zero, columns)
    return packed, packed.widened()
