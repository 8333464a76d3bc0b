"""One layer in torch, without a cache or a loop: attention of whatever its queries see, and the feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import LagunaConfig, LayerConfig
from .linear import linear
from .moe import mix, route, swiglu
from .parameters import Dense, Layer, Sparse
from .rope import rotate

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
    return linear(gathered(config, spec, layer, layer.inputs(x), turn, see), layer.out)


def gathered(
    config: LagunaConfig, spec: LayerConfig, layer: Layer, inputs: Sequence[Tensor], turn: Turn, see: Sight
) -> Tensor:
    """What queries, keys, values and gates [B, T, ..] make of one another: [B, T, heads * D]."""
    dim, eps = config.head_dim, config.norm_eps
    q, k, v, gate = inputs
    batch, length, _ = q.shape
    v = v.unflatten(-1, (config.kv_heads, dim)).transpose(1, 2)
    q = norm(q.unflatten(-1, (spec.heads, dim)), layer.q_norm, eps).transpose(1, 2)  # [B, heads, T, D]
    k = norm(k.unflatten(-1, (config.kv_heads, dim)), layer.k_norm, eps).transpose(1, 2)
    a = see(rotate(q, *turn), rotate(k, *turn), v).transpose(1, 2)  # [B, T, heads, D]
    gate = F.softplus(gate.float()).to(a.dtype)
    a = a * gate.view(batch, length, spec.heads, -1)  # one gate a head, or one an element
    return a.reshape(batch, length, -1)


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
