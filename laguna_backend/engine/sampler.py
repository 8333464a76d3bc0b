"""The next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """How to choose. Temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 leave everything in."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, ok in (
            ("temperature", self.temperature >= 0),
            ("top_k", self.top_k >= 0),
            ("top_p", 0 < self.top_p <= 1),
            ("min_p", 0 <= self.min_p < 1),
        ):
            if not ok:
                raise ValueError(f"{name} is {getattr(self, name)}")


class Sampler:
    """Draws tokens by one rule, from a generator of its own."""

    def __init__(self, rule: Rule, device: torch.device | str = "cpu") -> None:
        self.rule = rule
        self.generator = torch.Generator(device)
        if rule.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(rule.seed)

    def draw(self, logits: Tensor) -> int:
        """One token id of logits [V]. The only point of a step where the host waits for the device."""
        if self.rule.temperature == 0:
            return int(logits.argmax())
        probabilities = self.probabilities(logits)
        # argmax(p / Exp(1)) draws from p without the sync that torch.multinomial makes.
        noise = torch.empty_like(probabilities).exponential_(generator=self.generator)
        return int((probabilities / noise).argmax())

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that `draw` draws from: [V], float32; what the rule leaves out has probability 0."""
        rule = self.rule
        scaled = logits.float() / rule.temperature
        if 0 < rule.top_k < scaled.shape[-1]:
            least = scaled.topk(rule.top_k).values[-1]
            scaled = scaled.masked_fill(scaled < least, float("-inf"))
        probabilities = scaled.softmax(-1)
        if rule.min_p > 0:
            probabilities = probabilities.where(probabilities >= rule.min_p * probabilities.max(), 0)
        if rule.top_p < 1:
            # Ordered by the logits: probabilities of neighbours round to the same number, and the best must stay.
            order = logits.float().argsort(descending=True, stable=True)
            ordered = probabilities[order]
            ahead = ordered.cumsum(-1) - ordered  # mass of what comes before: the first token always stays
            kept = ordered.where(ahead < rule.top_p * probabilities.sum(), 0)
            probabilities = torch.zeros_like(probabilities).scatter(0, order, kept)
        return probabilities / probabilities.sum()
