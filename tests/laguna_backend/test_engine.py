"""One sequence through the engine: what it computes again and what not, where it stops, what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoint import tiny_config

from laguna_backend.engine.engine import Engine
from laguna_backend.engine.relay import Cancelled
from laguna_backend.engine.request import ContextOverflow, Finish, Request, Step
from laguna_backend.model.cache import KVCache, Storage
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import Laguna, Sparse, random_weights

torch.set_num_threads(1)

WINDOW = 16
CONFIG = LagunaConfig.from_dict(tiny_config(eos_token_id=[370], max_position_embeddings=400))
LAGUNA = Laguna(CONFIG, random_weights(CONFIG, seed=5))
PROMPT = [2, *range(80, 130)]


def engine(storage: Storage = "float32") -> Engine:
    return Engine(LAGUNA, storage=storage)


def asked(prompt: list[int], count: int = 12, **more: Any) -> Request:
    return Request(prompt=tuple(prompt), max_tokens=count, **more)


def run(of: Engine, prompt: list[int], count: int = 12, **more: Any) -> tuple[list[int], Finish]:
    *steps, finish = of.generate(asked(prompt, count, **more))
    assert isinstance(finish, Finish)
    return [step.token for step in steps if isinstance(step, Step)], finish


def test_tokens_are_the_models_own_whatever_the_chunks() -> None:
    cache = KVCache(CONFIG, storage="float32")
    with torch.inference_mode():
        logits = LAGUNA.forward(torch.tensor([PROMPT]), cache, last_only=True)
        expected: list[int] = []
        for _ in range(12):
            expected.append(int(logits[0, -1].argmax()))
            logits = LAGUNA.forward(torch.tensor([expected[-1:]]), cache, last_only=True)
    for chunk in (1, 7, 64):
        one = engine()
        one.chunk = chunk
        assert run(one, PROMPT)[0] == expected


def test_the_next_step_computes_only_what_is_new() -> None:
    one = engine()
    said, first = run(one, PROMPT)
    after = [*PROMPT, *said, 90, 91, 92]
    tokens, stats = run(one, after)
    assert (first.cached, first.prompt, first.generated) == (0, len(PROMPT), 12)
    # The last token said was never run through the model.
    assert (stats.prompt, stats.cached) == (len(after), len(PROMPT) + 11)
    assert tokens == run(engine(), after)[0]


@pytest.mark.parametrize("shared", [0, 1, 20, 40])
def test_a_history_that_changed_behind_the_window_is_computed_anew(shared: int) -> None:
    one = engine()
    run(one, PROMPT)
    changed = [*PROMPT[:shared], 200, *range(140, 160)]
    tokens, stats = run(one, changed)
    assert stats.cached == 0
    assert tokens == run(engine(), changed)[0]


def test_a_short_history_that_changed_is_cut_back() -> None:
    one = engine()
    run(one, PROMPT[:8], 3)
    changed = [*PROMPT[:6], 200]
    tokens, stats = run(one, changed)
    assert stats.cached == 6
    assert tokens == run(engine(), changed)[0]


def test_the_same_prompt_again_gives_the_same_tokens() -> None:
    one = engine()
    first, _ = run(one, PROMPT)
    again, stats = run(one, PROMPT)
    assert again == first
    assert stats.cached in (0, len(PROMPT) - 1)


@pytest.mark.parametrize("length", [WINDOW - 1, WINDOW, WINDOW + 1])
def test_reuse_is_exact_at_the_edge_of_the_window(length: int) -> None:
    one = engine()
    said, _ = run(one, PROMPT[:length], 4)
    after = [*PROMPT[:length], *said, 99]
    assert run(one, after)[0] == run(engine(), after)[0]


def test_the_stop_token_is_the_last_one() -> None:
    said, _ = run(engine(), PROMPT)
    stop = said[5]
    config = LagunaConfig.from_dict(tiny_config(eos_token_id=[stop]))
    tokens, stats = run(Engine(Laguna(config, LAGUNA.weights), storage="float32"), PROMPT, 50)
    assert tokens == said[: said.index(stop) + 1]
    assert stats.reason == "stop"


def test_the_token_limit_stops_it() -> None:
    tokens, stats = run(engine(), PROMPT, 3)
    assert (len(tokens), stats.reason, stats.generated) == (3, "length", 3)


def test_the_end_of_the_context_stops_it() -> None:
    tokens, stats = run(engine(), [2] * 390, 50)
    assert (len(tokens), stats.reason) == (10, "length")


@pytest.mark.parametrize("size", [400, 5000])
def test_a_prompt_that_does_not_fit_is_refused_before_any_work(size: int) -> None:
    one = engine()
    said, _ = run(one, PROMPT)
    with pytest.raises(ContextOverflow, match=f"{size} tokens.*400"):
        run(one, [2] * size)
    assert run(one, [*PROMPT, *said, 99])[1].cached == len(PROMPT) + 11


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ContextOverflow, match="empty"):
        run(engine(), [])


@pytest.mark.parametrize("step", range(8))
def test_cancelling_at_any_point_leaves_an_engine_that_goes_on(step: int) -> None:
    one = engine()
    one.chunk = 20
    looked = itertools.count()
    with pytest.raises(Cancelled):
        list(one.generate(asked(PROMPT), cancelled=lambda: next(looked) >= step))
    assert next(looked) == step + 1  # it stopped at the first look that said so
    assert run(one, PROMPT)[0] == run(engine(), PROMPT)[0]


def test_closing_the_generator_in_the_middle_leaves_an_engine_that_goes_on() -> None:
    one = engine()
    steps = one.generate(asked(PROMPT))
    said = [step.token for step in (next(steps), next(steps)) if isinstance(step, Step)]
    steps.close()
    after = [*PROMPT, *said, 99]
    assert run(one, after)[0] == run(engine(), after)[0]


def test_a_failure_inside_the_model_leaves_an_engine_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine()
    run(one, PROMPT)

    mlp = LAGUNA.weights.layers[1].mlp
    assert isinstance(mlp, Sparse)
    with monkeypatch.context() as patch:
        patch.setattr(mlp, "router", torch.empty(1, 1))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            run(one, [*PROMPT, 99])
    assert run(one, PROMPT)[0] == run(engine(), PROMPT)[0]


def test_logits_that_are_no_numbers_are_an_error() -> None:
    weights = random_weights(CONFIG, seed=5)
    weights.norm[3] = float("nan")
    one = Engine(Laguna(CONFIG, weights), storage="float32")
    with pytest.raises(FloatingPointError, match="not a number"):
        run(one, PROMPT)


def test_chunks_grow_with_the_models_pace_and_stay_within_bounds(tmp_path: Path) -> None:
    config = LagunaConfig.from_dict(tiny_config(max_position_embeddings=4000))
    one = Engine(Laguna(config, LAGUNA.weights), storage="float32")
    run(one, [2] * 3000, 1)
    assert 64 < one.chunk <= 4096


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "fp8"])
def test_reuse_is_exact_in_every_number_format(storage: Storage) -> None:
    one = engine(storage)
    said, _ = run(one, PROMPT)
    after = [*PROMPT, *said, 99, 98]
    assert run(one, after)[0] == run(engine(storage), after)[0]
