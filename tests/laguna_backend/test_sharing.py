"""Several requests on one engine: each gets what it gets alone, in fair turns, and none harms another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import LAGUNA, PROMPT, Script, asked, engine, plainly, run
from torch import Tensor

from laguna_backend.engine.engine import Engine
from laguna_backend.engine.generation import Generation
from laguna_backend.engine.limits import Limits
from laguna_backend.engine.relay import Cancelled
from laguna_backend.engine.request import Allowed, Busy, CacheFull, Forced, Rule, Step

torch.set_num_threads(1)


def prompt(seed: int, size: int) -> list[int]:
    return [2, *torch.randint(70, 360, (size - 1,), generator=torch.Generator().manual_seed(seed)).tolist()]


def settle(of: Engine, answers: Sequence[Generation], steps: int = 2000) -> list[list[int]]:
    """Go on until all are over; the tokens that each of them said. Each takes what was said at once."""
    said: list[list[int]] = [[] for _ in answers]
    for _ in range(steps):
        for one, tokens in zip(answers, said, strict=True):
            tokens += [step.token for step in one.take() if isinstance(step, Step)]
        if all(one.over for one in answers) or not of.step():
            return said
    raise AssertionError("it does not end")


class Watched(Engine):
    """Tells which requests each pass was for, and how many tokens of each."""

    def __init__(self, *rest: Any, **more: Any) -> None:
        super().__init__(*rest, **more)
        self.passes: list[list[tuple[Generation, int]]] = []

    def run(self, pieces: Any) -> Tensor:
        self.passes.append([(piece.one, len(piece.tokens)) for piece in pieces])
        return super().run(pieces)


def watched(**limits: Any) -> Watched:
    return Watched(LAGUNA, storage="float32", limits=Limits(**limits))


@given(st.lists(st.tuples(st.integers(2, 90), st.integers(1, 12)), min_size=1, max_size=5), st.data())
@settings(max_examples=25, deadline=None)
def test_every_answer_is_what_it_is_alone_whoever_comes_and_goes(
    asks: list[tuple[int, int]], data: st.DataObject
) -> None:
    one = engine(chunk=16, running=3)
    prompts = [prompt(seed, size) for seed, (size, _) in enumerate(asks)]
    answers: list[Generation] = []
    gone: set[int] = set()
    for mine, (_, count) in zip(prompts, asks, strict=True):
        stay = data.draw(st.booleans())
        number = len(answers)
        answers.append(one.begin(asked(mine, count), cancelled=lambda number=number: number in gone))
        for _ in range(data.draw(st.integers(0, 8))):
            one.step()
        if not stay:
            gone.add(number)
    said = settle(one, answers)
    for number, (mine, (_, count)) in enumerate(zip(prompts, asks, strict=True)):
        expected = plainly(mine, count)
        if isinstance(answers[number].error, Cancelled):
            assert number in gone
            assert said[number] == expected[: len(said[number])]
        else:
            assert said[number] == expected
    one.step()  # lets go of the last
    assert not one.running
    assert not one.waiting
    assert all(not past.busy for past in one.pasts.all)
    assert all(past.cache.length == len(past.tokens) for past in one.pasts.all)


def test_a_seed_draws_the_same_in_company_as_alone() -> None:
    rule = Rule(1.2, top_k=40, seed=3)
    alone = run(engine(), PROMPT, rule=rule)[0]
    one = engine()
    company = [one.begin(asked(prompt(seed, 20 + seed), 20, rule=Rule(1.0, seed=seed))) for seed in range(3)]
    mine = one.begin(asked(PROMPT, rule=rule))
    assert settle(one, [*company, mine])[-1] == alone


def test_answers_share_their_passes_and_prompts_take_turns_with_them() -> None:
    one = watched(chunk=16)
    speaking = [one.begin(asked(prompt(seed, 10), 30)) for seed in range(2)]
    while not all(len(answer.tokens) > 11 for answer in speaking):
        one.step()
        for answer in speaking:
            answer.take()
    reading = [one.begin(asked(prompt(9 + seed, 200), 3)) for seed in range(2)]
    one.passes.clear()
    settle(one, [*speaking, *reading])
    kinds = ["prompt" if taken[0][1] > 8 else "answers" for taken in one.passes]
    assert kinds[:20] == ["prompt", "answers"] * 10 or kinds[:20] == ["answers", "prompt"] * 10
    readers = [taken[0][0] for taken, kind in zip(one.passes, kinds, strict=True) if kind == "prompt"]
    assert all(a is not b for a, b in itertools.pairwise(readers[:20]))  # in turns
    both = [taken for taken in one.passes[:20] if taken[0][1] == 1]
    assert all({answer for answer, _ in taken} == set(speaking) for taken in both)


def test_who_does_not_read_is_not_gone_on_with_and_nobody_else_waits() -> None:
    one = engine()
    slow, quick = one.begin(asked(PROMPT, 10)), one.begin(asked(prompt(1, 20), 10))
    said: list[int] = []
    while not quick.over:
        one.step()
        said += [step.token for step in quick.take() if isinstance(step, Step)]
    assert said == plainly(prompt(1, 20), 10)
    assert slow.generated == 1
    one.drop(quick)
    assert not one.step()
    assert settle(one, [slow])[0] == plainly(PROMPT, 10)


def test_no_more_run_than_may_and_no_more_wait() -> None:
    one = watched(running=2, waiting=3)
    answers = [one.begin(asked(prompt(seed, 12), 4)) for seed in range(3)]
    with pytest.raises(Busy, match="3 requests wait"):
        one.begin(asked(PROMPT))
    said = settle(one, answers)
    assert said == [plainly(prompt(seed, 12), 4) for seed in range(3)]
    assert max(len(taken) for taken in one.passes) == 2


def test_one_that_fails_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine()
    good, bad = one.begin(asked(PROMPT, 12)), one.begin(asked(prompt(1, 20), 12))
    while not (good.generated and bad.generated):
        one.step()
        good.take()
    begun = good.generated
    attend = type(bad.past.cache).extend if bad.past else None
    assert attend is not None
    broken = bad.past.cache if bad.past else None

    def extend(self: Any, layer: int, *rest: Any) -> Any:
        if self is broken and layer == 1:
            raise RuntimeError("broken hardware")
        return attend(self, layer, *rest)

    monkeypatch.setattr(type(broken), "extend", extend)
    bad.take()
    one.step()
    assert isinstance(bad.error, RuntimeError)
    monkeypatch.undo()
    rest = settle(one, [good])[0]
    assert begun + len(rest) == 12
    assert good.tokens[len(PROMPT) :] == plainly(PROMPT, 12)
    assert run(one, prompt(1, 20))[0] == plainly(prompt(1, 20), 12)


class Raises:
    """A constraint that fails at the third token."""

    def __init__(self) -> None:
        self.asked = 0

    def next(self) -> Forced | Allowed | None:
        self.asked += 1
        if self.asked == 3:
            raise KeyError("no such rule")
        return None

    def take(self, token: int) -> None:
        pass


def test_a_constraint_that_fails_harms_nobody_else() -> None:
    one = engine()
    good = one.begin(asked(PROMPT, 6))
    bad = one.begin(asked(prompt(1, 20), 6, constraints=(Raises(),)))
    none = one.begin(asked(prompt(2, 20), 6, constraints=(Script(None, Allowed(b"")),)))
    assert settle(one, [good, bad, none])[0] == plainly(PROMPT, 6)
    assert isinstance(bad.error, KeyError)
    assert "no token" in str(none.error)


# Memory --------------------------------------------------------------------------------------------------


def size_of(tokens: int) -> int:
    return engine().size_of(tokens)


def test_requests_wait_while_the_caches_have_no_room_for_them() -> None:
    one = watched(cache=size_of(100), snapshots=0)
    answers = [one.begin(asked(prompt(seed, 60), 10)) for seed in range(3)]
    one.step()
    assert (len(one.running), len(one.waiting)) == (1, 2)
    assert settle(one, answers) == [plainly(prompt(seed, 60), 10) for seed in range(3)]
    assert all(len(taken) == 1 for taken in one.passes)
    assert one.pasts.bytes_used() <= size_of(100)


def test_a_prompt_that_no_memory_would_hold_is_refused_at_once() -> None:
    one = engine(cache=size_of(50))
    with pytest.raises(CacheFull, match=r"60 tokens needs .* MiB"):
        one.begin(asked(prompt(0, 60)))
    assert run(one, prompt(0, 20))[0] == plainly(prompt(0, 20), 12)


def test_an_answer_ends_where_the_memory_for_it_does() -> None:
    tokens, finish = run(engine(cache=size_of(50)), prompt(0, 40), 100)
    assert (len(tokens), finish.reason) == (10, "length")


def test_idle_pasts_make_room_the_one_longest_unused_first() -> None:
    one = engine(cache=size_of(60) * 3)
    for seed in range(3):
        run(one, prompt(seed, 50), 4)
    run(one, [*prompt(0, 50), 99], 4)  # it is of use again
    run(one, prompt(7, 50), 4)
    kept = {tuple(past.tokens[:50]) for past in one.pasts.all}
    assert tuple(prompt(0, 50)) in kept
    assert tuple(prompt(7, 50)) in kept
    assert tuple(prompt(1, 50)) not in kept
    assert one.pasts.bytes_used() <= one.limits.cache  # pyright: ignore[reportOperatorIssue]


def failing(error: Exception, times: int) -> Callable[..., Any]:
    """A `forward` that fails so many times."""
    forward, left = LAGUNA.forward, [times]

    def tried(*rest: Any, **more: Any) -> Tensor:
        if left[0]:
            left[0] -= 1
            raise error
        return forward(*rest, **more)

    return tried


SHORT_OF_MEMORY = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
    torch.OutOfMemoryError("CUDA out of memory."),
)


@pytest.mark.parametrize("error", SHORT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_where_memory_runs_out_idle_pasts_are_given_up_and_it_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine()
    run(one, prompt(0, 40), 2)
    monkeypatch.setattr(LAGUNA, "forward", failing(error, 1))
    answer = one.begin(asked(PROMPT))
    said = settle(one, [answer])
    monkeypatch.undo()
    assert said[0] == plainly(PROMPT, 12)
    assert len(one.pasts.all) == 1


def test_where_there_is_no_memory_at_all_the_request_fails_and_what_it_had_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = engine()
    said, _ = run(one, PROMPT)
    monkeypatch.setattr(LAGUNA, "forward", failing(MemoryError(), 2))
    with pytest.raises(CacheFull, match="not enough memory"):
        run(one, [*PROMPT, *said, 99])
    monkeypatch.undo()
    tokens, finish = run(one, [*PROMPT, *said, 99])
    assert finish.cached == len(PROMPT) + 11
    assert tokens == plainly([*PROMPT, *said, 99], 12)


def test_the_answers_of_a_request_that_is_dropped_do_not_hold_its_memory() -> None:
    one = engine(cache=size_of(100))
    answer = one.begin(asked(prompt(0, 60), 30))
    one.step()
    one.drop(answer)
    assert run(one, prompt(1, 60), 30)[0] == plainly(prompt(1, 60), 30)
