"""One token through every layer by the device's kernels, captured once as a CUDA graph and replayed at every place.

The same function as `Laguna.through`, which is its plain twin. Token and length are read from the device's memory, so a
graph holds wherever the cache is; it is made anew when the cache lies elsewhere (it has grown, or a snapshot went back
into it). Where capturing fails, the reason is logged once and the same kernels run one by one. No hardware has run it
yet: a CPU has, without a graph, in Triton's interpreter.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import triton
from .cache import KVCache
from .config import LagunaConfig, Rope
from .linear import tensors_of
from .narrow import Fp8, Nibbles
from .parameters import Dense, Sparse, Together, Weights
from .rope import inverse_frequencies, tables

log = logging.getLogger("laguna")

PLACES = 8192  # whose cos and sin are made at once
KEPT = 4  # graphs: several sequences take turns


class Captured:
    """A model's step, and the graphs that were made of it."""

    def __init__(self, config: LagunaConfig, weights: Weights, *, capture: bool = True) -> None:
        self.config, self.weights, self.capture = config, weights, capture
        device = weights.embed.device
        self.token = torch.zeros(1, dtype=torch.int64, device=device)
        self.length = torch.zeros(1, dtype=torch.int64, device=device)
        self.turns: dict[Rope, tuple[Tensor, Tensor]] = {}
        self.graphs: OrderedDict[tuple[int, ...], tuple[Any, Tensor]] = OrderedDict()

    @classmethod
    def of(cls, config: LagunaConfig, weights: Weights) -> Captured | None:
        """Of weights that the kernels can run, where there is a device for them; else None."""
        if weights.embed.device.type != "cuda" or not triton.available() or not runs(config, weights):
            return None
        return cls(config, weights)

    def takes(self, tokens: Tensor) -> bool:
        """Whether a pass of these tokens [1, T], with a cache of its own, is one step."""
        return tokens.numel() == 1 and not torch.is_grad_enabled()

    def forward(self, token: Tensor, cache: KVCache) -> Tensor:
        """Logits [1, 1, V] after a token [1, 1] that follows those of the cache."""
        for index, stores in enumerate(cache.stores):
            cache.begin(index, 1)
            if self.config.layers[index].window is not None:
                for store in stores:
                    store.own()
        self.token.copy_(token.view(1), non_blocking=True)
        self.length.fill_(cache.length)
        logits = self.replayed(cache) if self.capture else self.step(cache)
        cache.advance(1)
        return logits[None]

    def replayed(self, cache: KVCache) -> Tensor:
        """The step by its graph, made if there is none for where the cache lies."""
        key = tuple(t.data_ptr() for stores in cache.stores for s in stores for t in (s.rows, s.scales))
        found = self.graphs.get(key)
        if found is None:
            # Kernels are compiled, and libraries find their memory, before it counts. What the cache is given twice is
            # the same at the same place.
            logits = self.step(cache)
            try:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    out = self.step(cache)
            except (RuntimeError, torch.AcceleratorError) as error:
                log.warning("the step cannot be captured, so its kernels run one by one: %s", error)
                self.capture = False
                return logits
            self.graphs[key] = graph, out
            if len(self.graphs) > KEPT:
                self.graphs.popitem(last=False)
            return logits
        self.graphs.move_to_end(key)
        graph, out = found
        graph.replay()
        return out.clone()  # the next replay writes there again

    def step(self, cache: KVCache) -> Tensor:
        """Logits [1, V]: kernels and products, and nothing that the host waits for."""
        from ..kernels.triton.attention import attend_gated
        from ..kernels.triton.heads import turn_and_store
        from ..kernels.triton.narrow import times_one
        from ..kernels.triton.norms import add_and_norm

        config, weights, eps = self.config, self.weights, self.config.norm_eps
        h = F.embedding(self.token, weights.embed)  # [1, H]
        norms = [layer.attention_norm for layer in weights.layers[1:]] + [weights.norm]
        x = add_and_norm(h, None, weights.layers[0].attention_norm, eps)
        for index, (spec, layer) in enumerate(zip(config.layers, weights.layers, strict=True)):
            inputs, stores = layer.inputs, cache.stores[index]
            assert isinstance(inputs, Together)
            products = times_one(x, inputs.rows)[0]
            q_and_k = layer.q_norm, layer.k_norm
            q = turn_and_store(products, spec.heads, q_and_k, self.turn(spec.rope), self.length, stores, eps)
            heard = attend_gated(q, stores, self.length, products[-inputs.sizes[-1] :])
            x = add_and_norm(h, times_one(heard[None], layer.out), layer.mlp_norm, eps)
            x = add_and_norm(h, self.feed_forward(layer.mlp, x), norms[index], eps)
        return times_one(x, weights.head)

    def feed_forward(self, mlp: Dense | Sparse, x: Tensor) -> Tensor:
        from ..kernels.triton.experts import mix_few, swiglu_few
        from ..kernels.triton.narrow import times_one
        from ..kernels.triton.router import choose

        if isinstance(mlp, Dense):
            return swiglu_few(x, mlp.gate_up, mlp.down)
        config, logits = self.config, times_one(x, mlp.router)
        weights, chosen = choose(logits, mlp.bias, config.experts_per_token, config.router_score, config.router_softcap)
        shared = mlp.shared_gate_up, mlp.shared_down
        return mix_few(x, weights, chosen, mlp.gate_up, mlp.down, shared, config.routed_scale)

    def turn(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """cos and sin of every place of the context: the kernels look theirs up."""
        if rope not in self.turns:
            device, dtype = self.weights.embed.device, self.weights.embed.dtype
            frequencies = inverse_frequencies(rope).to(device)
            places = torch.arange(self.config.max_context, device=device).split(PLACES)
            parts = [tables(rope, frequencies, some, dtype) for some in places]
            self.turns[rope] = torch.cat([cos for cos, _ in parts]), torch.cat([sin for _, sin in parts])
        return self.turns[rope]


def runs(config: LagunaConfig, weights: Weights) -> bool:
    """Whether the kernels run such weights: plain or narrow ones, contiguous, and heads of a power of two."""
    matrices = [weights.head]
    for layer in weights.layers:
        if not isinstance(layer.inputs, Together):
            return False
        mlp = layer.mlp
        matrices += [layer.inputs.rows, layer.out, mlp.gate_up, mlp.down]
        if isinstance(mlp, Sparse):
            matrices += [mlp.shared_gate_up, mlp.shared_down]
    dim = config.head_dim
    known = all(isinstance(matrix, Tensor | Fp8 | Nibbles) for matrix in matrices)
    return known and dim & (dim - 1) == 0 and all(t.is_contiguous() for matrix in matrices for t in tensors_of(matrix))
