"""Safetensors files, read piece by piece into memory that is already there.

Not mapped: mapped pages count as this process's memory beside the copies made of them, and a file that is cut short
while it is mapped kills the process instead of raising an error. The layout is that of safetensors 0.8: eight bytes
with the header's length, the header in JSON, the data; offsets count from the data's beginning.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LONGEST_HEADER = 100_000_000
PIECE = 1 << 26  # bytes of one read

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class CheckpointError(ValueError):
    """The checkpoint cannot be loaded. The message names the file or the tensor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: its type, its shape, and its first byte in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    at: int

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Shard:
    """One open file: `entries` by tensor name, and `metadata`. Raises CheckpointError, by its name, when it is not
    whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        try:
            self.file = path.open("rb", buffering=0)
        except OSError as error:
            raise CheckpointError(f"{path.name} cannot be opened: {error.strerror}") from error
        try:
            self.entries = dict(self._header())
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            self.file.close()
            raise CheckpointError(f"{path.name} is not a whole safetensors file: {error}") from error

    def _header(self) -> Iterator[tuple[str, Entry]]:
        whole = os.fstat(self.file.fileno()).st_size
        length = int.from_bytes(self.file.read(8), "little")
        if whole < 8 or length > min(LONGEST_HEADER, whole - 8):
            raise ValueError("its header is cut short")
        raw: Any = json.loads(self._bytes(length))
        begin = 8 + length
        end = begin
        for name, fields in cast("dict[str, Any]", raw).items():
            if name == "__metadata__":
                self.metadata = {str(key): str(value) for key, value in fields.items()}
                continue
            if fields["dtype"] not in DTYPES:
                raise ValueError(f"tensor {name} is of the unknown type {fields['dtype']}")
            shape, (first, last) = tuple(int(side) for side in fields["shape"]), fields["data_offsets"]
            entry = Entry(DTYPES[fields["dtype"]], shape, begin + int(first))
            if min(shape, default=0) < 0 or first < 0 or last - first != entry.size:
                raise ValueError(f"tensor {name} has {last - first} bytes for {list(shape)} of {fields['dtype']}")
            if begin + last > whole:
                raise ValueError(f"it ends within tensor {name}")
            end = max(end, begin + last)
            yield name, entry
        if end != whole:
            raise ValueError(f"it has {whole - end} bytes more than its tensors")

    def _bytes(self, length: int) -> bytes:
        buffer = bytearray(length)
        self._fill(memoryview(buffer))
        return bytes(buffer)

    def _fill(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            got = self.file.readinto(view[done : done + PIECE])
            if not got:
                raise ValueError(f"it ends {len(view) - done} bytes early")
            done += got

    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        """The tensor on the CPU as it is stored; into `out` if that is given, of the same type and size, contiguous."""
        entry = self.entries[name]
        target = torch.empty(entry.shape, dtype=entry.dtype) if out is None else out
        if entry.size:
            try:
                self.file.seek(entry.at)
                self._fill(memoryview(cast("Any", target.view(-1).view(torch.uint8).numpy())))
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{self.path.name}: cannot read {name}: {error}") from error
        return target

    def close(self) -> None:
        self.file.close()


def shards(folder: Path) -> list[Path]:
    """The files of a checkpoint, from its index where it has one. Raises CheckpointError when one is missing."""
    index = folder / INDEX
    if not index.exists():
        if (folder / SINGLE).exists():
            return [folder / SINGLE]
        raise CheckpointError(f"{folder} holds neither {SINGLE} nor {INDEX}")
    try:
        places: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        wrong = next((name for name, place in places.items() if not isinstance(place, str)), None)
        if wrong is not None or not places:
            raise ValueError(f"weight_map names no file for {wrong}" if places else "weight_map is empty")
        names = sorted(set(places.values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{index} is not a checkpoint's index: {error}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).exists():
            raise CheckpointError(f"shard {name} is missing from {folder}")
    return [folder / name for name in names]
