"""Scales of blocks: [rows / block, columns / block] numbers times a matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .scheme import ALL


class FormatError(ValueError):
    """The bytes do not fit together. The message says what was found and what was expected."""


def sides(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """A block's rows and columns, those that are `ALL` counted out."""
    rows, columns = (size if side == ALL else side for size, side in zip(shape, block, strict=True))
    return max(rows, 1), max(columns, 1)


def grid(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """How many blocks there are, the last row and column of them cut short where they do not come out even."""
    rows, columns = sides(shape, block)
    return -(-shape[0] // rows), -(-shape[1] // columns)


def spread(values: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """values [N, K] times each block's scale, in float32; `values` may be overwritten.

    Raises FormatError when the scales do not number the blocks of such a matrix, or one of them is no finite number.
    """
    shape = (values.shape[0], values.shape[1])
    down, across = grid(shape, block)
    if scale.numel() != down * across or (scale.dim() == 2 and tuple(scale.shape) != (down, across)):
        raise FormatError(f"scales are {list(scale.shape)}, {list(shape)} in such blocks has {[down, across]}")
    wide = scale.reshape(down, across).float()
    if not torch.isfinite(wide).all():
        raise FormatError("scales hold NaN or infinity")
    rows, columns = sides(shape, block)
    padding = (0, across * columns - shape[1], 0, down * rows - shape[0])
    whole = F.pad(values, padding) if any(padding) else values
    tiles = whole.contiguous().view(down, rows, across, columns).mul_(wide[:, None, :, None])
    return tiles.view(down * rows, across * columns)[: shape[0], : shape[1]]
