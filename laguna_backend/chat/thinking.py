"""An end to the model's thoughts: after so many tokens their closing tag is put into its mouth.

Whatever it had thought stays before it, so that the answer can use it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.request import Forced
from .tokenizer import THINK, THINK_END


class ThinkingBudget:
    """A `Constraint`: at most `budget` tokens of thought in one answer, and then `closing`."""

    def __init__(self, budget: int, closing: Sequence[int], *, thinking: bool) -> None:
        self.left, self.closing, self.thinking = budget, tuple(closing), thinking

    def next(self) -> Forced | None:
        return Forced(self.closing) if self.thinking and self.left <= 0 else None

    def take(self, token: int) -> None:
        if token == THINK_END:
            self.thinking = False
        elif self.thinking:
            self.left -= 1
        elif token == THINK:
            self.thinking = True
