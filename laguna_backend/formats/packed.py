"""INT4 and INT8: whole numbers packed into 32-bit words, symmetric, scales by group, row or tensor.

compressed-tensors' `pack-quantized`: element k of a row is in word k // (32 / bits), lowest bits first, stored as an
unsigned number 2^(bits-1) above its value. A row is filled up to whole words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .scales import FormatError, spread


def dequantise(words: Tensor, scale: Tensor, shape: tuple[int, int], bits: int, block: tuple[int, int]) -> Tensor:
    """float32 [N, K] of words [N, ceil(K * bits / 32)] (int32). Raises FormatError for what does not fit."""
    return spread(unpack(words, shape, bits).float(), scale, block)


def unpack(words: Tensor, shape: tuple[int, int], bits: int) -> Tensor:
    """The whole numbers [N, K], int32, from -2^(bits-1) to 2^(bits-1) - 1."""
    each = 32 // bits
    expected = [shape[0], -(-shape[1] // each)]
    if words.dtype != torch.int32 or list(words.shape) != expected:
        raise FormatError(f"packed weights are {words.dtype} {list(words.shape)}, not int32 {expected} for {bits} bits")
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    # The shift brings copies of the sign bit in from above; the mask takes them away. In place: a wide copy for each
    # step would be most of what loading takes beside the weights.
    numbers = (words[:, :, None] >> shifts).bitwise_and_(2**bits - 1).sub_(2 ** (bits - 1))
    return numbers.view(shape[0], expected[1] * each)[:, : shape[1]]
