"""Requests in, tokens out, a pass of the model at a time; several requests take turns and share passes.

A pass runs a chunk of one prompt, or one token for each answer that goes on. The two kinds alternate, and prompts take
turns, so that nobody waits for the end of another's prompt. Prompts are cut at multiples of the chunk, where a snapshot
is kept and nowhere else: the cuts depend on the prompt alone, so what was kept is to the last bit what would be
computed anew. Whoever has not taken what was said is not gone on with.

Nothing here waits or knows of threads: whoever owns the engine calls `step`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from ..model.batch import Batch
from ..model.cache import KVCache, Snapshot, Storage, cache_bytes
from ..model.forward import Laguna
from .generation import Generation, never, no_text
from .guess import Costs, Guesser
from .limits import MIB, Limits
from .past import Past, Pasts
from .relay import Cancelled
from .request import Busy, CacheFull, ContextOverflow, Finish, Request, Step, UnknownToken

T = TypeVar("T")

SHORT = 8
"""tokens that are run together with other answers' next ones, instead of as a chunk of a prompt"""
NO_MEMORY = "there is not enough memory to go on; shorter prompts, or fewer at a time, need less"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one answer runs in a pass: tokens that follow those of its past, the last `guesses` of which are only
    guessed. `before` is where it goes back if that fails."""

    one: Generation
    past: Past
    tokens: list[int]
    before: Snapshot | None = None
    guesses: int = 0


class Engine:
    """Runs a Laguna for requests. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        laguna: Laguna,
        *,
        storage: Storage,
        scales: Mapping[tuple[int, str], float] | None = None,
        text_of: Callable[[int], bytes] = no_text,
        limits: Limits | None = None,
    ) -> None:
        self.laguna, self.scales, self.text_of = laguna, scales or {}, text_of
        self.storage: Storage = storage
        self.limits = limits or Limits()
        self.device = laguna.weights.embed.device
        self.pasts = Pasts(self.new_cache, self.size_of, self.limits)
        self.waiting: deque[Generation] = deque()
        self.running: list[Generation] = []
        self.costs = Costs()
        self.clock = itertools.count(1)
        self.prompt_was_last = False

    def __repr__(self) -> str:
        return f"<Engine [{len(self.running)} running, {len(self.waiting)} waiting, {len(self.pasts.all)} pasts]>"

    def new_cache(self) -> KVCache:
        return KVCache(self.laguna.config, storage=self.storage, device=self.device, scales=self.scales)

    def size_of(self, tokens: int) -> int:
        return cache_bytes(self.laguna.config, tokens, self.storage, scaled=not self.scales)

    # Requests --------------------------------------------------------------------------------------------

    def begin(self, request: Request, *, cancelled: Callable[[], bool] = never) -> Generation:
        """Take a request; `step` then goes on with it until it is over or `cancelled`.

        Raises before any work: ContextOverflow, UnknownToken, Busy, and CacheFull for a prompt that the caches' memory
        cannot hold.
        """
        size, context = len(request.prompt), self.laguna.config.max_context
        if not size:
            raise ContextOverflow("the prompt is empty: the chat template wrote nothing")
        if size >= context:
            raise ContextOverflow(f"the prompt has {size} tokens, the model's context {context}")
        known = self.laguna.config.vocab_size
        if min(request.prompt) < 0 or max(request.prompt) >= known:
            raise UnknownToken(f"the prompt has a token that the model does not know: its own are 0 to {known - 1}")
        if len(self.waiting) >= self.limits.waiting:
            raise Busy(f"the model is busy: {len(self.waiting)} requests wait already")
        limit = min(request.max_tokens, context - size)
        if self.limits.cache is not None and self.size_of(size + limit) > self.limits.cache:
            limit = self.longest_in(self.limits.cache) - size
            if limit < 1:
                needed, may = self.size_of(size + 1) / MIB, self.limits.cache / MIB
                raise CacheFull(f"a prompt of {size} tokens needs {needed:,.0f} MiB of cache, and may have {may:,.0f}")
        eos = self.laguna.config.eos
        one = Generation(request, limit=limit, eos=eos, text_of=self.text_of, cancelled=cancelled)
        self.waiting.append(one)
        return one

    def longest_in(self, size: int) -> int:
        """How many tokens a cache of that many bytes holds."""
        low, high = 0, self.laguna.config.max_context
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.size_of(middle) <= size else (low, middle - 1)
        return low

    def answers(self, one: Generation) -> Generator[Step | Finish, None, None]:
        """Go on with everything until this one is over: a `Step` for each token and then the `Finish`.

        Raises what it failed with, Cancelled among it. However it ends, all others can go on.
        """
        try:
            while True:
                yield from one.take()
                if one.error is not None:
                    raise one.error
                if one.over and not one.said:
                    return
                if not one.over and not self.step():
                    raise RuntimeError("this answer waits for another one, which nobody reads")
        finally:
            self.drop(one)

    def generate(
        self, request: Request, *, cancelled: Callable[[], bool] = never
    ) -> Generator[Step | Finish, None, None]:
        """`begin` and `answers` in one."""
        return self.answers(self.begin(request, cancelled=cancelled))

    def drop(self, one: Generation) -> None:
        """Nobody wants it any more. What it computed stays, for prompts to come."""
        if one in self.waiting:
            self.waiting.remove(one)
        if one in self.running:
            self.running.remove(one)
        if one.past is not None and one.past.busy and one.past in self.pasts.all:
            self.pasts.release(one.past)
        one.past = None

    def fail(self, one: Generation, error: Exception) -> None:
        one.error = error
        self.drop(one)

    # Steps -----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One pass of the model. False: nobody can be gone on with."""
        with torch.inference_mode():
            left = [one for one in (*self.waiting, *self.running) if self.left(one)]
            let_in = self.admit()
            ready = [one for one in self.running if not one.said]
            prompts = [one for one in ready if len(one.tokens) - one.run > SHORT]
            others = [one for one in ready if len(one.tokens) - one.run <= SHORT]
            self.prompt_was_last = bool(prompts) and not (others and self.prompt_was_last)
            if self.prompt_was_last:
                self.read(min(prompts, key=lambda one: one.served))
            elif others:
                self.speak(others)
            return bool(ready or left or let_in)

    def left(self, one: Generation) -> bool:
        """Let go of one that is over or cancelled; whether it was."""
        if one.over:
            self.drop(one)
        elif one.cancelled():
            self.fail(one, Cancelled())
        return one.over

    def admit(self) -> bool:
        """Let requests run that wait, in their order, while there is room for them; whether any does."""
        before = len(self.waiting)
        while self.waiting and len(self.running) < self.limits.running:
            one = self.waiting[0]
            planned = len(one.request.prompt) + one.limit
            busy = sum(past.bytes_used() for past in self.pasts.all if past.busy)
            if self.limits.cache is not None and self.running and busy + self.size_of(planned) > self.limits.cache:
                break
            self.waiting.popleft()
            try:
                one.past = self.spared(partial(self.pasts.take, one.tokens, one.request.session, planned))
            except Exception as error:
                self.fail(one, error)
                continue
            one.run = len(one.past.tokens)
            one.cached = min(one.run, len(one.request.prompt))
            self.running.append(one)
            if one.run == len(one.tokens):
                logits = one.past.places[one.run].logits
                assert logits is not None
                self.draw(one, logits)
        return len(self.waiting) < before

    def read(self, one: Generation) -> None:
        """Run a chunk of a prompt."""
        assert one.past is not None
        end = self.next_cut(one)
        begun = perf_counter()
        one.served = next(self.clock)
        try:
            logits = self.run([self.piece(one, end)])
        except Exception as error:
            self.fail(one, error)
            return
        one.prefill_seconds += perf_counter() - begun
        if end == len(one.request.prompt):
            self.pasts.remember(one.past, logits[0])
        elif end % self.limits.every == 0 or end in one.request.marks:
            self.pasts.remember(one.past)
        if end == len(one.tokens):
            self.draw(one, logits[0])

    def next_cut(self, one: Generation) -> int:
        """Where the chunk that is due ends."""
        whole = (one.run // self.limits.chunk + 1) * self.limits.chunk
        cuts = whole, len(one.tokens), len(one.request.prompt), *one.request.marks
        return min(cut for cut in cuts if cut > one.run)

    def speak(self, many: Sequence[Generation]) -> None:
        """Run the next token of each; of one who has the model to himself what is guessed to follow it as well."""
        begun = perf_counter()
        if len(many) == 1 and self.may_guess(one := many[0]):
            came = one.generated
            guesses = self.guesses(one)
            self.confirm(one, guesses) if guesses else self.together(many)
            if one.guesser:
                one.guesser.took(len(guesses), one.generated - came, perf_counter() - begun)
        else:
            self.together(many)

    def together(self, many: Sequence[Generation]) -> None:
        begun = perf_counter()
        try:
            logits = self.run([self.piece(one, len(one.tokens)) for one in many])
        except Exception as error:
            if len(many) == 1:
                self.fail(many[0], error)
            else:  # whoever it was fails alone
                for one in many:
                    self.together([one])
            return
        seconds = perf_counter() - begun
        for one, row in zip(many, logits, strict=True):
            if one.generated:
                one.decode_seconds += seconds
            else:
                one.prefill_seconds += seconds
            if one.run == len(one.request.prompt) and one.past is not None:
                self.pasts.remember(one.past, row.clone())
            self.draw(one, row)

    def may_guess(self, one: Generation) -> bool:
        """Whether one token is due that was generated: guesses follow it, and cost is told in passes of one."""
        return self.limits.guess and one.generated > 0 and len(one.tokens) - one.run == 1

    def guesses(self, one: Generation) -> list[int]:
        """What may follow the token that is due, as far as it pays to run it too."""
        assert one.past is not None
        if one.guesser is None:
            one.guesser = Guesser(one.tokens, len(one.request.prompt), self.costs, one.past.trigrams)
        if one.guesser.resting:
            return []
        return one.guesser.next(min(SHORT, one.past.cache.shortest, one.limit - one.generated) - 1)

    def confirm(self, one: Generation, guesses: list[int]) -> None:
        """Run the token that is due and guesses of those after it, and draw while what is drawn was guessed.

        What was not is undone, so that the past is as if nobody had guessed.
        """
        past, start, guessed, begun = one.past, one.run, one.guessed, perf_counter()
        assert past is not None
        try:
            logits = self.run([self.piece(one, len(one.tokens), guesses)])
        except Exception as error:
            self.fail(one, error)
            return
        one.decode_seconds += perf_counter() - begun
        known = start + 1  # tokens of which it is sure that they were run
        while known == len(one.tokens) and not one.over:
            one.guessed = guessed + known - start - 1
            self.draw(one, logits[known - start - 1])
            while known < min(len(one.tokens), len(past.tokens)) and one.tokens[known] == past.tokens[known]:
                known += 1
        one.run = min(known, len(one.tokens) - 1)  # the last one has not been asked for yet
        if past in self.pasts.all:
            past.go_back(one.run)

    def draw(self, one: Generation, logits: Tensor) -> None:
        try:
            one.draw(logits)
        except FloatingPointError as error:
            assert one.past is not None
            self.pasts.drop(one.past)
            self.fail(one, error)
        except Exception as error:
            self.fail(one, error)

    # Passes ----------------------------------------------------------------------------------------------

    def piece(self, one: Generation, end: int, guesses: Sequence[int] = ()) -> Piece:
        """Its tokens up to `end`, guesses after them, and what is needed to undo them."""
        past, tokens = one.past, [*one.tokens[one.run : end], *guesses]
        assert past is not None
        if len(tokens) == 1:
            return Piece(one, past, tokens)
        if len(tokens) <= min(SHORT, past.cache.shortest):
            past.cache.mark(len(tokens))
            return Piece(one, past, tokens, guesses=len(guesses))
        return Piece(one, past, tokens, past.cache.snapshot())

    def run(self, pieces: Sequence[Piece]) -> Tensor:
        """One pass; logits [N, V] of what follows each piece, or, with guesses, each of its tokens. However it ends,
        every past is whole."""
        every = any(piece.guesses for piece in pieces)
        ids = torch.tensor([[token for piece in pieces for token in piece.tokens]], device=self.device)

        def pause() -> None:
            if len(pieces) == 1 and pieces[0].one.cancelled():
                raise Cancelled

        def through() -> Tensor:
            try:
                batch = Batch([piece.past.cache for piece in pieces], [len(piece.tokens) for piece in pieces], pause)
                return self.laguna.forward(ids, batch, last_only=not every)[0]
            except BaseException:
                for piece in pieces:
                    if not piece.past.cache.break_off():
                        assert piece.before is not None
                        piece.past.cache.restore(piece.before)
                raise

        logits = self.spared(through)
        for piece in pieces:
            piece.past.tokens += piece.tokens
            piece.one.run += len(piece.tokens)
        return logits

    def spared(self, work: Callable[[], T]) -> T:
        """What it gives; where memory runs out, once more without the pasts that nobody uses. Raises CacheFull."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_memory(error):
                    raise
                if not self.pasts.drop_idle():
                    raise CacheFull(NO_MEMORY) from error


def is_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out; on a CPU torch says so with an error that it uses for everything."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
