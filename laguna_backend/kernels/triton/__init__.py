"""The kernels of a CUDA device, in Triton, each beside a plain twin in torch. No hardware has run them yet.

    numbers ─► heads                            norm, rope and the store of one token's keys and values, in one launch
       ├─────► attention                        one token over the cache as it lies, FP8 too: split over the keys
       └─► narrow ◄─ tuned ─► flash             few rows times a matrix of 16, 8 or 4 bits; a prompt's attention
             └─► experts                        few rows by gathered weights; many rows as one grouped product
    router, norms                               who is chosen; the sum into the residual and the norm after it

What they compute is proved on a CPU, in Triton's interpreter (`tests/laguna_backend/test_triton.py`), and that devices
from compute capability 8.0 on have machine code for them, which neither spills nor asks for more than a block has, by
compiling them for devices that are not there (`bench/compiled.py`): the interpreter lets pass what a compiler does not.
How fast they are, no device has told yet. A token takes eleven launches a layer. Positions and lengths are read from
the device's memory, so that a step is captured once and replayed at every place (`model.captured`). Nothing here is
imported before a device needs it.
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
    if torch.cuda.get_device_capability() < (8, 0):
        log.warning("the device is older than the kernels, so everything on CUDA runs in torch, more slowly")
        return False
    if importlib.util.find_spec("triton") is None:
        log.warning("no Triton, so everything on CUDA runs in torch, more slowly")
        return False
    return True
