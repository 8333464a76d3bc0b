"""Guesses: the same tokens as without, a past as if there had been none, and no time lost but a little."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import LAGUNA, PROMPT, asked, plainly
from test_past import cold, near
from test_sharing import Watched, failing, prompt, settle

from laguna_backend.engine import guess
from laguna_backend.engine.generation import Generation
from laguna_backend.engine.guess import FIRST, LONGEST, SHARE, SHORTEST, Costs, Guesser, Lookup
from laguna_backend.engine.limits import Limits
from laguna_backend.engine.ngrams import GRAM, Trigrams
from laguna_backend.engine.past import KEPT_TRIGRAMS
from laguna_backend.engine.relay import Cancelled
from laguna_backend.engine.request import Allowed, CacheFull, Finish, Forced, Request, Rule, Step
from laguna_backend.model.cache import Storage

torch.set_num_threads(1)


class Guessing(Watched):
    """Runs the guesses of a function of what was said and how many there may be."""

    def __init__(self, guess: Callable[[Sequence[int], int], list[int]], storage: Storage = "float32", **limits: Any):
        super().__init__(LAGUNA, storage=storage, limits=Limits(**limits))
        self.guess = guess

    def guesses(self, one: Generation) -> list[int]:
        most = min(7, one.past.cache.shortest - 1, one.limit - one.generated - 1) if one.past else 0
        return self.guess(one.tokens, most)[:most]


def none(tokens: Sequence[int], most: int) -> list[int]:
    return []


def ask(of: Watched, request: Request) -> tuple[list[Step], Finish]:
    *steps, finish = of.generate(request)
    assert isinstance(finish, Finish)
    return [step for step in steps if isinstance(step, Step)], finish


class Words:
    """Allows every third token only, and forces a few after each that can be divided by five."""

    def __init__(self) -> None:
        self.told, self.last = list[int](), 0

    def next(self) -> Forced | Allowed | None:
        if self.last and self.last % 5 == 0:
            return Forced((301, 302))
        return Allowed.only(*range(0, 370, 3)) if self.last % 2 else None

    def take(self, token: int) -> None:
        self.told.append(token)
        self.last = token


def right_to(size: int, known: Sequence[int], flaws: frozenset[int]) -> Callable[[Sequence[int], int], list[int]]:
    """Guesses what is known to come, but for some places."""

    def guess(tokens: Sequence[int], most: int) -> list[int]:
        place = len(tokens) - size
        return [3 if at in flaws else known[at] for at in range(place, min(place + most, len(known)))]

    return guess


# The same tokens -----------------------------------------------------------------------------------------

RULES = Rule(), Rule(1.3, top_k=40, seed=3), Rule(0.8, top_p=0.9, seed=4), Rule(1.0, min_p=0.1, seed=5)


@given(
    st.integers(3, 60),
    st.integers(1, 40),
    st.sampled_from(RULES),
    st.frozensets(st.integers(0, 40)),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_whatever_is_guessed_the_answer_is_the_same_and_so_is_what_stays(
    size: int, count: int, rule: Rule, flaws: frozenset[int], constrained: bool, logprobs: bool
) -> None:
    guess_and_compare(size, count, rule, flaws, constrained, logprobs)


@pytest.mark.parametrize("storage", ["bfloat16", "fp8"])
@pytest.mark.parametrize("rule", RULES)
def test_so_it_is_in_every_number_format(rule: Rule, storage: Storage) -> None:
    guess_and_compare(20, 40, rule, frozenset({4, 9, 10, 21}), storage=storage)


def guess_and_compare(
    size: int,
    count: int,
    rule: Rule,
    flaws: frozenset[int],
    constrained: bool = False,
    logprobs: bool = False,
    storage: Storage = "float32",
) -> None:
    """An answer and the next one, with guesses and without."""
    history = prompt(size, size)
    words = Words(), Words()

    def request(who: int) -> Request:
        constraints = (words[who],) if constrained else ()
        return asked(history, count, rule=rule, constraints=constraints, logprobs=2 if logprobs else None)

    plain = Guessing(none, storage)
    expected, ended = ask(plain, request(0))
    known = [step.token for step in expected]
    one = Guessing(right_to(size, known, flaws), storage)
    said, finish = ask(one, request(1))
    assert [(step.token, step.forced) for step in said] == [(step.token, step.forced) for step in expected]
    assert (finish.reason, finish.by, finish.generated) == (ended.reason, ended.by, ended.generated)
    assert words[0].told == words[1].told
    for mine, its in zip(said, expected, strict=True):
        assert (mine.logprob is None) == (its.logprob is None)
        if mine.logprob is not None:
            assert mine.logprob == pytest.approx(its.logprob, abs=1e-4)
    (past,), (as_it_was,) = one.pasts.all, plain.pasts.all
    assert past.tokens == [*history, *known][: len(past.tokens)]
    assert len(as_it_was.tokens) <= len(past.tokens) < size + finish.generated  # forced ones may have been guessed
    assert past.cache.length == len(past.tokens)
    after = [*history, *known, 90, 91]
    assert ask(one, asked(after, 5))[0] == ask(plain, asked(after, 5))[0]


def test_what_goes_on_after_guesses_that_failed_is_what_a_new_engine_computes() -> None:
    flaws = frozenset(range(0, 60, 3))
    known = plainly(PROMPT, 60)
    one = Guessing(right_to(len(PROMPT), known, flaws))
    said, finish = ask(one, asked(PROMPT, 60))
    assert [step.token for step in said] == known
    assert len(one.passes) + finish.guessed == 60
    assert finish.guessed > 20
    after = [*PROMPT, *known, *prompt(3, 30)]
    answer = one.begin(asked(after, 1, logprobs=20))
    (step,) = [step for step in one.answers(answer) if isinstance(step, Step)]
    assert answer.cached == len(PROMPT) + 59
    logs = cold(after).log_softmax(-1)
    assert near(torch.tensor([value for _, value in step.top]), torch.stack([logs[token] for token, _ in step.top]))


def test_a_stop_that_was_guessed_ends_it_and_nothing_after_it_is_told() -> None:
    known = plainly(PROMPT, 20)
    for stop in {known[4], known[9]}:
        one = Guessing(right_to(len(PROMPT), known, frozenset()))
        said, finish = ask(one, asked(PROMPT, 20, stop_ids=frozenset({stop})))
        assert [step.token for step in said] == known[: known.index(stop) + 1]
        assert (finish.by, len(one.pasts.all[0].tokens)) == (stop, len(PROMPT) + known.index(stop))


def test_where_several_speak_none_is_guessed_for() -> None:
    one = Guessing(lambda tokens, most: [80] * most)
    answers = [one.begin(asked(prompt(seed, 12), 10)) for seed in range(2)]
    assert settle(one, answers) == [plainly(prompt(seed, 12), 10) for seed in range(2)]
    together = [taken for taken in one.passes if len(taken) == 2]
    assert together
    assert all(count == 1 for taken in together for _, count in taken)


# What goes wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", range(1, 30, 2))
def test_cancelling_among_guesses_leaves_what_was_said_to_be_gone_on_with(look: int) -> None:
    known = plainly(PROMPT, 40)
    one = Guessing(right_to(len(PROMPT), known, frozenset({5, 6, 12})))
    looks = itertools.count()
    answer = one.begin(asked(PROMPT, 40), cancelled=lambda: next(looks) >= look)
    said = settle(one, [answer])[0]
    assert isinstance(answer.error, Cancelled)
    assert said == known[: len(said)]
    after = [*PROMPT, *said, 99]
    steps, _ = ask(Guessing(none), asked(after, 5))
    assert ask(one, asked(after, 5))[0] == steps
    assert all(past.cache.length == len(past.tokens) for past in one.pasts.all)


def test_where_there_is_no_memory_for_guesses_what_was_computed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    known = plainly(PROMPT, 40)
    one = Guessing(right_to(len(PROMPT), known, frozenset()))
    answer = one.begin(asked(PROMPT, 40))
    while answer.generated < 3:
        one.step()
        answer.take()
    monkeypatch.setattr(LAGUNA, "forward", failing(MemoryError(), 2))
    one.step()
    assert isinstance(answer.error, CacheFull)
    monkeypatch.undo()
    after = [*answer.tokens, 99]
    said, finish = ask(one, asked(after, 5))
    assert finish.cached == len(answer.tokens) - 1
    assert [step.token for step in said] == plainly(after, 5)


# What is guessed -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=60), st.data())
@settings(max_examples=200, deadline=None)
def test_guesses_are_what_followed_where_the_same_tokens_stood(tokens: list[int], data: st.DataObject) -> None:
    said = data.draw(st.integers(0, len(tokens)))
    known = tokens[:said]
    lookup = Lookup(known, said, Trigrams())
    while True:
        end = len(known)
        before = [at for at in range(GRAM, end) if known[at - GRAM : at] == known[end - GRAM :]]
        guesses = lookup.guesses(7)
        assert bool(guesses) == bool(before)
        if guesses:
            at, common = lookup.at, lookup.common
            assert at in before
            assert known[at - min(common, LONGEST) : at] == known[end - min(common, LONGEST) : end]
            whole = [*known]
            for guess in guesses:
                assert guess == whole[at]
                whole.append(guess)
                at += 1
        if end == len(tokens):
            return
        known += tokens[end : end + data.draw(st.integers(1, 9))]
        lookup.catch_up()


@given(st.lists(st.lists(st.integers(0, 2), max_size=30), max_size=6), st.data())
@settings(max_examples=200, deadline=None)
def test_trigrams_that_follow_are_those_of_the_tokens_alone(many: list[list[int]], data: st.DataObject) -> None:
    kept, tokens = Trigrams(), list[int]()
    for more in many:
        tokens = tokens[: data.draw(st.integers(0, len(tokens)))] + more
        kept.follow(tokens)
        alone = Trigrams()
        alone.follow(tokens)
        assert (kept.tokens, kept.table, kept.last()) == (tokens, alone.table, alone.last())
        kept = data.draw(st.sampled_from([kept, kept.copy()]))


def test_a_next_turn_takes_in_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess, "SHORTEST", 0.0)
    one, alone = (Watched(LAGUNA, storage="float32", limits=Limits(guess=guesses)) for guesses in (True, False))
    tokens, work = prompt(3, 200), 0
    for turn, session in enumerate("aaa"):
        request = asked(tokens, 12, session=session)
        said, _ = ask(one, request)
        assert [step.token for step in said] == [step.token for step in ask(alone, request)[0]]
        trigrams = max(one.pasts.all, key=lambda past: past.used).trigrams
        new = trigrams.work - work
        assert new == len(trigrams.tokens) if turn == 0 else new <= 12 + 20 + 12  # an answer, what is asked, an answer
        work = trigrams.work
        tokens = [*tokens, *(step.token for step in said), *prompt(turn, 20)]
    ask(one, asked(tokens[:250], 12, session="b"))
    first, other = one.pasts.all
    assert (first.session, other.session) == ("a", "b")
    assert first.trigrams.work == work
    assert other.trigrams.work <= work + 12 + 1  # a fork begins with those of the past that it is of


def test_few_pasts_that_nobody_uses_keep_trigrams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess, "SHORTEST", 0.0)
    one = Watched(LAGUNA, storage="float32", limits=Limits())
    for seed in range(KEPT_TRIGRAMS + 3):
        ask(one, asked(prompt(seed, 20), 6, session=str(seed)))
    kept = [past for past in one.pasts.all if past.trigrams.tokens]
    assert len(one.pasts.all) == KEPT_TRIGRAMS + 3
    assert kept == sorted(one.pasts.all, key=lambda past: past.used)[3:]


# Whether it pays -----------------------------------------------------------------------------------------

Cost = Callable[[int], float]


def spend(guesser: Guesser, tokens: list[int], coming: Sequence[int], cost: Cost) -> float:
    """What an answer takes, in passes of one token, if a pass of n tokens takes `cost(n)`."""
    spent, said = 0.0, 0
    while said < len(coming):
        guesses = guesser.next(min(8, len(coming) - said) - 1)
        came = 1
        while came <= len(guesses) and guesses[came - 1] == coming[said + came - 1]:
            came += 1
        tokens += coming[said : said + came]
        said += came
        seconds = cost(len(guesses) + 1)
        spent += seconds
        guesser.took(len(guesses), came, seconds)
    return spent


def copied(length: int, faults: float, seed: int) -> tuple[list[int], list[int]]:
    """A prompt, and an answer that repeats it with so many faults a token."""
    chance = random.Random(seed)
    first = [chance.randrange(1000) for _ in range(length)]
    return [*first, 1001, 1002], [chance.randrange(1000) if chance.random() < faults else token for token in first]


@given(st.integers(2, 600), st.floats(0, 1), st.integers(0, 99), st.lists(st.floats(0, 1), min_size=7, max_size=7))
@settings(max_examples=150, deadline=None)
def test_no_text_and_no_cost_make_it_slower_by_more_than_the_credit(
    length: int, faults: float, seed: int, steps: list[float]
) -> None:
    costs = list(itertools.accumulate(steps, initial=1.0))  # one token more costs no more than by itself
    tokens, coming = copied(length, faults, seed)
    spent = spend(Guesser(tokens, len(tokens), Costs(), Trigrams()), tokens, coming, lambda count: costs[count - 1])
    assert spent <= len(coming) * (1 + SHARE) + FIRST + 1e-6


def test_nothing_is_guessed_where_a_pass_is_over_sooner_than_it_is_guessed() -> None:
    tokens = [1, 2, 3, 4] * 20
    for seconds, guesses in ((SHORTEST / 2, 0), (2 * SHORTEST, 7)):
        guesser = Guesser(tokens, len(tokens), Costs(), Trigrams())
        guesser.costs.measured = {count: (1, deque([1.0])) for count in range(2, 9)}  # passes of more cost no more
        for _ in range(3):
            guesser.took(0, 1, seconds)
        assert len(guesser.next(7)) == guesses


def test_what_is_repeated_is_said_several_times_as_fast() -> None:
    tokens, coming = copied(500, 0.02, 7)
    spent = spend(
        Guesser(tokens, len(tokens), Costs(), Trigrams()), tokens, coming, lambda count: 1 + 0.1 * (count - 1)
    )
    assert len(coming) / spent > 2.5


def test_guesses_that_do_not_pay_are_tried_again_now_and_then() -> None:
    costs = Costs()
    tokens, coming = copied(2000, 0.02, 8)
    guesser = Guesser(tokens, len(tokens), costs, Trigrams())
    dear = spend(guesser, tokens, coming[:1000], lambda count: float(count))
    assert 1000 <= dear <= 1000 * (1 + SHARE) + FIRST
    cheap = spend(guesser, tokens, coming[1000:], lambda count: 1 + 0.1 * (count - 1))
    assert 1000 / cheap > 1.3


def test_a_pass_in_so_many_is_without_guesses_to_know_what_that_costs() -> None:
    tokens, coming = copied(1000, 0, 9)
    counts: list[int] = []

    def cost(count: int) -> float:
        counts.append(count)
        return 1 + 0.05 * (count - 1)

    spend(Guesser(tokens, len(tokens), Costs(), Trigrams()), tokens, coming, cost)
    late = counts[len(counts) // 2 :]
    assert 0 < sum(count == 1 for count in late) <= len(late) // 16


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("step", [0.3, 0.6, 1.0])
def test_an_uneven_clock_does_not_make_guesses_pay_that_do_not(step: float, seed: int) -> None:
    """A machine that is up to three times as slow for seconds at a time, with hitches in between: what is counted is
    the work, what the guesser sees are the seconds."""
    chance = random.Random(seed)
    first = [chance.randrange(1000) for _ in range(400)]
    coming: list[int] = []
    while len(coming) < 1500:  # places of the prompt, cut off where the guesses begin to be believed
        at = chance.randrange(390)
        coming += first[at : at + chance.randrange(3, 6)]
    now, slow, until, work = 0.0, 1.0, 0.0, 0.0

    def seconds(count: int) -> float:
        nonlocal now, slow, until, work
        if now > until:
            slow, until = chance.choice((1.0, 1.3, 2.0, 3.0)), now + chance.expovariate(0.3)
        cost = 1 + step * (count - 1)
        hitch = chance.expovariate(10) if chance.random() < 0.05 * cost else 0.0
        took = 0.05 * cost * slow * chance.lognormvariate(0, 0.2) + hitch
        now, work = now + took, work + cost
        return took

    spend(Guesser(first, len(first), Costs(), Trigrams()), first, coming, seconds)
    assert len(coming) / work >= 0.97
