"""The next token from logits, by a rule and one number between 0 and 1 for each place.

The number comes from the seed and the place alone. So a seed gives the same tokens whatever else the model computes at
the same time, and a guess that was run ahead is confirmed exactly when the token would have been drawn anyway: with the
probability that the model gives it.
"""

from __future__ import annotations

import hashlib
import secrets

import torch
from torch import Tensor

from .request import Rule

MANY = 1024  # tokens of which the most likely are looked for first, where a whole vocabulary would have to be sorted


class Sampler:
    """Draws the tokens of one request."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.seed = secrets.randbits(64) if rule.seed is None else rule.seed

    def draw(self, logits: Tensor, place: int) -> int:
        """The token of logits [V] at one place. The only point of a step where the host waits for the device."""
        if self.rule.temperature == 0:
            return int(logits.argmax())
        tokens, probabilities = self.left_in(logits)
        heights = probabilities.double().cumsum(-1)
        at = torch.searchsorted(heights, self.number(place) * heights[-1], right=True)
        return int(tokens[at.clamp_max(len(tokens) - 1)])

    def number(self, place: int) -> float:
        """From 0 up to, not including, 1."""
        digest = hashlib.blake2b(f"{self.seed} {place}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53)

    def left_in(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that the rule leaves in, by number, and their probabilities, which add up to 1: float32."""
        rule, size = self.rule, logits.shape[-1]
        scaled = logits.float() / rule.temperature
        tokens = torch.arange(size, device=logits.device)
        if 0 < rule.top_k < size:
            scaled, tokens = scaled.topk(rule.top_k)
        whole = scaled.logsumexp(-1)
        if rule.top_p < 1 and not 0 < rule.top_k < size:
            scaled, tokens = self.enough(scaled, whole)
        probabilities = (scaled - whole).exp()
        if rule.min_p > 0:
            probabilities = probabilities.where(probabilities >= rule.min_p * probabilities.max(), 0)
        if rule.top_p < 1:  # here they come in order, the most likely first
            ahead = probabilities.cumsum(-1) - probabilities
            limit = rule.top_p * (probabilities.sum() if rule.min_p > 0 else 1.0)
            first = torch.arange(len(tokens), device=tokens.device) == 0  # stays, whatever rounding says
            probabilities = probabilities.where(first | (ahead < limit), 0)
        # By number: neighbours whose probabilities differ by rounding only must not change places.
        tokens, order = tokens.sort()
        probabilities = probabilities[order]
        kept = probabilities > 0
        tokens, probabilities = tokens[kept], probabilities[kept]
        return tokens, probabilities / probabilities.sum()

    def enough(self, scaled: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of scaled logits [V] in order, and their tokens: so many that top_p needs no others."""
        if scaled.shape[-1] > MANY and self.rule.min_p == 0:
            largest, tokens = scaled.topk(MANY)
            if float((largest - whole).exp().sum()) > self.rule.top_p:
                return largest, tokens
        return scaled.sort(descending=True, stable=True)


def alternatives(logits: Tensor, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log-probability of a token under logits [V], and the `count` most likely tokens with theirs."""
    logs = logits.float().log_softmax(-1)
    best = logs.topk(min(count, len(logs)))
    top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return float(logs[token]), tuple(top)
