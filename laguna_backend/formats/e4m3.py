"""FP8 numbers of the e4m3 kind as bytes: sign, four bits of exponent with bias 7, three of mantissa, no infinity.

Torch casts on the CPU and on CUDA; MPS has no such type, so there the same bytes come from integer arithmetic, and the
numbers from a table. The two ways agree on every value, ties to even included.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

LARGEST = 448.0
SMALLEST_NORMAL = 2.0**-6
STEP = 2.0**-9  # between the numbers below the smallest normal one


def encode(x: Tensor) -> Tensor:
    """Bytes (uint8) of the nearest e4m3 values of x; what is beyond ±448 becomes ±448."""
    # Clamp first: casts beyond the largest value saturate in some torch versions and are NaN in others.
    x = x.float().clamp(-LARGEST, LARGEST)
    return x.to(torch.float8_e4m3fn).view(torch.uint8) if has_type(x.device) else encode_by_arithmetic(x)


def decode(bytes_: Tensor) -> Tensor:
    """The float32 values of e4m3 bytes."""
    if not has_type(bytes_.device):
        return decode_by_table(bytes_)
    return bytes_.view(torch.float8_e4m3fn).to(torch.float32)


def has_type(device: torch.device) -> bool:
    """Whether torch knows such numbers there."""
    return device.type != "mps"


def encode_by_arithmetic(x: Tensor) -> Tensor:
    """`encode` of float32 within ±448, without the type."""
    bits = x.contiguous().view(torch.int32)
    sign, magnitude = (bits >> 24) & 0x80, bits & 0x7FFFFFFF
    # Keep three of 23 bits of mantissa, rounding half to even, and move the exponent's bias from 127 to 7.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
    small = (x.abs() / STEP).round().to(torch.int32)
    return (sign | torch.where(x.abs() < SMALLEST_NORMAL, small, normal)).to(torch.uint8)


def decode_by_table(bytes_: Tensor) -> Tensor:
    """`decode`, without the type."""
    return table(bytes_.device).index_select(0, bytes_.reshape(-1).int()).view(bytes_.shape)


@functools.cache
def table(device: torch.device) -> Tensor:
    """The numbers of all bytes: [256], float32."""
    return torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().to(device)
