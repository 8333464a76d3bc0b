# type: ignore - Triton's own language, which no type checker knows
"""The sum into the residual and the norm after it, in one launch. `model.layer.norm` is the plain twin."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def add_and_norm_kernel(h, more, weight, out, size, eps, ADD: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * size
    at = tl.arange(0, BLOCK)
    held = at < size
    kind = h.dtype.element_ty
    x = tl.load(h + row + at, mask=held, other=0.0).to(tl.float32)
    if ADD:
        x = (x + tl.load(more + row + at, mask=held, other=0.0).to(tl.float32)).to(kind).to(tl.float32)
        tl.store(h + row + at, x.to(kind), mask=held)
    factor = tl.rsqrt(tl.sum(x * x) / size + eps)
    scale = tl.load(weight + at, mask=held, other=0.0).to(tl.float32)
    tl.store(out + row + at, ((x * factor).to(kind).to(tl.float32) * scale).to(kind), mask=held)


def add_and_norm(h: Tensor, more: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """norm(h + more) of rows [T, H]; h becomes the sum, rounded to its dtype."""
    out, rows = torch.empty_like(h), h.shape[0]
    size = h.shape[1]
    block = triton.next_power_of_2(size)
    add_and_norm_kernel[(rows,)](h, h if more is None else more, weight, out, size, eps, more is not None, block)
    return out
