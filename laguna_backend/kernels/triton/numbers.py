# type: ignore - Triton's own language, which no type checker knows
"""FP8 numbers (e4m3) in integer arithmetic, which every generation of devices has: `formats.e4m3` is the plain twin."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def widened(code):
    """float32 of e4m3 bytes: their bits in a float32's places, whose exponent counts from 127 and not 7."""
    size = ((code & 0x7F).to(tl.uint32) << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2 ** 120
    return tl.where((code & 0x80) != 0, -size, size)


@triton.jit
def narrowed(x):
    """The nearest e4m3 bytes of float32, ties to even; beyond 448 it stays 448, and what is no number stays none."""
    size = tl.minimum(tl.abs(x), 448.0)
    bits = size.to(tl.uint32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - 960
    # Beside 2 ** 14 a float32's last place is 2 ** -9, which is the step below the smallest normal number.
    small = (size + 16384.0).to(tl.uint32, bitcast=True) - 0x46800000
    code = tl.where(size < 0.015625, small, normal)
    code = tl.where(x != x, 0x7F, code)
    sign = (x.to(tl.uint32, bitcast=True) >> 24) & 0x80
    return (code | sign).to(tl.uint8)


@triton.jit
def both_ways_kernel(x, codes, back, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    code = narrowed(tl.load(x + at, mask=at < size, other=0.0))
    tl.store(codes + at, code, mask=at < size)
    tl.store(back + at, widened(code), mask=at < size)


def both_ways(x: Tensor, codes: Tensor, back: Tensor) -> None:
    """The bytes (uint8) of float32 numbers x [N], and the float32 numbers of those bytes: to prove the two above."""
    both_ways_kernel[(triton.cdiv(x.numel(), 256),)](x, codes, back, x.numel(), 256)
