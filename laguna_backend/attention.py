"""Attention of a chunk of queries over keys that came before it and those of the chunk itself.

One signature, two ways: `attend_plain` spells out the arithmetic, `attend` is the one that runs. They agree within
rounding (`tests/laguna_backend/test_parts.py`). A query at position p sees a key at position k iff k <= p and, in a
sliding layer, k > p - window: `window` tokens, itself included.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def visible(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """Which of the last `keys` positions each of the last `queries` positions may see: bool [queries, keys]."""
    key = torch.arange(keys, device=device)
    query = torch.arange(keys - queries, keys, device=device)[:, None]
    mask = key <= query
    return mask if window is None else mask & (key > query - window)


def attend_plain(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """softmax(q kᵀ / √D) v, heads grouped over keys. q [B, H, T, D], k and v [B, KV, S, D] -> [B, H, T, D].

    The keys end where the queries end. The softmax is in float32.
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5  # [B, H, T, S]
    mask = visible(q.shape[2], k.shape[2], window, q.device)
    scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """The same as `attend_plain`, by torch's fused kernels. No mask is made where none is needed."""
    queries, keys = q.shape[2], k.shape[2]
    grouped = q.shape[1] != k.shape[1]
    if queries == 1:
        if window is not None and keys > window:
            k, v = k[:, :, -window:], v[:, :, -window:]
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
    if queries == keys and (window is None or keys <= window):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    mask = visible(queries, keys, window, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)
