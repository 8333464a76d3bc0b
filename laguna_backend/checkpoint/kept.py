"""Packed weights kept on disk, so that a checkpoint is packed once and read packed from then on.

Beside the checkpoint, or in the user's cache where that cannot be written: one file in the layout of safetensors, whose
metadata tells how its tensors go together. It is written beside its place and moved there whole, so that two processes
never see half of it. Its name and its key change with the checkpoint's files (size, time, both ends of their content),
its configuration, the precision and this layout; a file of another key is packed anew, and removed. Every tensor has a
checksum, which is looked at while the next one is read: what a disk has changed is packed anew and never run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..caches import cache_directory
from ..model.config import LagunaConfig
from ..model.device import roomy
from ..model.linear import Int4, Int8, Packer
from ..model.narrow import Fp8, Nibbles
from ..model.parameters import Dense, Layer, Sparse, Together, Weights
from .gguf_file import gguf_files
from .shards import DTYPES, INDEX, SINGLE, CheckpointError, Shard, shards
from .weights import Loaded, Progress, load_weights

log = logging.getLogger("laguna")

LAYOUT = "2"
"""Of the packed blocks and of this file: another one means another key."""
END = 1 << 20  # bytes of each end of a file that its key is made of
SUFFIX = ".laguna"
KINDS = Weights, Layer, Together, Dense, Sparse, Int8, Int4, Fp8, Nibbles
PARTS: dict[str, type] = {kind.__name__: kind for kind in KINDS}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def load_packed(
    directory: Path,
    config: LagunaConfig,
    packer: Packer,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Loaded:
    """A checkpoint packed: from what was kept of it, or packed now and kept. Raises CheckpointError as `load_weights`.

    Whatever goes wrong with keeping is a line in the log and no error.
    """
    key = key_of(directory, packer, dtype)
    stem = f"packed-{'narrow-' if packer.narrow else ''}{packer.precision}-{packer.group}-"
    elsewhere = cache_directory("packed") / hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:20]
    for folder in (directory, elsewhere):
        path = folder / f"{stem}{key}{SUFFIX}"
        if path.exists():
            try:
                return read(path, device)
            except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s is packed anew: what was kept cannot be read: %s", directory.name, error)
    loaded = load_weights(directory, config, device=device, dtype=dtype, packer=packer, progress=progress)
    for folder in (directory, elsewhere):
        try:
            write(folder / f"{stem}{key}{SUFFIX}", loaded)
        except OSError as error:
            log.info("packed weights are not kept in %s: %s", folder, error.strerror or error)
            continue
        for stale in folder.glob(f"{stem}*{SUFFIX}"):
            if key not in stale.name:
                with suppress(OSError):
                    stale.unlink()
        break
    return loaded


def key_of(directory: Path, packer: Packer, dtype: torch.dtype) -> str:
    """What tells one packing of one checkpoint from every other. Raises CheckpointError."""
    plain = (directory / SINGLE).exists() or (directory / INDEX).exists()
    files = shards(directory) if plain else gguf_files(directory) or shards(directory)
    digest = hashlib.sha256(f"{LAYOUT} {packer.precision} {packer.group} {packer.narrow} {dtype}".encode())
    try:
        for path in (*files, directory / "config.json"):
            if not path.exists():
                continue
            state = path.stat()
            digest.update(f"\0{path.name} {state.st_size} {state.st_mtime_ns}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(END))
                file.seek(max(0, state.st_size - END))
                digest.update(file.read(END))
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:24]


# The file ------------------------------------------------------------------------------------------------


def write(path: Path, loaded: Loaded) -> None:
    """Write packed weights, tensor by tensor from where they lie. Raises OSError, and leaves nothing then."""
    tensors: dict[str, Tensor] = {}
    tree = taken_apart(loaded.weights, "", tensors)
    scales = [[layer, part, value] for (layer, part), value in loaded.cache_scales.items()]
    told = {"tree": json.dumps(tree), "scales": json.dumps(scales), "error": repr(loaded.packing_error)}
    sums = dict.fromkeys(tensors, 0)  # not known before the end, and as long as those that will be
    size = sum(tensor.nbytes for tensor in tensors.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < 1.02 * size + (1 << 28):
        raise OSError(0, f"{size / 2**20:,.0f} MiB would fill the disk")
    handle, partial = tempfile.mkstemp(prefix=f"{path.stem}-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header_of(told, sums, tensors))
            for name, tensor in tensors.items():
                here = tensor.cpu().contiguous()
                sums[name] = checksum(here)
                file.write(view_of(here))
            file.seek(0)
            file.write(header_of(told, sums, tensors))
        os.chmod(partial, path.parent.stat().st_mode & 0o666)
        os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def header_of(told: dict[str, str], sums: dict[str, int], tensors: dict[str, Tensor]) -> bytes:
    """The file's beginning. It is as long whatever the sums are."""
    written = told | {"sums": json.dumps({name: f"{value:08x}" for name, value in sums.items()})}
    header: dict[str, Any] = {"__metadata__": written | {"sum": f"{sum_of(written):08x}"}}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def sum_of(told: dict[str, str]) -> int:
    """CRC-32 of the metadata, but for this number itself."""
    return zlib.crc32(json.dumps({name: told[name] for name in sorted(told) if name != "sum"}).encode())


def checksum(tensor: Tensor) -> int:
    """CRC-32 of a tensor on the CPU: type, shape and content. Other threads run meanwhile."""
    return zlib.crc32(view_of(tensor), zlib.crc32(f"{NAMES[tensor.dtype]} {list(tensor.shape)}".encode()))


def view_of(tensor: Tensor) -> memoryview:
    return memoryview(cast("Any", tensor.view(-1).view(torch.uint8).numpy()))


def read(path: Path, device: torch.device | str = "cpu") -> Loaded:
    """What `write` wrote, on a device.

    Raises CheckpointError where the file is not whole or not as it was written, KeyError and the like where it is not
    of this layout.
    """
    with closing(Shard(path)) as shard, ThreadPoolExecutor(1) as pool:
        told = shard.metadata
        if told["sum"] != f"{sum_of(told):08x}":
            raise CheckpointError(f"{path.name} is damaged in its header")
        sums: dict[str, str] = json.loads(told["sums"])
        due: deque[tuple[str, Future[int]]] = deque()

        def check() -> None:
            name, found = due.popleft()
            if f"{found.result():08x}" != sums[name]:
                raise CheckpointError(f"{path.name} is damaged in {name}")

        def tensor(name: str) -> Tensor:
            entry = shard.entries[name]
            read = shard.read(name, roomy(*entry.shape, dtype=entry.dtype))
            due.append((name, pool.submit(checksum, read)))
            if len(due) > 1:  # one at a time lies here beside what is on its device
                check()
            return read.to(device)

        weights = put_together(json.loads(told["tree"]), tensor)
        while due:
            check()
        scales = {(int(layer), str(part)): float(value) for layer, part, value in json.loads(told["scales"])}
        return Loaded(weights, scales, float(told["error"]))


def taken_apart(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Weights as JSON, their tensors by path beside it."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return path
    if is_dataclass(value):
        parts = {
            f.name: taken_apart(getattr(value, f.name), f"{path}.{f.name}".strip("."), tensors) for f in fields(value)
        }
        return {"is": type(value).__name__, "of": parts}
    if isinstance(value, list | tuple):
        items = cast("list[Any]", list(value))  # pyright: ignore[reportUnknownArgumentType]
        return [taken_apart(item, f"{path}.{index}", tensors) for index, item in enumerate(items)]
    return value


def put_together(tree: Any, tensor: Callable[[str], Tensor]) -> Any:
    """The inverse of `taken_apart`."""
    match tree:
        case str():
            return tensor(tree)
        case {"is": str(name), "of": dict(parts)}:
            return PARTS[name](**{str(key): put_together(part, tensor) for key, part in parts.items()})
        case [int(), *_]:
            return tuple(tree)
        case list():
            return [put_together(item, tensor) for item in tree]
        case _:
            return tree
