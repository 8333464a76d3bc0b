"""What moves the weights: AdamW, or Muon for matrices and AdamW for the rest (arXiv 1711.05101; Jordan et al. 2024).

Laguna itself was trained with Muon (arXiv 2605.27605): it moves each matrix by its momentum made orthogonal with five
Newton-Schulz steps, so that every direction of the matrix learns at the same pace. Embeddings, norms, routers and gates
are not matrices in that sense and stay with AdamW. torch's own Muon takes no stacks of matrices, which experts are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

ADAM_ONLY = ("embed", "head", ".router", ".gate")
MOMENTUM = 0.95


@dataclass(frozen=True)
class Rule:
    """How weights are moved. `matrix_rate` and `matrix_decay` are Muon's. Decay is of matrices, never of norms."""

    kind: Literal["adamw", "muon"] = "adamw"
    rate: float = 1e-5
    matrix_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.0
    matrix_decay: float = 0.02
    clip: float = 1.0
    """The longest gradient of all parameters together; longer ones are shortened. 0: none is."""


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


class Muon(torch.optim.Optimizer):
    """Matrices [.., m, n], each of a stack by itself. `lr` and `weight_decay` are groups' as in torch's optimisers.

    Of a sharded matrix every process computes the whole update and takes its part: it costs what one process costs.
    """

    def __init__(self, matrices: Iterable[Tensor], *, lr: float, weight_decay: float) -> None:
        super().__init__(list(matrices), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            rate, decay = group["lr"], group["weight_decay"]
            for matrix in cast("list[Tensor]", group["params"]):
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix]["momentum"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = spread(orthogonal(whole(matrix.grad.lerp(momentum, MOMENTUM))), matrix)
                shape = max(1.0, matrix.shape[-2] / matrix.shape[-1]) ** 0.5
                matrix.mul_(1 - decay * rate).sub_(update, alpha=rate * shape)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that every process has, sharded as another is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


class Optimizer:
    """The optimisers of a rule over named parameters. Its state is there from the beginning, by parameters' names."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], rule: Rule) -> None:
        self.rule = rule
        self.named = dict(named)
        matrices = {n: p for n, p in self.named.items() if p.dim() >= 2 and not n.endswith(ADAM_ONLY)}
        muon = matrices if rule.kind == "muon" else {}
        rest = {name: p for name, p in self.named.items() if name not in muon}
        self.parts: list[torch.optim.Optimizer] = []
        if muon:
            self.parts.append(Muon(muon.values(), lr=rule.matrix_rate, weight_decay=rule.matrix_decay))
        if rest:
            decayed = [p for p in rest.values() if p.dim() >= 2]
            kept = [p for p in rest.values() if p.dim() < 2]
            groups = [{"params": decayed, "weight_decay": rule.decay}, {"params": kept, "weight_decay": 0.0}]
            self.parts.append(torch.optim.AdamW(groups, lr=rule.rate, betas=rule.betas))
        for part in self.parts:
            part.defaults["rate"] = part.defaults["lr"]
            for parameter in (p for group in part.param_groups for p in group["params"]):
                part.state[parameter] = (
                    {"momentum": torch.zeros_like(parameter)}
                    if isinstance(part, Muon)
                    else {
                        "step": torch.zeros((), dtype=torch.float32),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
                )

    def clipped(self) -> float:
        """Shorten the gradients if the rule says so. Gives back how long they were together."""
        gradients = [p.grad for p in self.named.values() if p.grad is not None]
        length = whole(torch.nn.utils.get_total_norm(gradients))
        if self.rule.clip:
            torch.nn.utils.clip_grads_with_norm_(self.named.values(), self.rule.clip, length)
        return float(length)

    def step(self, scale: float) -> None:
        """Move every parameter by its gradient, at `scale` times the rule's rates, and forget the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = part.defaults["rate"] * scale
            part.step()
        self.forget()

    def forget(self) -> None:
        """Let go of the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """The tensors it remembers, such as `layers.3.weights.out.exp_avg`: themselves, no copies."""
        return dict(self._state())

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        names = {parameter: name for name, parameter in self.named.items()}
        for part in self.parts:
            for parameter, held in cast("Mapping[Tensor, Mapping[str, Any]]", part.state).items():
                yield from ((f"{names[parameter]}.{key}", value) for key, value in held.items())
