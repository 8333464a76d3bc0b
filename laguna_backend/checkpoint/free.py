"""How much memory is free: on a device, on this machine, and in the part of the machine that this process was given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

MEMINFO, CGROUPS, OWN_CGROUPS, OWN_STATUS = (
    Path(name) for name in ("/proc/meminfo", "/sys/fs/cgroup", "/proc/self/cgroup", "/proc/self/status")
)
UNLIMITED = 1 << 60
"""Bytes from which on a limit is none: version 1 of control groups writes a number where version 2 has `max`."""


def free_memory(*, swap: bool = False) -> int:
    """Bytes that programs may take without swapping, or with it; 0 where the system does not say.

    What the system could give, and no more than this process may take: by a control group, as containers have one, or
    by a limit on its addresses (`ulimit -v`). Pages of files that are only kept count as free.
    """
    told = numbers(MEMINFO)
    if "MemAvailable" in told:
        swapped = told.get("SwapFree", 0) if swap else 0
        return max(0, min(told["MemAvailable"] + swapped, cgroup_room(swapped), address_room()))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def free_on(device: torch.device) -> int:
    """Bytes that are free on a device; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory()))
    return free_memory()


def most_on(device: torch.device) -> int:
    """Bytes that a device could give at the very most; 0 where the system does not say.

    On a CPU with swapping; on CUDA with what torch holds and does not use. What Metal recommends is no limit: all of
    the machine's memory is.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return free_memory(swap=True)


def numbers(path: Path) -> dict[str, int]:
    """Fields of a file of `/proc` with lines like `Name:  12 kB`, in bytes; none where there is no such file."""
    found: dict[str, int] = {}
    for line in text(path).splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


def text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# What this process may take ------------------------------------------------------------------------------


def cgroup_room(swap: int = 0) -> int:
    """Bytes that the control groups of this process let it take, `swap` of them on disk at the most."""
    room = UNLIMITED
    for line in text(OWN_CGROUPS).splitlines():
        _, controllers, own = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            root, files = CGROUPS, ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            root = CGROUPS / "memory"
            files = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"
        else:
            continue
        # In a container its own group may be mounted as the root, whatever it is called outside.
        place = root / own.strip("/")
        for folder in (place, *place.parents):
            if folder.is_relative_to(root):
                room = min(room, group_room(folder, *files) + (swap if swap_allowed(folder) else 0))
    return room


def group_room(folder: Path, limit: str, usage: str, *kept: str) -> int:
    """Bytes that one group has left, with those of files that it only keeps."""
    most, used = text(folder / limit).strip(), text(folder / usage).strip()
    if not most.isdecimal() or not used.isdecimal() or int(most) >= UNLIMITED:
        return UNLIMITED
    parts = (line.split() for line in text(folder / "memory.stat").splitlines())
    spare = sum(int(part[1]) for part in parts if len(part) == 2 and part[0] in kept)
    return int(most) - int(used) + spare


def swap_allowed(folder: Path) -> bool:
    """Whether a group may swap at all; the first version counts it with memory, and where it does not say, it may."""
    return text(folder / "memory.swap.max").strip() != "0"


def address_room() -> int:
    """Bytes of addresses that this process may still take (RLIMIT_AS)."""
    if sys.platform == "win32":
        return UNLIMITED
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return UNLIMITED
    return max(0, limit - numbers(OWN_STATUS).get("VmSize", 0))
