"""Laguna's forward pass, top to bottom (arXiv 2605.27605; transformers' `modeling_laguna.py` is the reference).

Weights are plain tensors in dataclasses; `forward` is a function of them. The same function trains (no cache,
gradients flow) and generates (a cache, one sequence, any number of new tokens at a time). Rounding follows the
reference: norms cast before they scale, cos and sin are float32 until the end, the gate is softplus in float32 of the
layer's *normed input*, logits stay in the model's dtype.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import attend
from .batch import Batch
from .cache import KVCache
from .captured import Captured
from .compiled import Compiled
from .config import LagunaConfig, LayerConfig
from .layer import Chosen, Sight, Turn, attention, block, feed_forward, norm
from .linear import linear, one_row
from .parameters import Apart, Dense, Layer, Sparse, Together, Weights, joined
from .rope import Tables

__all__ = [
    "Apart", "Cache", "Chosen", "Dense", "Laguna", "Layer", "Sight", "Sparse", "Together", "Turn", "Weights",
    "attention", "block", "feed_forward", "joined", "norm",
]  # fmt: skip


class Cache(Protocol):
    """Keys and values of one sequence's past."""

    @property
    def length(self) -> int:
        """Tokens held: the position of the next one."""
        ...

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add a chunk's k and v [1, KV, T, D] to one layer; give back what its queries may see, ending with it."""
        ...

    def advance(self, tokens: int) -> None:
        """The chunk went through every layer: it is part of the past now."""
        ...


class Laguna:
    """A Laguna ready to run: its configuration, its weights, and the tables of its ropes."""

    def __init__(self, config: LagunaConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.compiled = Compiled.of(config, weights)
        self.captured = Captured.of(config, weights)
        self.ropes = {rope: Tables(rope, weights.embed.device) for rope in {layer.rope for layer in config.layers}}

    def forward(self, tokens: Tensor, cache: Cache | Batch | None = None, *, last_only: bool = False) -> Tensor:
        """Logits [B, T, V] of what follows each of `tokens` [B, T]; [B, 1, V] with `last_only`.

        With a cache B is 1 and the tokens follow those that the cache holds. With a batch of N sequences B is 1 as
        well, the tokens of each follow one another and its cache, and `last_only` gives [1, N, V]. On a CPU
        and without gradients the kernels take what they are faster at (`compiled`), on CUDA one token (`captured`).
        """
        if self.captured and isinstance(cache, KVCache) and self.captured.takes(tokens):
            return self.captured.forward(tokens, cache)
        if self.compiled and isinstance(cache, KVCache | Batch) and self.compiled.takes(tokens):
            return self.compiled.forward(tokens, cache, self.ropes, last_only)
        if tokens.numel() > 1:
            return self.through(tokens, cache, last_only)
        with one_row(tokens.device):
            return self.through(tokens, cache, last_only)

    def through(self, tokens: Tensor, cache: Cache | Batch | None, last_only: bool) -> Tensor:
        """From the embedding through every layer to the head."""
        config, weights = self.config, self.weights
        h = F.embedding(tokens, weights.embed)  # [B, T, H]
        turns = {rope: turn(tables, tokens.shape[1], cache, h.dtype) for rope, tables in self.ropes.items()}
        for index, (spec, layer) in enumerate(zip(config.layers, weights.layers, strict=True)):
            h = block(config, spec, layer, h, turns[spec.rope], self.sight(index, spec, cache))
        if isinstance(cache, Batch):
            cache.advance()
        elif cache:
            cache.advance(tokens.shape[1])
        if last_only:
            h = h[:, cache.ends()] if isinstance(cache, Batch) else h[:, -1:]
        return linear(norm(h, weights.norm, config.norm_eps), weights.head)

    def sight(self, index: int, spec: LayerConfig, cache: Cache | Batch | None) -> Sight:
        """A layer's queries see the chunk and, with a cache, the past."""

        def see(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if isinstance(cache, Batch):
                return cache.see(index, q, k, v, spec.window)
            if cache:
                k, v = cache.extend(index, k, v)
            return attend(q, k, v, spec.window)

        return see


def turn(tables: Tables, count: int, cache: Cache | Batch | None, dtype: torch.dtype) -> Turn:
    """cos and sin at the positions of a pass."""
    if not isinstance(cache, Batch):
        return tables.at(cache.length if cache else 0, count, dtype)
    turns = [tables.at(one.length, at.stop - at.start, dtype) for one, at in cache.parts()]
    return turns[0] if len(turns) == 1 else (torch.cat([cos for cos, _ in turns]), torch.cat([sin for _, sin in turns]))


def random_weights(
    config: LagunaConfig,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    per_element_gate: bool | None = None,
) -> Weights:
    """Weights to train from: normal, scaled by 1/sqrt(inputs); what a block adds to the residual starts smaller."""
    generator = torch.Generator().manual_seed(seed)
    hidden, dim = config.hidden_size, config.head_dim
    residual = (2 * len(config.layers)) ** -0.5
    wide_gate = config.per_element_gate if per_element_gate is None else per_element_gate

    def matrix(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * (scale * shape[-1] ** -0.5)).to(dtype)

    def ones(size: int) -> Tensor:
        return torch.ones(size, dtype=dtype)

    def feed_forward(spec: LayerConfig) -> Dense | Sparse:
        if not spec.sparse:
            inner = config.intermediate_size
            return Dense(matrix(2 * inner, hidden), matrix(hidden, inner, scale=residual))
        inner, shared = config.expert_size, config.shared_expert_size
        return Sparse(
            router=matrix(config.experts, hidden),
            bias=torch.zeros(config.experts, dtype=dtype),
            gate_up=matrix(config.experts, 2 * inner, hidden),
            down=matrix(config.experts, hidden, inner, scale=residual / config.routed_scale),
            shared_gate_up=matrix(2 * shared, hidden),
            shared_down=matrix(hidden, shared, scale=residual),
        )

    def layer(spec: LayerConfig) -> Layer:
        heads = spec.heads * dim
        return Layer(
            attention_norm=ones(hidden),
            inputs=Apart(
                q=matrix(heads, hidden),
                k=matrix(config.kv_heads * dim, hidden),
                v=matrix(config.kv_heads * dim, hidden),
                gate=matrix(heads if wide_gate else spec.heads, hidden),
            ),
            out=matrix(hidden, heads, scale=residual),
            q_norm=ones(dim),
            k_norm=ones(dim),
            mlp_norm=ones(hidden),
            mlp=feed_forward(spec),
        )

    embed = torch.randn(config.vocab_size, hidden, generator=generator).to(dtype) * 0.5
    head = matrix(config.vocab_size, hidden, scale=0.5)
    return Weights(embed, [layer(spec) for spec in config.layers], ones(hidden), head)
