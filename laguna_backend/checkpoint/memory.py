"""How much memory a model takes in each precision, and what of it fits the machine at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..model.cache import Storage, cache_bytes
from ..model.config import LagunaConfig, LayerConfig
from ..model.linear import LANES, ON_ACCELERATOR, ON_CPU, PART, Precision
from ..model.narrow import BLOCK
from .free import free_memory, free_on, most_on

MIB = 1 << 20
WORKING = 1 << 30  # bytes for intermediate tensors, the tokenizer and the libraries


class NoRoom(MemoryError):
    """A model's weights do not fit into the memory there is."""


def matrices(config: LagunaConfig, spec: LayerConfig) -> Iterator[tuple[int, int, int]]:
    """The packed matrices of a layer: how many, rows, columns."""
    hidden, heads, kv = config.hidden_size, spec.heads * config.head_dim, config.kv_heads * config.head_dim
    yield 1, heads + 2 * kv + (heads if config.per_element_gate else spec.heads), hidden
    yield 1, hidden, heads
    inner = [(config.experts, config.expert_size), (1, config.shared_expert_size)]
    for count, size in inner if spec.sparse else [(1, config.intermediate_size)]:
        yield count, 2 * size, hidden
        yield count, hidden, size


def matrix_bytes(rows: int, columns: int, precision: Precision, group: int, narrow: bool) -> int:
    """Memory of one matrix, see `linear` and `narrow`."""
    if precision == "bf16":
        return 2 * rows * columns
    if precision == "fp8":
        return rows * columns + 4 * -(-rows // BLOCK) * -(-columns // BLOCK)
    if narrow:
        return rows * -(-columns // group) * (group // 2 + 4)
    down = -(-rows // LANES) * LANES
    if precision == "int8":
        return down * (-(-columns // PART) * PART + 4)
    return down * (-(-columns // group) * (group // 2 + 2) + 8)


def weight_bytes(config: LagunaConfig, precision: Precision, group: int = 32, *, narrow: bool = False) -> int:
    """Memory of all weights, on a CPU or `narrow`, as an accelerator has them.

    Embedding, routers and norms stay as they are; the head has eight bits at least (`load_weights`).
    """
    hidden = config.hidden_size
    eight: Precision = "fp8" if narrow else "int8"
    head = matrix_bytes(config.vocab_size, hidden, precision if precision == "bf16" else eight, group, narrow)
    plain = config.vocab_size * hidden + hidden
    total = head
    for spec in config.layers:
        plain += 2 * hidden + 2 * config.head_dim + (config.experts * (hidden + 1) if spec.sparse else 0)
        total += sum(n * matrix_bytes(rows, cols, precision, group, narrow) for n, rows, cols in matrices(config, spec))
    return total + 2 * plain


@dataclass(frozen=True)
class Place:
    """A device and the bytes that are free on it."""

    name: str
    free: int
    precisions: tuple[Precision, ...]
    narrow: bool = False


def places() -> list[Place]:
    """The accelerator if there is one, and the CPU."""
    found: list[Place] = []
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        found.append(Place(torch.cuda.get_device_name(), free, ON_ACCELERATOR, narrow=True))
    elif torch.backends.mps.is_available():
        found.append(Place("mps", int(torch.mps.recommended_max_memory()), ON_ACCELERATOR, narrow=True))
    free = free_memory()
    return [*found, Place("cpu", free, ON_CPU)] if free else found


def weights_on(config: LagunaConfig, precision: Precision, group: int, device: torch.device, dtype: torch.dtype) -> int:
    """Memory of all weights as `load` would hold them; those that are not packed may be in float32."""
    size = weight_bytes(config, precision, group, narrow=device.type != "cpu")
    return size * dtype.itemsize // 2 if precision == "bf16" else size


def check_room(
    config: LagunaConfig, precision: Precision, group: int, device: torch.device, dtype: torch.dtype
) -> str | None:
    """What to tell of weights that will hardly fit. Raises NoRoom for those that plainly do not, before any is read.

    Plainly is a tenth more than the device could give at the very most, swapping counted: systems estimate that.
    """
    needed, most, free = weights_on(config, precision, group, device, dtype), most_on(device), free_on(device)
    told = f"weights of {needed / MIB:,.0f} MiB"
    if most and needed > 1.1 * most:
        raise NoRoom(f"{told}, and {device.type} has {most / MIB:,.0f} MiB free{smaller(config, device, most)}")
    return f"{told}, and {device.type} has {free / MIB:,.0f} MiB free" if free and needed > free else None


def smaller(config: LagunaConfig, device: torch.device, most: int) -> str:
    """A precision in which they would fit, as advice."""
    narrow = device.type != "cpu"
    packed = (ON_ACCELERATOR if narrow else ON_CPU)[1:]
    fitting = [name for name in packed if weight_bytes(config, name, narrow=narrow) + WORKING <= most]
    return f"; packed to {fitting[0].upper()} they would fit" if fitting else ""


def longest(config: LagunaConfig, room: int, storage: Storage, *, scaled: bool = False) -> int:
    """The most tokens of context whose cache takes no more than `room` bytes, up to the model's own."""
    low, high = 0, config.max_context
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cache_bytes(config, middle, storage, scaled=scaled) <= room else (low, middle - 1)
    return low
