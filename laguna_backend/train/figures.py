"""What a run is measured by: its log, the work in a step, and how fast this machine could do it at best."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..model.config import LagunaConfig

SQUARE = 1024  # side of the matrices whose product says how fast the machine is


class Log:
    """A file with a JSON object in each line: one for each step, and one for each evaluation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **figures: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    def cut(self, step: int) -> None:
        """Take away what was written after a step that the run goes on from, and a line that was cut short."""
        if not self.path.exists():
            return
        kept: list[str] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if int(json.loads(line)["step"]) <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
        partial = self.path.with_name(f"{self.path.name}.part")
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        partial.replace(self.path)


def forward_work(config: LagunaConfig, lengths: Sequence[int], learnt: int) -> float:
    """Floating-point operations of one pass over documents of these lengths, with logits for `learnt` tokens."""
    tokens, hidden = sum(lengths), config.hidden_size
    total = 2.0 * learnt * hidden * config.vocab_size
    for spec in config.layers:
        heads = spec.heads * config.head_dim
        gate = heads if config.per_element_gate else spec.heads
        total += 2.0 * tokens * hidden * (2 * heads + 2 * config.kv_heads * config.head_dim + gate)
        seen = sum(visible_pairs(length, spec.window) for length in lengths)
        total += 4.0 * heads * seen
        if spec.sparse:
            inner = config.experts_per_token * config.expert_size + config.shared_expert_size
            total += 2.0 * tokens * hidden * (3 * inner + config.experts)
        else:
            total += 6.0 * tokens * hidden * config.intermediate_size
    return total


def visible_pairs(length: int, window: int | None) -> float:
    """How many pairs of query and key a document has."""
    if window is None or length <= window:
        return length * (length + 1) / 2
    return window * (window + 1) / 2 + (length - window) * window


def step_work(forward: float, *, frozen: bool) -> float:
    """Of forward and backward: gradients of activations cost as much again, and those of weights, where they are
    wanted, once more. What is computed twice to save memory is not counted, nor an adapter's own parts."""
    return forward * (2 if frozen else 3)


def best_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large product of matrices here and now: the best of a few."""
    a, b = (torch.randn(SQUARE, SQUARE, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        (a @ b).sum().item()  # waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2 * SQUARE**3 / best


def described(figures: Mapping[str, Any]) -> str:
    """Figures in one line for people."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
