"""One sequence in, tokens out: prefill in chunks, then a token at a time. Plain Python generators, no threads.

The cache of the last sequence is kept. When the next prompt begins with the tokens it holds, as every step of a turn
does, only the rest is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch

from ..model.cache import KVCache, Storage
from ..model.forward import Laguna
from .relay import Cancelled
from .sampler import Rule, Sampler

FIRST_CHUNK, LARGEST_CHUNK = 64, 4096
CHUNK_SECONDS = 0.3  # aim for one prefill chunk: cancelling waits no longer than this


class ContextOverflow(ValueError):
    """The prompt is empty, or leaves no room in the model's context."""


@dataclass
class Stats:
    """Tokens and seconds of one run; `reused` of the prompt's tokens were in the cache."""

    prompt: int = 0
    reused: int = 0
    generated: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    stopped: str = ""


class Engine:
    """Runs a Laguna for one sequence at a time. Not thread-safe: one thread owns it."""

    def __init__(self, laguna: Laguna, *, storage: Storage, scales: dict[tuple[int, str], float] | None = None) -> None:
        self.laguna, self.scales = laguna, scales or {}
        self.storage: Storage = storage
        self.device = laguna.weights.embed.device
        self.held: list[int] = []
        self.cache = self.new_cache()
        self.chunk = FIRST_CHUNK

    def new_cache(self) -> KVCache:
        return KVCache(self.laguna.config, storage=self.storage, device=self.device, scales=self.scales)

    def generate(
        self,
        prompt: Sequence[int],
        rule: Rule,
        *,
        max_tokens: int,
        stats: Stats,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generator[int, None, None]:
        """Yield token ids up to and including a stop token, `max_tokens` or the end of the context.

        Raises ContextOverflow before any work, Cancelled within one chunk or step of `cancelled`, FloatingPointError
        when the logits are not finite. Whatever happens, the cache stays usable.
        """
        context = self.laguna.config.max_context
        if not prompt:
            raise ContextOverflow("the prompt is empty: the chat template wrote nothing")
        if len(prompt) >= context:
            raise ContextOverflow(f"the prompt has {len(prompt)} tokens, the model's context {context}")
        stats.prompt = len(prompt)
        sampler = Sampler(rule, self.device)
        try:
            with torch.inference_mode():
                logits = self.prefill(prompt, stats, cancelled)
                clock = time.perf_counter()
                limit = min(max_tokens, context - len(prompt))
                for _ in range(limit):
                    token = self.choose(sampler, logits)
                    stats.generated += 1
                    stats.decode_seconds = time.perf_counter() - clock
                    if token in self.laguna.config.eos:
                        stats.stopped = "stop"
                        yield token
                        return
                    yield token
                    if cancelled():
                        raise Cancelled
                    if stats.generated < limit:
                        logits = self.run([token])
                stats.stopped = "length"
        except BaseException:
            if self.cache.length != len(self.held):  # stopped in the middle of a forward pass
                self.forget()
            raise

    def prefill(self, prompt: Sequence[int], stats: Stats, cancelled: Callable[[], bool]) -> torch.Tensor:
        """Logits [V] after the prompt, computing only what the cache does not hold."""
        stats.reused = self.reuse(prompt)
        clock = time.perf_counter()
        logits = torch.empty(0)
        at = stats.reused
        while at < len(prompt):
            if cancelled():
                raise Cancelled
            begun = time.perf_counter()
            piece = prompt[at : at + self.chunk]
            logits = self.run(piece)
            at += len(piece)
            if len(piece) == self.chunk:
                pace = (time.perf_counter() - begun) / len(piece)
                wanted = int(CHUNK_SECONDS / max(pace, 1e-7))
                self.chunk = max(FIRST_CHUNK, min(LARGEST_CHUNK, wanted, 2 * self.chunk))
        stats.prefill_seconds = time.perf_counter() - clock
        return logits

    def reuse(self, prompt: Sequence[int]) -> int:
        """Keep what the cache and the prompt share; the number of tokens that need no work. At least one is left."""
        shared = 0
        for mine, theirs in zip(self.held, prompt, strict=False):
            if mine != theirs:
                break
            shared += 1
        shared = min(shared, len(prompt) - 1)
        if not self.cache.can_rewind(shared):
            self.forget()
            return 0
        self.cache.rewind(shared)
        del self.held[shared:]
        return shared

    def run(self, tokens: Sequence[int]) -> torch.Tensor:
        """One forward pass; logits [V] after the last token."""
        ids = torch.tensor([list(tokens)], device=self.device)
        logits = self.laguna.forward(ids, self.cache, last_only=True)[0, -1]
        self.held += tokens
        return logits

    def choose(self, sampler: Sampler, logits: torch.Tensor) -> int:
        if not bool(torch.isfinite(logits).all()):
            self.forget()
            raise FloatingPointError("the model's output is not a number: the weights or the number format are broken")
        return sampler.draw(logits)

    def forget(self) -> None:
        """Drop the cache."""
        self.held, self.cache = [], self.new_cache()
