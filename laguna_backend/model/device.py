"""Where a model runs and in which number format, decided once."""

from __future__ import annotations

import ctypes
import math
import mmap
import platform
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import ConfigError

OTHER = {"fp8": "an accelerator", "int8": "a CPU"}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Placement:
    device: torch.device
    dtype: torch.dtype


def place(
    device: str | None = None, dtype: str | None = None, *, parameters: int = 0, weights: str = "bf16"
) -> Placement:
    """The device asked for, or the best there is (CUDA, MPS, CPU), and the dtype asked for, or the one that suits it.

    Never float16: Laguna's late experts exceed its range. Accelerators take bfloat16. A CPU takes bfloat16 for a model
    whose float32 weights would pass two GiB, where memory decides, and float32 below that, where bfloat16 only rounds.
    Of packed `weights` INT8 is for a CPU, FP8 for an accelerator, and INT4 for CUDA, or else for a CPU, unless another
    device is asked for; their kernels want bfloat16.
    Raises ConfigError for a device that is not there or a dtype that is not supported.
    """
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    packed = weights != "bf16"
    name = device or ("cpu" if weights == "int8" or (weights == "int4" and best == "mps") else best)
    kind, _, index = name.partition(":")
    available = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if kind not in available or (index and not index.isdecimal()) or name.endswith(":"):
        raise ConfigError(f"device {name!r} is not known; known are cuda, cuda:N, mps and cpu")
    if not available[kind]:
        raise ConfigError(f"this machine, or this build of torch, has no {kind}")
    if int(index or 0) >= available[kind]:
        raise ConfigError(f"device {name!r} is not there: this machine has {available[kind]} of {kind}")
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is not supported; supported are {', '.join(DTYPES)}")
    if weights == ("fp8" if kind == "cpu" else "int8"):
        raise ConfigError(f"weights are packed to {weights.upper()} for {OTHER[weights]}, not for {kind}")
    if dtype is None and packed:
        dtype = "bfloat16"
    if dtype is None:
        dtype = "float32" if kind == "cpu" and parameters * 4 < 2**31 else "bfloat16"
    return Placement(torch.device(name), DTYPES[dtype])


def quick_bfloat16(device: torch.device) -> bool:
    """Whether torch multiplies bfloat16 there as fast as float32. On a CPU without AVX-512 (or Arm's own instructions)
    it takes about 25 times as long (measured, 256 x 256)."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


SMALL_MODEL = 50_000_000
"""Parameters below which a matrix product is over before a second thread has woken up."""


def spread(placement: Placement, parameters: int) -> None:
    """Let torch use as many CPU threads as help this model: one for a small one, else torch's own choice.

    Operations of a few microseconds would spend a second thread's time in waiting for it, and on a busy machine, where
    a thread that is waited for may not be running, twenty times that.
    """
    if placement.device.type != "cpu":
        return
    if parameters < SMALL_MODEL:
        torch.set_num_threads(1)
    else:
        keep_freed_memory()


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of glibc's mallopt


def keep_freed_memory() -> None:
    """Have glibc hand out again what was freed, instead of giving it back to the system each time.

    Otherwise every intermediate tensor of a prompt comes as new pages, and clearing them costs more than filling them:
    norms of 512 rows take 0.3 instead of 4 ms. Up to half a GiB stays with the process. No other C library is touched.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, 1 << 25)  # the most it takes
    libc.mallopt(TRIM_THRESHOLD, 1 << 29)


PAGE = 1 << 21  # a large one; matrices smaller than two of them do not need any


def roomy(*shape: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """torch.empty for what is read whole for each token: on a CPU in large pages, where the system has them.

    A processor fetches ahead within a page, and looks up the address of each: from large ones a core reads 1.3 to 1.4
    times as fast (measured: 15.9 against 11.2 GB/s). The memory is private: for what is shared Linux has large pages
    only where it was told so. Where there is no memory, it raises what torch.empty raises.
    """
    size = math.prod(shape) * dtype.itemsize
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if torch.device(device).type != "cpu" or size < 2 * PAGE or advice is None:
        return torch.empty(shape, dtype=dtype, device=device)
    try:
        region = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):  # no memory for it, and torch says so in the words that its callers know
        return torch.empty(shape, dtype=dtype)
    whole = torch.frombuffer(region, dtype=torch.uint8)  # it keeps the region
    start = -whole.data_ptr() % PAGE
    try:
        region.madvise(advice, start, size // PAGE * PAGE)  # the last page would take more than there is
    except OSError:  # a system built without them
        return torch.empty(shape, dtype=dtype)
    return whole[start : start + size].view(dtype).view(shape)
