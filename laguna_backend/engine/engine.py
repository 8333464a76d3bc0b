"""One sequence in, tokens out: prefill in chunks, then a token at a time. Plain Python generators, no threads.

The cache of the last sequence is kept. When the next prompt begins with the tokens it holds, as every step of a turn
does, only the rest is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence

import torch

from ..model.cache import KVCache, Storage
from ..model.forward import Laguna
from .generation import Generation, no_text
from .relay import Cancelled
from .request import ContextOverflow, Finish, Request, Step

FIRST_CHUNK, LARGEST_CHUNK = 64, 4096
CHUNK_SECONDS = 0.3  # aim for one prefill chunk: cancelling waits no longer than this


class Engine:
    """Runs a Laguna for one sequence at a time. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        laguna: Laguna,
        *,
        storage: Storage,
        scales: Mapping[tuple[int, str], float] | None = None,
        text_of: Callable[[int], bytes] = no_text,
    ) -> None:
        self.laguna, self.scales, self.text_of = laguna, scales or {}, text_of
        self.storage: Storage = storage
        self.device = laguna.weights.embed.device
        self.held: list[int] = []
        self.cache = self.new_cache()
        self.chunk = FIRST_CHUNK

    def new_cache(self) -> KVCache:
        return KVCache(self.laguna.config, storage=self.storage, device=self.device, scales=self.scales)

    def begin(self, request: Request) -> Generation:
        """Take a request. Raises ContextOverflow before any work."""
        config, size = self.laguna.config, len(request.prompt)
        if not size:
            raise ContextOverflow("the prompt is empty: the chat template wrote nothing")
        if size >= config.max_context:
            raise ContextOverflow(f"the prompt has {size} tokens, the model's context {config.max_context}")
        return Generation(request, context=config.max_context, eos=config.eos, text_of=self.text_of)

    def answers(
        self, one: Generation, *, cancelled: Callable[[], bool] = lambda: False
    ) -> Generator[Step | Finish, None, None]:
        """A `Step` for each token, the last one included, and then the `Finish`. `Generation.end` ends it early.

        Raises Cancelled within one chunk or step of `cancelled`, FloatingPointError when the logits are not finite.
        Whatever happens, the cache stays usable.
        """
        try:
            with torch.inference_mode():
                one.run = self.reuse(one.tokens)
                one.cached = min(one.run, len(one.request.prompt))
                while one.finish is None:
                    self.choose(one, self.logits(one, cancelled))
                    yield from one.take()
                    if cancelled() and one.finish is None:
                        raise Cancelled
                yield from one.take()  # it was ended by who asked, or all was forced from the first token on
        except BaseException:
            if self.cache.length != len(self.held):  # stopped in the middle of a forward pass
                self.forget()
            raise

    def generate(
        self, request: Request, *, cancelled: Callable[[], bool] = lambda: False
    ) -> Generator[Step | Finish, None, None]:
        """`begin` and `answers` in one."""
        return self.answers(self.begin(request), cancelled=cancelled)

    def logits(self, one: Generation, cancelled: Callable[[], bool]) -> torch.Tensor:
        """Logits [V] after all of its tokens, computing only what the cache does not hold."""
        logits = torch.empty(0)
        while one.run < len(one.tokens):
            if one.run < len(one.request.prompt) and cancelled():
                raise Cancelled
            begun = time.perf_counter()
            piece = one.tokens[one.run : one.run + self.chunk]
            logits = self.run(piece)
            seconds = time.perf_counter() - begun
            if one.run < len(one.request.prompt):
                one.prefill_seconds += seconds
            else:
                one.decode_seconds += seconds
            one.run += len(piece)
            if len(piece) == self.chunk:
                wanted = int(CHUNK_SECONDS / max(seconds / len(piece), 1e-7))
                self.chunk = max(FIRST_CHUNK, min(LARGEST_CHUNK, wanted, 2 * self.chunk))
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

    def choose(self, one: Generation, logits: torch.Tensor) -> None:
        try:
            one.draw(logits)
        except FloatingPointError:
            self.forget()
            raise

    def forget(self) -> None:
        """Drop the cache."""
        self.held, self.cache = [], self.new_cache()
