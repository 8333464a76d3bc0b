"""Keys and values of one sequence: everything for the full layers, a ring of the last window for the sliding ones.

Full layers grow up to the model's context. A sliding layer keeps the last `window` tokens, all that its
latest query can see. One more token takes the place of the oldest and sees the ring as it lies, in whatever order; a
chunk attends to the ring in order and to itself together, and only then does its tail overwrite the ring. Stored after
the rotary embedding, as float32, bfloat16 or FP8 (e4m3).

FP8 keeps one byte an element. Where the checkpoint has `k_scale` and `v_scale` they are used; else every token and
head gets a scale of its own, so that what is stored does not depend on how the prompt was cut into chunks.

What a full layer holds is only ever added to, so its past is there to go back to. A ring forgets; going back needs a
`Snapshot`, which costs nothing to take: the cache and the snapshot have the ring in common until the cache next writes
to it, and then the cache gets a copy. A few tokens ahead, `mark` is cheaper: it keeps only what they will overwrite.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..formats import e4m3
from ..kernels import native
from .config import LagunaConfig
from .device import roomy

Storage = Literal["float32", "bfloat16", "fp8"]
SCALE = 4  # bytes of one scale


class Store:
    """One layer's k or v: rows [KV, capacity, D] of which the first `used` hold tokens."""

    def __init__(self, heads: int, dim: int, storage: Storage, device: torch.device, scale: float | None) -> None:
        self.heads, self.dim, self.device, self.scale = heads, dim, device, scale
        self.storage: Storage = storage
        self.rows = self.empty(0)
        self.scales = self.empty_scales(0)
        self.common = False  # with a snapshot, which must not change

    def empty(self, capacity: int) -> Tensor:
        # FP8 lies in uint8: index_copy_ and others know no e4m3, and MPS has no such type at all.
        kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "fp8": torch.uint8}
        return roomy(self.heads, capacity, self.dim, dtype=kinds[self.storage], device=self.device)

    def empty_scales(self, capacity: int) -> Tensor:
        per_token = self.storage == "fp8" and self.scale is None
        return torch.empty(self.heads, capacity if per_token else 0, 1, dtype=torch.float32, device=self.device)

    def scales_address(self) -> int | None:
        """Where the scales of tokens lie, None where there are none."""
        return self.scales.data_ptr() if self.scales.shape[1] else None

    @property
    def capacity(self) -> int:
        return self.rows.shape[1]

    def reserve(self, capacity: int, keep: int) -> None:
        """Make room for `capacity` tokens; the first `keep` stay."""
        rows, scales = self.empty(capacity), self.empty_scales(capacity)
        rows[:, :keep] = self.rows[:, :keep]
        if scales.shape[1]:
            scales[:, :keep] = self.scales[:, :keep]
        self.rows, self.scales = rows, scales

    def own(self, *, keep: bool = True) -> None:
        """What is written next is written to no snapshot; without `keep` it replaces all that is there."""
        if self.common:
            self.rows = self.rows.clone() if keep else torch.empty_like(self.rows)
            self.scales = self.scales.clone() if keep else torch.empty_like(self.scales)
            self.common = False

    def copy(self, capacity: int, keep: int) -> Store:
        """Another store, with the first `keep` tokens of this one and room for `capacity`."""
        other = Store(self.heads, self.dim, self.storage, self.device, self.scale)
        other.reserve(capacity, 0)
        other.rows[:, :keep] = self.rows[:, :keep]
        if other.scales.shape[1]:
            other.scales[:, :keep] = self.scales[:, :keep]
        return other

    def write(self, at: int, x: Tensor) -> None:
        """Store x [KV, T, D] from row `at` on."""
        rows = slice(at, at + x.shape[1])
        if self.storage != "fp8":
            self.rows[:, rows] = x.to(self.rows.dtype)
            return
        wide = x.float()
        if self.scale is None:
            scale = (wide.abs().amax(dim=-1, keepdim=True) / e4m3.LARGEST).clamp_min(1e-12)
            self.scales[:, rows] = scale
        else:
            scale = self.scale
        self.rows[:, rows] = e4m3.encode(wide / scale)

    def read(self, start: int, end: int, dtype: torch.dtype) -> Tensor:
        """Rows start to end as [KV, end - start, D] in `dtype`."""
        rows = self.rows[:, start:end]
        if self.storage != "fp8":
            return rows.to(dtype)
        wide = e4m3.decode(rows)
        return (wide * (self.scales[:, start:end] if self.scale is None else self.scale)).to(dtype)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rings of a cache when it held `length` tokens: rows and scales of each."""

    length: int
    rings: tuple[tuple[Tensor, Tensor], ...]

    def bytes_used(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for ring in self.rings for tensor in ring)


@dataclass(frozen=True, slots=True)
class Mark:
    """What the tokens after the first `length` take the place of: rows and scales of each ring, as many as `count`."""

    length: int
    count: int
    rows: tuple[tuple[Tensor, Tensor], ...]


class KVCache:
    """The past of one sequence in every layer. `length` tokens are held.

    `layers` are those that are kept otherwise than in `storage`; `scales` are an FP8 store's own, by layer and part.
    """

    def __init__(
        self,
        config: LagunaConfig,
        *,
        storage: Storage = "bfloat16",
        device: torch.device | str = "cpu",
        scales: Mapping[tuple[int, str], float] | None = None,
        layers: Mapping[int, Storage] | None = None,
    ) -> None:
        self.config = config
        self.storage: Storage = storage
        self.length = 0
        self.reached = 0  # layers that hold the chunk of a forward pass which has not gone through all of them
        self.coming = 0  # tokens of that chunk
        self.marked: Mark | None = None
        self.planned = config.max_context  # tokens that room is made for, if it is made ahead
        self.pasts: dict[int, native.Past] = {}
        self.device, self.scales, self.layers = torch.device(device), scales or {}, layers or {}
        self.shortest = min((spec.window for spec in config.layers if spec.window is not None), default=sys.maxsize)
        self.stores = [tuple(self.new_store(index, part) for part in "kv") for index in range(len(config.layers))]
        for spec, stores in zip(config.layers, self.stores, strict=True):
            if spec.window is not None:
                for store in stores:
                    store.reserve(spec.window, 0)

    def new_store(self, layer: int, part: str) -> Store:
        config, storage = self.config, self.layers.get(layer, self.storage)
        return Store(config.kv_heads, config.head_dim, storage, self.device, self.scales.get((layer, part)))

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add a chunk's k and v [1, KV, T, D]; give back all that its queries may see, ending with the chunk.

        The chunk itself is given back as it was stored, so that a token's logits do not depend on how the prompt was
        cut. Raises ValueError when the chunk would pass the model's context, and when layers come out of order: after
        a forward pass that failed half-way some rings have lost what the next one needs.
        """
        self.begin(layer, k.shape[2])
        add = self.extend_full if self.config.layers[layer].window is None else self.extend_ring
        stores = self.stores[layer]
        return add(stores[0], k[0])[None], add(stores[1], v[0])[None]

    def begin(self, layer: int, chunk: int) -> None:
        """Make room in one layer for `chunk` tokens, which are about to be written. Raises as `extend` does."""
        if layer != self.reached:
            raise ValueError(f"layer {layer} came where layer {self.reached} was due: the cache is broken off")
        end = self.length + chunk
        if end > self.config.max_context:
            raise ValueError(f"{end} tokens are more than the context of {self.config.max_context}")
        self.reached, self.coming = self.reached + 1, chunk
        for store in self.stores[layer]:
            if self.config.layers[layer].window is None and end > store.capacity:
                store.reserve(max(min(max(store.capacity * 5 // 4, 256), self.planned), end), self.length)

    def past(self, layer: int, chunk: int) -> native.Past:
        """One layer as the kernels take it, who write `chunk` tokens into it and read it. Raises as `extend` does.

        A token at position p lies in row p % capacity.
        """
        self.begin(layer, chunk)
        k, v = self.stores[layer]
        if self.config.layers[layer].window is not None:
            k.own()
            v.own()
        found = self.pasts.get(layer)
        places = k.rows.data_ptr(), v.rows.data_ptr(), k.scales_address(), v.scales_address(), k.capacity
        if found is None or (found.k, found.v, found.k_scales, found.v_scales, found.capacity) != places:
            found = self.pasts[layer] = native.Past(
                k.rows.data_ptr(), v.rows.data_ptr(), k.scales_address(), v.scales_address(), k.scale or 1.0,
                v.scale or 1.0, native.STORAGES[k.storage], k.heads, k.dim, k.capacity,
                self.config.layers[layer].window or 0,
            )  # fmt: skip
        return found

    def extend_full(self, store: Store, x: Tensor) -> Tensor:
        store.write(self.length, x)
        return store.read(0, self.length + x.shape[1], x.dtype)

    def extend_ring(self, store: Store, x: Tensor) -> Tensor:
        size, chunk = store.capacity, x.shape[1]
        if chunk == 1:  # its window is the ring as it lies, for a sum over keys knows no order
            store.own()
            store.write(self.length % size, x)
            return store.read(0, min(self.length + 1, size), x.dtype)
        past = self.ring_in_order(store, min(self.length, size - 1), x.dtype)
        tail = x[:, max(0, chunk - size) :]
        first = (self.length + chunk - tail.shape[1]) % size
        before_end = min(tail.shape[1], size - first)
        store.own(keep=tail.shape[1] < size)
        present = [self.rounded(store, x[:, : chunk - tail.shape[1]])]
        for at, part in ((first, tail[:, :before_end]), (0, tail[:, before_end:])):
            if part.shape[1]:
                store.write(at, part)
                present.append(store.read(at, at + part.shape[1], x.dtype))
        return torch.cat((past, *present), dim=1)

    def ring_in_order(self, store: Store, held: int, dtype: torch.dtype) -> Tensor:
        """A copy of the ring's tokens, oldest first: [KV, held, D]. A view would change when the chunk is written."""
        start = (self.length - held) % store.capacity
        until = min(held, store.capacity - start)
        return torch.cat((store.read(start, start + until, dtype), store.read(0, held - until, dtype)), dim=1)

    def rounded(self, store: Store, x: Tensor) -> Tensor:
        """x as it would come back from the store, for the part of a long chunk that the ring never holds."""
        if store.storage == "float32" or not x.shape[1]:
            return x
        passing = Store(store.heads, store.dim, store.storage, store.device, store.scale)
        passing.reserve(x.shape[1], 0)
        passing.write(0, x)
        return passing.read(0, x.shape[1], x.dtype)

    def advance(self, tokens: int) -> None:
        if self.marked and (self.marked.length != self.length or self.marked.count < tokens):
            self.marked = None  # it was made for other tokens than these
        self.length += tokens
        self.reached = self.coming = 0

    def reserve(self, tokens: int) -> None:
        """Make room for so many tokens in all, at once instead of bit by bit."""
        wanted = min(tokens, self.config.max_context)
        for spec, stores in zip(self.config.layers, self.stores, strict=True):
            for store in stores:
                if spec.window is None and store.capacity < wanted:
                    store.reserve(wanted, self.length)

    def rings(self) -> Iterator[Store]:
        """The stores of the sliding layers."""
        for spec, stores in zip(self.config.layers, self.stores, strict=True):
            if spec.window is not None:
                yield from stores

    # Going back ------------------------------------------------------------------------------------------

    def break_off(self) -> bool:
        """Give up a forward pass that went through some layers only; whether the past is as it was before.

        One token overwrites nothing that a token after the past could see, nor do tokens that were marked.
        """
        if self.reached and self.coming > 1 and self.length + self.coming > self.shortest:
            if self.marked is None or self.marked.length != self.length or self.marked.count < self.coming:
                return False
            self.unwrite(self.marked, self.length, self.length + self.coming)
        self.reached = self.coming = 0
        return True

    def can_rewind(self, length: int) -> bool:
        """Whether the past can be cut back to `length` tokens without the rings having forgotten what they need.

        A ring that was never overwritten still holds everything; one that was can only stay where it is, or go back to
        a mark. After a forward pass that failed half-way there is no going anywhere.
        """
        mark = self.marked
        marked = mark is not None and mark.length <= length
        kept = length == self.length or self.length < self.shortest or marked
        return not self.reached and 0 <= length <= self.length and kept

    def rewind(self, length: int) -> None:
        """Forget the tokens from `length` on. Raises ValueError where `can_rewind` says no."""
        if not self.can_rewind(length):
            why = "a forward pass broke off" if self.reached else "the window has moved on"
            raise ValueError(f"cannot go back from {self.length} to {length} tokens: {why}")
        if self.marked and self.marked.length <= length:
            self.unwrite(self.marked, length, self.length)
        self.length, self.marked = length, None

    def mark(self, count: int) -> None:
        """Keep what the next `count` tokens will overwrite: once they have come, `rewind` can go back as far as here.

        Raises ValueError for more than the shortest window: they would overwrite one another.
        """
        if count > self.shortest:
            raise ValueError(f"{count} tokens are more than the window of {self.shortest}")
        saved: list[tuple[Tensor, Tensor]] = []
        for ring, at in self.places(self.length, count):
            saved.append((ring.rows[:, at], ring.scales[:, at] if ring.scales.shape[1] else ring.scales))
        self.marked = Mark(self.length, count, tuple(saved))

    def unwrite(self, mark: Mark, start: int, end: int) -> None:
        """Put back what the tokens from `start` to `end` overwrote."""
        skipped = start - mark.length
        for (ring, at), (rows, scales) in zip(self.places(start, end - start), mark.rows, strict=True):
            ring.own()
            many = len(at)
            ring.rows[:, at] = rows[:, skipped : skipped + many]
            if ring.scales.shape[1]:
                ring.scales[:, at] = scales[:, skipped : skipped + many]

    def places(self, start: int, count: int) -> Iterator[tuple[Store, Tensor]]:
        """Each ring, and the rows that `count` tokens from `start` on take there."""
        for ring in self.rings():
            yield ring, torch.arange(start, start + count, device=ring.device) % ring.capacity

    def snapshot(self, length: int | None = None) -> Snapshot:
        """The rings as they are now. They are copied when this cache next writes to them, and not before.

        While they have forgotten nothing, one of an earlier `length` can be had too. Raises ValueError.
        """
        at = self.length if length is None else length
        if at != self.length and not 0 <= at <= self.length < self.shortest:
            raise ValueError(f"the rings hold {self.length} tokens; nothing is known of them at {at}")
        held: list[tuple[Tensor, Tensor]] = []
        for ring in self.rings():
            ring.common = True
            held.append((ring.rows, ring.scales))
        return Snapshot(at, tuple(held))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where a snapshot of this cache was taken, whatever came after it."""
        for ring, (rows, scales) in zip(self.rings(), snapshot.rings, strict=True):
            ring.rows, ring.scales, ring.common = rows, scales, True
        self.length, self.reached, self.coming, self.marked = snapshot.length, 0, 0, None

    def fork(self, snapshot: Snapshot, capacity: int) -> KVCache:
        """Another cache, of the tokens that this one held when the snapshot was taken, with room for `capacity`. Both
        go on by themselves; what the full layers hold is copied."""
        other = KVCache(self.config, storage=self.storage, device=self.device, scales=self.scales, layers=self.layers)
        wanted = min(max(capacity, snapshot.length), self.config.max_context)
        for index, spec in enumerate(self.config.layers):
            if spec.window is None:
                other.stores[index] = tuple(store.copy(wanted, snapshot.length) for store in self.stores[index])
        other.restore(snapshot)
        return other

    def bytes_used(self) -> int:
        """Memory that the cache holds now, spare capacity included."""
        return sum(
            tensor.numel() * tensor.element_size()
            for stores in self.stores
            for store in stores
            for tensor in (store.rows, store.scales)
        )


def cache_bytes(config: LagunaConfig, tokens: int, storage: Storage, *, scaled: bool = False) -> int:
    """Memory of `tokens` of context. `scaled`: with a scale for each token and head, as FP8 has them where the
    checkpoint has none of its own."""
    element = {"float32": 4, "bfloat16": 2, "fp8": 1}[storage]
    row = 2 * config.kv_heads * (config.head_dim * element + (SCALE if scaled and storage == "fp8" else 0))
    return sum(row * (tokens if spec.window is None else min(tokens, spec.window)) for spec in config.layers)
