"""One request after another through the engine: what it computes, where it stops, what it refuses and survives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_checkpoint import tiny_config

from laguna_backend.engine.engine import Engine
from laguna_backend.engine.limits import Limits
from laguna_backend.engine.relay import Cancelled
from laguna_backend.engine.request import Allowed, ContextOverflow, Finish, Forced, Request, Rule, Step
from laguna_backend.model.cache import KVCache, Storage
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, Sparse, random_weights

torch.set_num_threads(1)

WINDOW = 16
CONFIG = LagunaConfig.from_dict(tiny_config(eos_token_id=[370], max_position_embeddings=400))
LAGUNA = Laguna(CONFIG, random_weights(CONFIG, seed=5))
PROMPT = [2, *range(80, 130)]


def engine(storage: Storage = "float32", **limits: Any) -> Engine:
    return Engine(LAGUNA, storage=storage, limits=Limits(**limits))


def asked(prompt: Sequence[int], count: int = 12, **more: Any) -> Request:
    return Request(prompt=tuple(prompt), max_tokens=count, **more)


def run(of: Engine, prompt: Sequence[int], count: int = 12, **more: Any) -> tuple[list[int], Finish]:
    *steps, finish = of.generate(asked(prompt, count, **more))
    assert isinstance(finish, Finish)
    return [step.token for step in steps if isinstance(step, Step)], finish


def plainly(prompt: Sequence[int], count: int) -> list[int]:
    """The model's own tokens up to its stop token, the prompt in one piece."""
    cache = KVCache(CONFIG, storage="float32")
    said: list[int] = []
    with torch.inference_mode():
        logits = LAGUNA.forward(torch.tensor([list(prompt)]), cache, last_only=True)
        for _ in range(count):
            said.append(int(logits[0, -1].argmax()))
            if said[-1] in CONFIG.eos:
                break
            logits = LAGUNA.forward(torch.tensor([said[-1:]]), cache, last_only=True)
    return said


@pytest.mark.parametrize("chunk", [16, 64, 512])
def test_tokens_are_the_models_own_whatever_the_chunks(chunk: int) -> None:
    assert run(engine(chunk=chunk), PROMPT)[0] == plainly(PROMPT, 12)


def test_the_next_step_computes_only_what_is_new() -> None:
    one = engine()
    said, first = run(one, PROMPT)
    after = [*PROMPT, *said, 90, 91, 92]
    tokens, stats = run(one, after)
    assert (first.cached, first.prompt, first.generated) == (0, len(PROMPT), 12)
    # The last token said was never run through the model.
    assert (stats.prompt, stats.cached) == (len(after), len(PROMPT) + 11)
    assert tokens == run(engine(), after)[0]


@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW, WINDOW + 1])
def test_reuse_is_exact_at_the_edge_of_the_window(length: int) -> None:
    one = engine()
    said, _ = run(one, PROMPT[:length], 4)
    after = [*PROMPT[:length], *said, 99]
    assert run(one, after)[0] == run(engine(), after)[0]


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "fp8"])
def test_reuse_is_exact_in_every_number_format(storage: Storage) -> None:
    one = engine(storage)
    said, _ = run(one, PROMPT)
    after = [*PROMPT, *said, 99, 98]
    assert run(one, after)[0] == run(engine(storage), after)[0]


# Ends ----------------------------------------------------------------------------------------------------


def test_the_models_stop_token_is_the_last_one() -> None:
    said, _ = run(engine(), PROMPT)
    stop = said[5]
    config = LagunaConfig.from_dict(tiny_config(eos_token_id=[stop]))
    tokens, stats = run(Engine(Laguna(config, LAGUNA.weights), storage="float32"), PROMPT, 50)
    assert tokens == said[: said.index(stop) + 1]
    assert (stats.reason, stats.by) == ("stop", stop)


def test_the_token_limit_stops_it() -> None:
    tokens, stats = run(engine(), PROMPT, 3)
    assert (len(tokens), stats.reason, stats.generated) == (3, "length", 3)


def test_the_end_of_the_context_stops_it() -> None:
    tokens, stats = run(engine(), [2] * 390, 50)
    assert (len(tokens), stats.reason) == (10, "length")


def test_who_asked_can_end_it() -> None:
    one = engine()
    answer = one.begin(asked(PROMPT))
    steps = one.answers(answer)
    said = [next(steps), next(steps)]
    answer.end("stop")
    (finish,) = steps
    assert isinstance(finish, Finish)
    assert (len(said), finish.generated, finish.cached) == (2, 2, 0)


# Constraints ---------------------------------------------------------------------------------------------


class Script:
    def __init__(self, *answers: Forced | Allowed | None) -> None:
        self.answers = list(answers)

    def next(self) -> Forced | Allowed | None:
        return self.answers.pop(0) if self.answers else None

    def take(self, token: int) -> None:
        pass


def test_forced_tokens_are_run_in_one_pass_and_what_follows_is_the_models_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forced = tuple(range(200, 206))
    free = plainly(PROMPT, 2)
    one = engine()
    passes: list[int] = []
    forward = one.laguna.forward

    def counted(tokens: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        passes.append(tokens.shape[1])
        return forward(tokens, *rest, **more)

    monkeypatch.setattr(one.laguna, "forward", counted)
    script = Script(None, None, Forced(forced), Forced(()))
    tokens, _ = run(one, PROMPT, 12, constraints=(script,))
    assert passes == [len(PROMPT), 1, 7, 1, 1, 1]
    assert tokens == [*free, *forced, *plainly([*PROMPT, *free, *forced], 4)]


def test_a_long_run_of_forced_tokens_goes_as_a_prompt_does() -> None:
    forced = tuple(range(100, 160))
    one = engine(chunk=16)
    tokens, finish = run(one, PROMPT, 64, constraints=(Script(Forced(forced)),))
    assert tokens == [*forced, *plainly([*PROMPT, *forced], 4)]
    assert (finish.prompt, finish.generated) == (len(PROMPT), 64)


def test_a_request_whose_answer_is_forced_whole_never_runs() -> None:
    tokens, finish = run(engine(), PROMPT, 3, constraints=(Script(Forced((90, 91, 92, 93))),))
    assert (tokens, finish.reason) == ([90, 91, 92], "length")


def test_what_the_constraints_leave_no_way_for_is_refused_and_the_engine_goes_on() -> None:
    one = engine()
    with pytest.raises(Exception, match="allow no token"):
        run(one, PROMPT, constraints=(Script(Allowed(b"")),))
    assert run(one, PROMPT)[0] == plainly(PROMPT, 12)


def test_a_seed_gives_the_same_tokens_again() -> None:
    rule = Rule(1.5, top_k=50, seed=11)
    first = run(engine(), PROMPT, rule=rule)[0]
    assert run(engine(chunk=16), PROMPT, rule=rule)[0] == first
    assert run(engine(), PROMPT, rule=Rule(1.5, top_k=50, seed=12))[0] != first


# What goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [400, 5000])
def test_a_prompt_that_does_not_fit_is_refused_before_any_work(size: int) -> None:
    one = engine()
    said, _ = run(one, PROMPT)
    with pytest.raises(ContextOverflow, match=f"{size} tokens.*400"):
        one.begin(asked([2] * size))
    assert run(one, [*PROMPT, *said, 99])[1].cached == len(PROMPT) + 11


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ContextOverflow, match="empty"):
        engine().begin(asked([]))


@pytest.mark.parametrize("look", range(40))
def test_cancelling_at_any_point_leaves_an_engine_that_goes_on(look: int) -> None:
    one = engine(chunk=32)
    looks = itertools.count()
    with pytest.raises(Cancelled):
        list(one.generate(asked(PROMPT), cancelled=lambda: next(looks) >= look))
    assert next(looks) == look + 1  # it stopped at the first look that said so
    assert not one.running
    tokens, stats = run(one, PROMPT)
    assert tokens == run(engine(chunk=32), PROMPT)[0]
    assert stats.cached in (0, 32, len(PROMPT))


def test_a_long_chunk_is_left_within_a_layer() -> None:
    one = engine()
    looks = itertools.count()
    with pytest.raises(Cancelled):
        list(one.generate(asked([2] * 300), cancelled=lambda: next(looks) >= 2))
    assert next(looks) == 3  # once before the pass, and once in each of its three layers
    assert one.pasts.all[0].tokens == []


def test_closing_the_generator_in_the_middle_leaves_an_engine_that_goes_on() -> None:
    one = engine()
    steps = one.generate(asked(PROMPT))
    said = [step.token for step in (next(steps), next(steps)) if isinstance(step, Step)]
    steps.close()
    after = [*PROMPT, *said, 99]
    assert run(one, after)[0] == run(engine(), after)[0]


def test_a_failure_inside_the_model_leaves_an_engine_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine()
    said, _ = run(one, PROMPT)
    mlp = LAGUNA.weights.layers[1].mlp
    assert isinstance(mlp, Sparse)
    for more in ([99], list(range(140, 160)), list(range(140, 145))):
        with monkeypatch.context() as patch:
            patch.setattr(mlp, "router", torch.empty(1, 1))
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                run(one, [*PROMPT, *said, *more])
    after = [*PROMPT, *said, 98, 97]
    tokens, stats = run(one, after)
    assert (tokens, stats.cached) == (run(engine(), after)[0], len(after) - 3)


def test_logits_that_are_no_numbers_are_an_error_and_nothing_of_them_is_kept() -> None:
    weights = random_weights(CONFIG, seed=5)
    weights.norm[3] = float("nan")
    one = Engine(Laguna(CONFIG, weights), storage="float32")
    with pytest.raises(FloatingPointError, match="not a number"):
        run(one, PROMPT)
    assert not one.pasts.all


@pytest.mark.parametrize(
    "wrong", [{"chunk": 8}, {"chunk": 48}, {"every": 100}, {"running": 0}, {"waiting": 0}, {"cache": -1}]
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"chunk|running|waiting|cache"):
        Limits(**wrong)
