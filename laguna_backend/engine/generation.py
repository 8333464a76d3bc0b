"""One request being answered: which tokens came, which may come, what of them is told, and whether it is over.

It knows logits and no model: the engine runs `unrun` through the model and gives the logits back to `draw`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from .request import Allowed, Finish, FinishReason, Forced, NothingAllowed, Request, Step
from .sampler import Sampler, alternatives
from .stopping import StopTexts

if TYPE_CHECKING:
    from .guess import Guesser
    from .past import Past


def no_text(token: int) -> bytes:
    """For models without words."""
    return b""


def never() -> bool:
    return False


class Generation:
    """Answers one request by at most `limit` tokens. `tokens` are the prompt and all that came after it; `run` of them
    the model has seen. Once `finish` or `error` is set, nothing more comes."""

    def __init__(
        self,
        request: Request,
        *,
        limit: int,
        eos: Collection[int] = (),
        text_of: Callable[[int], bytes] = no_text,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.request, self.limit = request, limit
        self.text_of, self.cancelled = text_of, cancelled
        self.stop_ids = {*eos, *request.stop_ids}
        self.sampler = Sampler(request.rule)
        self.stops = StopTexts(request.stop)
        self.tokens = list(request.prompt)
        self.run = 0
        self.cached = self.guessed = 0
        self.prefill_seconds = self.decode_seconds = 0.0
        self.said: list[Step | Finish] = []  # not yet taken by whoever asked
        self.finish: Finish | None = None
        self.error: Exception | None = None
        self.past: Past | None = None  # the engine's, while it runs
        self.guesser: Guesser | None = None  # the engine's as well
        self.served = 0
        self.mask: Allowed | None = None
        self.look_ahead()

    @property
    def unrun(self) -> list[int]:
        """What the model has to see before the next token can be drawn."""
        return self.tokens[self.run :]

    @property
    def over(self) -> bool:
        return self.finish is not None or self.error is not None

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    def draw(self, logits: Tensor) -> int:
        """Choose the next token by logits [V] of what follows all `tokens`, and take in what it forces.

        Raises FloatingPointError for logits that are no numbers, NothingAllowed when the constraints leave nothing.
        """
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("the model's output is not a number: the weights or the number format are broken")
        free = logits
        if self.mask is not None:
            logits = masked(logits, self.mask, self.request.barred)
        elif self.request.barred:
            logits = without(logits, self.request.barred)
        token = self.sampler.draw(logits, self.generated)
        if self.request.logprobs is None:
            self.add(Step(token, self.text_of(token)))
        else:
            own, top = alternatives(free, token, self.request.logprobs)
            self.add(Step(token, self.text_of(token), own, top))
        self.look_ahead()
        return token

    def look_ahead(self) -> None:
        """Ask the constraints what may come next, and take in what they force."""
        self.mask = None
        while self.finish is None and self.request.constraints:
            answers = [constraint.next() for constraint in self.request.constraints]
            forced = next((answer for answer in answers if isinstance(answer, Forced)), None)
            if forced is None or not forced.tokens:
                self.mask = joint([answer for answer in answers if isinstance(answer, Allowed)])
                return
            for token in forced.tokens:
                if self.finish is None:
                    self.add(Step(token, self.text_of(token), forced=True))

    def add(self, step: Step) -> None:
        """One more token, and the end if it is one."""
        self.tokens.append(step.token)
        for constraint in self.request.constraints:
            constraint.take(step.token)
        self.said += self.stops.feed(step)
        if self.stops.found is not None:
            self.end("stop", self.stops.found)
        elif step.token in self.stop_ids:
            self.end("stop", step.token)
        elif self.generated >= self.limit:
            self.end("length")

    def end(self, reason: FinishReason, by: int | str | None = None) -> None:
        """It is over; what was held back is told. Without effect once it is."""
        if self.finish is not None:
            return
        self.said += self.stops.finish()
        self.finish = Finish(
            reason,
            by,
            prompt=len(self.request.prompt),
            cached=self.cached,
            generated=self.generated,
            guessed=self.guessed,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=self.decode_seconds,
        )
        self.said.append(self.finish)

    def take(self) -> list[Step | Finish]:
        """What came since the last time."""
        said, self.said = self.said, []
        return said


def joint(allowed: list[Allowed]) -> Allowed | None:
    """What all of them allow; None: anything."""
    if len(allowed) < 2:
        return allowed[0] if allowed else None
    size = min(len(one.mask) for one in allowed)
    tables = [numpy.frombuffer(one.mask, dtype=numpy.uint8)[:size] != 0 for one in allowed]
    return Allowed(numpy.logical_and.reduce(tables).tobytes())


def masked(logits: Tensor, allowed: Allowed, barred: Collection[int] = ()) -> Tensor:
    """Logits [V] of which only the allowed ones are finite. Raises NothingAllowed when that is none."""
    size = min(len(allowed.mask), logits.shape[-1])
    table = numpy.zeros(logits.shape[-1], dtype=numpy.bool_)
    table[:size] = numpy.frombuffer(allowed.mask, dtype=numpy.uint8)[:size] != 0
    table[[token for token in barred if token < size]] = False
    if not table.any():
        raise NothingAllowed("the constraints on the answer allow no token at all")
    return logits.masked_fill(~torch.from_numpy(table).to(logits.device), float("-inf"))


def without(logits: Tensor, barred: Collection[int]) -> Tensor:
    """Logits [V] of which the barred ones are not finite: a copy, and no table as large as the vocabulary."""
    left = logits.clone()
    for token in barred:
        left[token : token + 1].fill_(float("-inf"))  # of a token that the model has not, nothing
    return left
