"""FP8 numbers of the e4m3 kind as bytes: sign, four bits of exponent with bias 7, three of mantissa, no infinity.

Torch casts on the CPU and on CUDA; MPS has no such type, so there the same bytes come from integer arithmetic. The two
agree on every value, ties to even included.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 448.0
SMALLEST_NORMAL = 2.0**-6
STEP = 2.0**-9  # between the numbers below the smallest normal one


def encode(x: Tensor) -> Tensor:
    """Bytes (uint8) of the nearest e4m3 values of x; what is beyond ±448 becomes ±448."""
    # Clamp first: casts beyond the largest value saturate in some torch versions and are NaN in others.
    x = x.float().clamp(-LARGEST, LARGEST)
    return encode_by_arithmetic(x) if x.device.type == "mps" else x.to(torch.float8_e4m3fn).view(torch.uint8)


def decode(bytes_: Tensor) -> Tensor:
    """The float32 values of e4m3 bytes."""
    if bytes_.device.type == "mps":
        return decode_by_arithmetic(bytes_)
    return bytes_.view(torch.float8_e4m3fn).to(torch.float32)


def encode_by_arithmetic(x: Tensor) -> Tensor:
    """`encode` of float32 within ±448, without the type."""
    bits = x.contiguous().view(torch.int32)
    sign, magnitude = (bits >> 24) & 0x80, bits & 0x7FFFFFFF
    # Keep three of 23 bits of mantissa, rounding half to even, and move the exponent's bias from 127 to 7.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
    small = (x.abs() / STEP).round().to(torch.int32)
    return (sign | torch.where(x.abs() < SMALLEST_NORMAL, small, normal)).to(torch.uint8)


def decode_by_arithmetic(bytes_: Tensor) -> Tensor:
    """`decode` of bytes that are numbers, without the type."""
    code = bytes_.to(torch.int32)
    magnitude = code & 0x7F
    normal = ((magnitude + (120 << 3)) << 20).view(torch.float32)
    value = torch.where(magnitude < 8, magnitude.float() * STEP, normal)
    return torch.where(code >= 128, -value, value)
