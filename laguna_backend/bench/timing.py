"""Seconds of a run and gigabytes a second of memory, on any device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from ..model.device import roomy

GB = 1e9
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
"""What seconds are: those that passed, or those that this process computed. Of one thread the latter tell as much, and
do not count the time of others on a busy machine."""


def timed(
    run: Callable[[], object], repeats: int, clock: str = "wall", device: torch.device | str = "cpu"
) -> list[float]:
    """Seconds of each run, after one that does not count. A device other than the CPU is waited for."""
    accelerated = torch.device(device).type != "cpu"

    def whole() -> None:
        run()
        if accelerated:
            torch.accelerator.synchronize(device)

    whole()
    now, found = CLOCKS[clock], list[float]()
    for _ in range(repeats):
        begun = now()
        whole()
        found.append(now() - begun)
    return found


def read_bandwidth(clock: str = "wall", device: torch.device | str = "cpu", repeats: int = 7) -> float:
    """GB/s at which the device (of a CPU all threads together) reads memory that no cache holds.

    It looks for the largest of 128 Mi numbers, on an accelerator of 512 Mi.
    """
    count = 1 << (27 if torch.device(device).type == "cpu" else 29)
    numbers = roomy(count, dtype=torch.int32, device=device).zero_()
    return count * 4 / statistics.median(timed(numbers.max, repeats, clock, device)) / GB
