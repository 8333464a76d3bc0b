"""The kernels of a CUDA device, in Triton, each beside a plain twin in torch. No hardware has run them yet.

    numbers ─► heads                            norm, rope and the store of one token's keys and values, in one launch
       ├─────► attention                        one token over the cache as it lies, FP8 too: split over the keys
       └─► narrow                               matrices of eight and four bits, and few rows' product with one
             └─► experts                        few rows by gathered weights; many rows as one grouped product
    norms                                       the sum into the residual and the norm after it

What they must compute is proved on a CPU, in Triton's interpreter (`tests/laguna_backend/test_triton.py`); how fast
they are, no device has told yet. Positions and lengths are read from the device's memory, so that a step is captured
once and replayed at every place (`model.captured`). Nothing here is imported before a device needs it.
"""

from __future__ import annotations

import functools
import importlib.util
import logging

import torch

log = logging.getLogger("laguna")


@functools.cache
def available() -> bool:
    """Whether there are Triton and a CUDA device for it; said once in the log where there is only the device."""
    if not torch.cuda.is_available():
        return False
    if importlib.util.find_spec("triton") is None:
        log.warning("no Triton, so everything on CUDA runs in torch, more slowly")
        return False
    return True
