"""Several sequences in one pass: their tokens lie one after another, and each sees its own past.

Every product then reads its matrix once for all of them, which is what a token costs. Only attention goes sequence by
sequence, as it would alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .attention import attend
from .cache import KVCache


class Batch:
    """The caches that a pass goes on with, and how many of its tokens belong to each, in their order.

    `pause` is called in every layer before its caches change: what it raises breaks the pass off there.
    """

    def __init__(
        self, caches: Sequence[KVCache], counts: Sequence[int], pause: Callable[[], None] = lambda: None
    ) -> None:
        self.caches, self.counts, self.pause = list(caches), list(counts), pause

    def parts(self) -> Iterator[tuple[KVCache, slice]]:
        """Each cache, and where its tokens are in the pass."""
        start = 0
        for cache, count in zip(self.caches, self.counts, strict=True):
            yield cache, slice(start, start + count)
            start += count

    def see(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """Add k and v [1, KV, T, D] to one layer of each past; what queries [1, heads, T, D] see there."""
        self.pause()
        seen: list[Tensor] = []
        for cache, at in self.parts():
            keys, values = cache.extend(layer, k[:, :, at], v[:, :, at])
            seen.append(attend(q[:, :, at], keys, values, window))
        return seen[0] if len(seen) == 1 else torch.cat(seen, dim=2)

    def ends(self) -> list[int]:
        """The place of each sequence's last token."""
        return [at.stop - 1 for _, at in self.parts()]

    def advance(self) -> None:
        """The pass went through every layer."""
        for cache, at in self.parts():
            cache.advance(at.stop - at.start)
