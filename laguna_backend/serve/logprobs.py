"""Tokens by their spelling, and how likely they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.request import Step

LEAST = -9999.0
"""Of a token that could not come: JSON has no infinity."""


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The bytes of each token id."""

    bytes_of: Callable[[int], bytes]

    def spelled(self, token: int) -> str:
        return self.bytes_of(token).decode(errors="replace")

    def entry(self, step: Step) -> dict[str, Any]:
        """One token of a chat's `logprobs.content`."""
        top = [self._told(token, logprob) for token, logprob in step.top]
        return {**self._told(step.token, step.logprob), "top_logprobs": top}

    def columns(self, steps: Sequence[Step], offset: int) -> dict[str, Any]:
        """The `logprobs` of a completion: a column for each property, and where each token begins in the text."""
        offsets = list[int]()
        for step in steps:
            offsets.append(offset)
            offset += len(step.text.decode(errors="replace"))
        return {
            "tokens": [self.spelled(step.token) for step in steps],
            "token_logprobs": [_number(step.logprob) for step in steps],
            "top_logprobs": [{self.spelled(token): _number(logprob) for token, logprob in step.top} for step in steps],
            "text_offset": offsets,
        }

    def _told(self, token: int, logprob: float | None) -> dict[str, Any]:
        spelled = self.bytes_of(token)
        return {"token": spelled.decode(errors="replace"), "logprob": _number(logprob), "bytes": list(spelled)}


def _number(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LEAST)
