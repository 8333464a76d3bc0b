"""FP8: one e4m3 number an element, scales by block, row or tensor."""

from __future__ import annotations

from torch import Tensor

from . import e4m3
from .scales import spread


def dequantise(codes: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """float32 [N, K] of e4m3 bytes [N, K] (uint8): number x scale, whatever the scale's name.

    `weight_scale` (compressed-tensors) and `weight_scale_inv` (DeepSeek-V3) both multiply; the latter is the inverse of
    what the quantiser multiplied by. Codes 0x7F and 0xFF are NaN and stay so. Raises FormatError for unfit scales.
    """
    return spread(e4m3.decode(codes), scale, block)
