# type: ignore - Triton's own language, which no type checker knows
"""FP8 numbers (e4m3): by the device's own instruction where it has one (compute capability 8.9), else, and both ways in
the interpreter, in integer arithmetic. `formats.e4m3` is the plain twin."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def halved(code):
    """float16 of e4m3 bytes, which all fit."""
    if tl.target_info.cuda_capability_geq(8, 9):
        return code.to(tl.float8e4nv, bitcast=True).to(tl.float16)
    else:  # noqa: RET505, Triton compiles what comes after a return too
        return by_hand(code).to(tl.float16)


@triton.jit
def widened(code):
    """float32 of e4m3 bytes."""
    if tl.target_info.cuda_capability_geq(8, 9):
        return halved(code).to(tl.float32)
    else:  # noqa: RET505
        return by_hand(code)


@triton.jit
def by_hand(code):
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
