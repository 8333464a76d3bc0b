"""Muon for matrices, AdamW for the rest (Jordan et al. 2024; Laguna was trained with it, arXiv 2605.27605).

Muon moves each matrix by its momentum made orthogonal with five Newton-Schulz steps, so that every direction of the
matrix learns at the same pace. Embeddings, norms, routers and gates are not matrices in that sense and stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

ADAM_ONLY = ("embed", "head", ".router", ".gate")


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix to each of [.., m, n], approximately."""
    a, b, c = 3.4445, -4.7750, 2.0315  # the quintic that pulls singular values to about 1 fastest
    x = matrix / (matrix.flatten(-2).norm(dim=-1)[..., None, None] + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon:
    """Both optimisers over named parameters. `scale` of `step` multiplies every learning rate."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], *, matrix_rate: float, rate: float) -> None:
        every = list(named)
        self.matrices = [p for name, p in every if p.dim() >= 2 and not name.endswith(ADAM_ONLY)]
        others = [p for name, p in every if p.dim() < 2 or name.endswith(ADAM_ONLY)]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.matrix_rate, self.rate = matrix_rate, rate
        self.adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        for matrix, momentum in zip(self.matrices, self.momentum, strict=True):
            gradient = matrix.grad
            if gradient is None:
                continue
            momentum.lerp_(gradient, 0.05)
            update = orthogonal(gradient.lerp(momentum, 0.95))
            shape = max(1.0, matrix.shape[-2] / matrix.shape[-1]) ** 0.5
            matrix.mul_(1 - 0.02 * self.matrix_rate * scale).sub_(update, alpha=self.matrix_rate * scale * shape)
            matrix.grad = None
        for group in self.adam.param_groups:
            group["lr"] = self.rate * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        for mine, saved in zip(self.momentum, state["momentum"], strict=True):
            mine.copy_(saved)
        self.adam.load_state_dict(state["adam"])
