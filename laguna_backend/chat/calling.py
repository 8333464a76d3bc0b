"""A call that has to come: after the model's thoughts its tag is put into its mouth, and a name where just one fits."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.request import Forced
from .tokenizer import THINK_END, TOOL_CALL


class CallFirst:
    """A `Constraint`: what follows the thoughts is `<tool_call>` and `name`, some tokens or none."""

    def __init__(self, name: Sequence[int], *, thinking: bool) -> None:
        self.due: tuple[int, ...] = (TOOL_CALL, *name)
        self.thinking = thinking

    def next(self) -> Forced | None:
        return Forced(self.due) if self.due and not self.thinking else None

    def take(self, token: int) -> None:
        if self.thinking:
            self.thinking = token != THINK_END
        elif self.due and token == self.due[0]:
            self.due = self.due[1:]
