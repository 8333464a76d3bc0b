"""NVFP4: two e2m1 numbers a byte, an e4m3 scale for each sixteen, one float32 scale for the tensor.

compressed-tensors' `nvfp4-pack-quantized`: the low nibble is the earlier element, and the global scale is stored as the
number that the block scales were multiplied by, so it divides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import e4m3
from .scales import FormatError, spread

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The values of codes 0 to 7; codes 8 to 15 are their negatives (OCP Microscaling v1.0, 5.3.3)."""
GROUP = 16


def dequantise(pairs: Tensor, scale: Tensor, global_scale: Tensor, shape: tuple[int, int]) -> Tensor:
    """float32 [N, K] of pairs [N, K/2] (uint8), scale [N, K/16] (e4m3 bytes, uint8) and global_scale (one number).

    Raises FormatError for what does not fit.
    """
    expected = [shape[0], -(-shape[1] // 2)]
    if pairs.dtype != torch.uint8 or list(pairs.shape) != expected:
        raise FormatError(f"packed weights are {pairs.dtype} {list(pairs.shape)}, not uint8 {expected}")
    if global_scale.numel() != 1 or not 0 < float(global_scale) < float("inf"):
        raise FormatError(f"the global scale is {global_scale.flatten()[:3].tolist()}, not one positive number")
    values = torch.index_select(table(pairs.device), 0, pairs.flatten().int())
    values = values.view(shape[0], 2 * expected[1])[:, : shape[1]]
    return spread(values, e4m3.decode(scale) / global_scale.float().reshape(()), (1, GROUP))


def table(device: torch.device) -> Tensor:
    """Both numbers of every byte, the low nibble's first: [256, 2], float32."""
    values = torch.tensor([*E2M1, *(-value for value in E2M1)], device=device)
    code = torch.arange(256, device=device)
    return torch.stack((values[code % 16], values[code // 16]), dim=1)
