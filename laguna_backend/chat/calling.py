"""A call that has to come: after the model's thoughts its tag is put into its mouth."""

from __future__ import annotations

from ..engine.request import Forced
from .tokenizer import THINK_END, TOOL_CALL


class CallFirst:
    """A `Constraint`: what follows the thoughts is `<tool_call>`."""

    def __init__(self, *, thinking: bool) -> None:
        self.due, self.thinking = True, thinking

    def next(self) -> Forced | None:
        return Forced((TOOL_CALL,)) if self.due and not self.thinking else None

    def take(self, token: int) -> None:
        if self.thinking:
            self.thinking = token != THINK_END
        else:
            self.due = False
