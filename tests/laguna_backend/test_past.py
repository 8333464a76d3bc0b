"""What is computed again and what not, and that it makes no difference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_engine import CONFIG, LAGUNA, WINDOW, asked, plainly
from test_sharing import prompt, settle
from torch import Tensor

from laguna_backend.engine.engine import Engine
from laguna_backend.engine.generation import Generation
from laguna_backend.engine.limits import Limits
from laguna_backend.engine.ngrams import common
from laguna_backend.engine.request import Finish, Step
from laguna_backend.model.cache import KVCache

torch.set_num_threads(1)

CHUNK, EVERY = 16, 64
SMALL: dict[str, Any] = {"chunk": CHUNK, "every": EVERY}


class Recording(Engine):
    """Keeps the logits from which each token was drawn, by what came before it."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(LAGUNA, storage="float32", limits=Limits(**SMALL | limits))
        self.logits: dict[tuple[int, ...], Tensor] = {}

    def draw(self, one: Generation, logits: Tensor) -> None:
        self.logits[tuple(one.tokens)] = logits.clone()
        super().draw(one, logits)

    def ask(self, tokens: Sequence[int], count: int = 3, **more: Any) -> tuple[list[int], Finish]:
        *steps, finish = self.generate(asked(tokens, count, **more))
        assert isinstance(finish, Finish)
        return [step.token for step in steps if isinstance(step, Step)], finish


def cold(tokens: Sequence[int]) -> Tensor:
    """Logits after `tokens` by an engine that computed nothing before."""
    one = Recording()
    one.ask(tokens, 1)
    return one.logits[tuple(tokens)]


def near(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max() / other.abs().max()) < 1e-5


# A conversation that goes on -----------------------------------------------------------------------------


def test_nothing_of_a_conversation_that_only_grows_is_computed_twice() -> None:
    one = Recording()
    history = prompt(0, 50)
    could = saved = 0
    for turn in range(6):
        said, finish = one.ask(history, 9, session="a")
        saved += finish.cached
        assert near(one.logits[tuple(history)], cold(history))
        if turn < 5:
            could += len(history) + len(said) - 1  # the last token said was never run
        history = [*history, *said, *prompt(100 + turn, 1 + 5 * turn)]
    assert saved / could == 1.0


def test_what_goes_on_is_to_the_last_bit_what_the_same_passes_give_a_new_cache() -> None:
    one = Recording()
    first = prompt(0, 90)
    said, _ = one.ask(first, 10)
    second = [*first, *said, *prompt(1, 40)]
    one.ask(second, 1)
    cache = KVCache(CONFIG, storage="float32")
    edges = [0, *range(CHUNK, 90, CHUNK), *range(90, 100), *range(112, len(second), CHUNK), len(second)]
    with torch.inference_mode():
        for start, end in itertools.pairwise(edges):
            logits = LAGUNA.forward(torch.tensor([second[start:end]]), cache, last_only=True)
    assert torch.equal(one.logits[tuple(second)], logits[0, 0])  # pyright: ignore[reportPossiblyUnboundVariable]


# A change in the middle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("same_session", [True, False])
@pytest.mark.parametrize("at", [70, 127, 128, 129, 200, 250])
def test_a_change_costs_no_more_than_the_stretch_it_is_in_and_gives_the_very_bits_of_a_cold_start(
    at: int, same_session: bool
) -> None:
    one = Recording()
    history = prompt(0, 260)
    one.ask(history, 4, session="a")
    changed = [*history[:at], 369, *prompt(1, 50)]
    said, finish = one.ask(changed, 4, session="a" if same_session else "b")
    assert finish.cached == at - at % EVERY
    assert torch.equal(one.logits[tuple(changed)], cold(changed))
    assert said == plainly(changed, 4)
    assert len(one.pasts.all) == (1 if same_session else 2)
    if not same_session:  # and the other one is as it was
        assert one.ask([*history, 90], 1, session="a")[1].cached == len(history)


@pytest.mark.parametrize("length", [5, 101])
def test_an_answer_can_be_asked_for_once_more_without_the_model_reading_anything(length: int) -> None:
    one = Recording()
    history = prompt(0, length)
    first, _ = one.ask(history, 20, session="a")
    for session in ("a", "b"):
        again, finish = one.ask(history, 20, session=session)
        assert (again, finish.cached, finish.prefill_seconds) == (first, length, 0.0)
    assert one.ask(history[:-1], 3)[1].cached < length


def test_where_a_system_prompt_ends_another_conversation_goes_on_with_the_very_bits() -> None:
    system = prompt(0, 150)
    one = Recording()
    one.ask([*system, *prompt(1, 70)], 4, marks=(150,))
    other = [*system, *prompt(2, 40)]
    finish = one.ask(other, 4, marks=(150,))[1]
    assert finish.cached == 150
    fresh = Recording()
    fresh.ask(other, 1, marks=(150,))
    assert torch.equal(one.logits[tuple(other)], fresh.logits[tuple(other)])


@pytest.mark.parametrize("length", [WINDOW - 3, WINDOW - 1])
def test_a_history_shorter_than_the_window_can_be_left_anywhere(length: int) -> None:
    for session in ("a", "b"):
        one = Recording()
        one.ask(prompt(0, length - 3), 3, session="a")
        changed = [*prompt(0, length - 3)[:5], 369, 368]
        finish = one.ask(changed, 3, session=session)[1]
        assert finish.cached == 5
        assert near(one.logits[tuple(changed)], cold(changed))


# Forks ---------------------------------------------------------------------------------------------------


def test_forks_go_on_beside_each_other_and_share_what_was_computed() -> None:
    one = Recording()
    history = prompt(0, 200)
    said, _ = one.ask(history, 8)
    branches = [[*history, *said, 100 + branch, *prompt(branch, 20)] for branch in range(3)]
    answers = [one.begin(asked(branch, 10)) for branch in branches]
    assert settle(one, answers) == [plainly(branch, 10) for branch in branches]
    assert [answer.cached for answer in answers] == [207, 207, 207]
    for branch in branches:
        assert near(one.logits[tuple(branch)], cold(branch))
    assert one.ask([*branches[1], 90], 1)[1].cached == len(branches[1])


def test_a_fork_of_one_that_still_speaks_takes_the_newest_place_that_it_can() -> None:
    one = Recording()
    history = prompt(0, 150)
    speaking = one.begin(asked(history, 30))
    while speaking.generated < 10:
        one.step()
        speaking.take()
    other = [*history, *prompt(1, 9)]
    said, finish = one.ask(other, 5)
    assert (said, finish.cached) == (plainly(other, 5), 150)  # where its prompt ended
    settle(one, [speaking])
    assert speaking.tokens[150:] == plainly(history, 30)


# Memory --------------------------------------------------------------------------------------------------


def ring_bytes() -> int:
    cache = KVCache(CONFIG, storage="float32")
    return cache.snapshot().bytes_used()


def test_snapshots_longest_unused_are_given_up_first() -> None:
    one = Recording(snapshots=3 * ring_bytes())
    one.ask(prompt(0, 300), 4, session="a")
    (past,) = one.pasts.all
    assert sorted(past.places) == [192, 256, 300]
    changed = [*prompt(0, 300)[:200], 369]
    assert one.ask(changed, 2, session="b")[1].cached == 192
    held = sum(len(past.places) for past in one.pasts.all)
    assert held == 3
    early = [*prompt(0, 300)[:100], 369]
    said, finish = one.ask(early, 2)
    assert (said, finish.cached) == (plainly(early, 2), 0)


def test_without_snapshots_only_the_end_can_be_gone_on_with() -> None:
    one = Recording(snapshots=0)
    said, _ = one.ask(prompt(0, 100), 4)
    assert one.ask([*prompt(0, 100), *said, 99], 1)[1].cached == 103
    assert one.ask([*prompt(0, 90), 99], 1)[1].cached == 0


def test_where_there_is_no_room_beside_it_an_idle_past_is_cut_back() -> None:
    one = Recording()
    one = Recording(cache=one.size_of(150))
    one.ask(prompt(0, 100), 4)
    changed = [*prompt(0, 100)[:70], 99]
    assert one.ask(changed, 4)[1].cached == 64
    assert len(one.pasts.all) == 1


def test_no_more_pasts_are_kept_than_may() -> None:
    one = Recording(pasts=2)
    for seed in range(4):
        one.ask(prompt(seed, 30), 2)
    assert [past.tokens[:30] for past in one.pasts.all] == [prompt(2, 30), prompt(3, 30)]


# Anything ------------------------------------------------------------------------------------------------

turns = st.lists(
    st.tuples(
        st.integers(0, 2),  # who
        st.sampled_from(("go on", "go on", "change", "shorten", "fork", "cancel")),
        st.integers(0, 10_000),  # where
        st.integers(1, 60),  # new tokens
        st.integers(1, 6),  # tokens said
        st.integers(0, 12),  # steps before the next one comes
    ),
    min_size=1,
    max_size=8,
)


@example(  # a fork from within a few tokens that have just come
    turns=[
        *((0, "go on", 0, 1, 1, steps) for steps in (2, 0, 1)),
        (0, "go on", 0, 15, 2, 0),
        (0, "go on", 0, 1, 1, 0),
        (0, "change", 66, 1, 1, 0),
    ],
    rings=None,
    tokens=None,
)
@given(turns, st.sampled_from((None, 2, 6)), st.sampled_from((None, 500)))
@settings(max_examples=40, deadline=None)
def test_conversations_that_grow_fork_change_and_break_off_say_what_they_would_say_alone(
    turns: list[tuple[int, str, int, int, int, int]], rings: int | None, tokens: int | None
) -> None:
    one = Recording(
        snapshots=None if rings is None else rings * ring_bytes(),
        cache=None if tokens is None else size_of(tokens),
        running=2,
    )
    histories = [prompt(seed, 20) for seed in range(3)]
    asked_for: list[tuple[Generation, list[int], int]] = []
    gone: set[int] = set()
    for number, (who, act, where, new, count, steps) in enumerate(turns):
        history = histories[who]
        match act:
            case "change":
                history = history[: where % len(history)]
            case "shorten":
                history = history[: 1 + where % len(history)]
            case "fork":
                history = histories[where % 3]
            case _:
                pass
        history = [*history[: 380 - new - count], *prompt(1000 + number, new)]
        answer = one.begin(
            asked(history, count, session=str(who) if where % 3 else None),
            cancelled=lambda number=number: number in gone,
        )
        asked_for.append((answer, history, count))
        for _ in range(steps):
            one.step()
            answer.take()
        if act == "cancel":
            gone.add(number)
        histories[who] = list(answer.tokens)
    settle(one, [answer for answer, _, _ in asked_for])
    for number, (answer, history, count) in enumerate(asked_for):
        expected = plainly(history, count)
        said = answer.tokens[len(history) :]
        assert said == expected if number not in gone else said == expected[: len(said)]
        if tuple(history) in one.logits:
            assert near(one.logits[tuple(history)], cold(history))
    one.step()
    assert all(past.cache.length == len(past.tokens) and not past.busy for past in one.pasts.all)


def size_of(tokens: int) -> int:
    return Recording().size_of(tokens)


@given(st.lists(st.integers(0, 1), max_size=20), st.lists(st.integers(0, 1), max_size=20))
def test_what_two_histories_begin_with_in_common(one: list[int], other: list[int]) -> None:
    expected = 0
    while expected < min(len(one), len(other)) and one[expected] == other[expected]:
        expected += 1
    assert common(one, other) == expected
