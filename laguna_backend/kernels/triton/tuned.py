# type: ignore - Triton's own language, which no type checker knows
"""What a device is asked, the first time that a kernel meets a size: which tiles serve it best, and whether the kernel
beats the library at all. Tiles for which it has no room are passed over.

A choice lasts as long as the process; that of tiles lies beside Triton's compiled kernels, too. The interpreter has
none.
"""

from collections.abc import Callable
from typing import Any

import triton
from triton.runtime import driver

READING = [  # for who reads a matrix once: rows, columns, warps
    triton.Config({"TALL": tall, "DEEP": deep}, num_warps=warps)
    for tall, deep, warps in ((8, 512, 4), (4, 512, 4), (2, 1024, 4), (4, 1024, 8))
]
SEEING = [  # for a chunk's attention; devices have 99 to 227 KiB for the keys under way
    triton.Config({"QUERIES": queries, "KEYS": keys}, num_warps=warps, num_stages=stages)
    for queries, keys, warps, stages in ((128, 64, 8, 3), (128, 64, 8, 2), (64, 64, 4, 2), (128, 32, 4, 2))
]

if triton.knobs.runtime.interpret:  # where a program costs a millisecond
    READING = [triton.Config({"TALL": 64, "DEEP": 256})]


def tuned(configs: list[triton.Config], *key: str) -> Callable[[Any], Any]:
    """A kernel with the constants of one of `configs`, found out for each value of `key`."""
    return triton.autotune(configs[:1] if triton.knobs.runtime.interpret else configs, list(key), cache_results=True)


def quicker(one: Callable[[], Any], other: Callable[[], Any]) -> bool:
    """Whether the device has done `one` sooner than `other`, by the medians."""
    if triton.knobs.runtime.interpret:
        return True
    measure = driver.active.get_benchmarker()
    return measure(one, quantiles=(0.5, 0.2, 0.8))[0] < measure(other, quantiles=(0.5, 0.2, 0.8))[0]
