"""Laguna's forward pass, top to bottom (arXiv 2605.27605; transformers' `modeling_laguna.py` is the reference).

Weights are plain tensors in dataclasses; `forward` is a function of them. The same function trains (no cache,
gradients flow) and generates (a cache, one sequence, any number of new tokens at a time). Rounding follows the
reference: norms cast before they scale, cos and sin are float32 until the end, the gate is softplus in float32 of the
layer's *normed input*, logits stay in the model's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import attend
from .batch import Batch
from .cache import KVCache
from .config import LagunaConfig, LayerConfig
from .few import Few
from .linear import linear, one_row
from .moe import mix, route, swiglu
from .parameters import Apart, Dense, Layer, Sparse, Together, Weights, joined
from .rope import Tables, rotate

__all__ = ["Apart", "Cache", "Dense", "Laguna", "Layer", "Sparse", "Together", "Weights", "joined", "norm"]


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
        self.few = Few.of(config, weights)
        self.ropes = {rope: Tables(rope, weights.embed.device) for rope in {layer.rope for layer in config.layers}}

    def forward(self, tokens: Tensor, cache: Cache | Batch | None = None, *, last_only: bool = False) -> Tensor:
        """Logits [B, T, V] of what follows each of `tokens` [B, T]; [B, 1, V] with `last_only`.

        With a cache B is 1 and the tokens follow those that the cache holds. With a batch of N sequences B is 1 as
        well, the tokens of each follow one another and its cache, and `last_only` gives [1, N, V]. A few tokens, on
        a CPU and without gradients, go by the kernels (`few`).
        """
        if self.few and isinstance(cache, KVCache | Batch) and self.few.takes(tokens):
            return self.few.forward(tokens, cache, self.ropes, last_only)
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


# One layer -----------------------------------------------------------------------------------------------

Sight = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What queries [B, heads, T, D] see of their chunk's keys and values [B, KV, T, D], and of a past: [B, heads, T, D].
Whoever runs a layer decides it: generating brings a cache, training the borders of documents."""

Turn = tuple[Tensor, Tensor]
"""cos and sin [T, rotary_dim] of a chunk's positions."""

Chosen = Callable[[Tensor], None]
"""Is told which experts [B * T, top_k] a layer's router chose."""


def block(
    config: LagunaConfig,
    spec: LayerConfig,
    layer: Layer,
    h: Tensor,
    turn: Turn,
    see: Sight,
    chosen: Chosen | None = None,
) -> Tensor:
    """h [B, T, H] through one layer."""
    h = h + attention(config, spec, layer, norm(h, layer.attention_norm, config.norm_eps), turn, see)
    return h + feed_forward(config, layer.mlp, norm(h, layer.mlp_norm, config.norm_eps), chosen)


def attention(config: LagunaConfig, spec: LayerConfig, layer: Layer, x: Tensor, turn: Turn, see: Sight) -> Tensor:
    batch, length, _ = x.shape
    dim, eps = config.head_dim, config.norm_eps
    q, k, v, gate = layer.inputs(x)
    v = v.unflatten(-1, (config.kv_heads, dim)).transpose(1, 2)
    q = norm(q.unflatten(-1, (spec.heads, dim)), layer.q_norm, eps).transpose(1, 2)  # [B, heads, T, D]
    k = norm(k.unflatten(-1, (config.kv_heads, dim)), layer.k_norm, eps).transpose(1, 2)
    a = see(rotate(q, *turn), rotate(k, *turn), v).transpose(1, 2)  # [B, T, heads, D]
    gate = F.softplus(gate.float()).to(a.dtype)
    a = a * gate.view(batch, length, spec.heads, -1)  # one gate a head, or one an element
    return linear(a.reshape(batch, length, -1), layer.out)


def feed_forward(config: LagunaConfig, mlp: Dense | Sparse, x: Tensor, chosen: Chosen | None = None) -> Tensor:
    if isinstance(mlp, Dense):
        return swiglu(x, mlp.gate_up, mlp.down)
    rows = x.reshape(-1, x.shape[-1])  # [B * T, H]
    weights, experts = route(
        rows,
        mlp.router,
        mlp.bias,
        config.experts_per_token,
        score=config.router_score,
        softcap=config.router_softcap,
    )
    if chosen:
        chosen(experts)
    routed = mix(rows, weights, experts, mlp.gate_up, mlp.down) * config.routed_scale
    return (routed + swiglu(rows, mlp.shared_gate_up, mlp.shared_down)).view_as(x)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm over the last dimension, in float32 and rounded before the weight scales it."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


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
