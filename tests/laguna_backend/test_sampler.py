"""Drawing a token: which are left in, how often each comes, and that nothing but seed and place decides."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from laguna_backend.engine import sampler
from laguna_backend.engine.request import Rule
from laguna_backend.engine.sampler import Sampler, alternatives

torch.set_num_threads(1)


def left_in_plainly(values: list[float], rule: Rule) -> dict[int, float]:
    """The rule, one number at a time: temperature, top_k, min_p, top_p."""
    best = max(values)
    order = sorted(range(len(values)), key=lambda token: -values[token])[: rule.top_k or None]
    weights = {token: math.exp((values[token] - best) / rule.temperature) for token in order}
    whole = sum(weights.values())
    shares = {token: weight / whole for token, weight in weights.items()}
    shares = {token: share for token, share in shares.items() if share >= rule.min_p * max(shares.values())}
    kept: dict[int, float] = {}
    ahead, whole = 0.0, sum(shares.values())
    for token, share in shares.items():
        if rule.top_p == 1 or not kept or ahead < rule.top_p * whole:
            kept[token] = share
        ahead += share
    return {token: share / sum(kept.values()) for token, share in kept.items()}


def clear(values: list[float], rule: Rule) -> bool:
    """Whether no edge of the rule is so near to a number that rounding decides."""
    near = left_in_plainly(values, rule).keys()
    for nudge in (-1e-4, 1e-4):
        moved = Rule(
            rule.temperature, rule.top_k, min(1, max(1e-3, rule.top_p + nudge)) if rule.top_p < 1 else 1,
            min(0.99, max(0, rule.min_p + nudge)) if rule.min_p else 0,
        )  # fmt: skip
        if left_in_plainly(values, moved).keys() != near:
            return False
    return True


apart = st.lists(st.integers(-60, 60), min_size=2, max_size=12, unique=True).map(lambda many: [v / 8 for v in many])
rules = st.builds(
    Rule, st.floats(0.3, 3), st.integers(0, 12), st.just(1.0) | st.floats(0.05, 0.99), st.just(0.0) | st.floats(0, 0.9)
)


@given(apart, rules)
@settings(max_examples=200, deadline=None)
def test_a_rule_leaves_in_what_its_words_say(values: list[float], rule: Rule) -> None:
    tokens, probabilities = Sampler(rule).left_in(torch.tensor(values))
    expected = left_in_plainly(values, rule)
    assert tokens.tolist() == sorted(tokens.tolist())
    if clear(values, rule):
        assert set(tokens.tolist()) == expected.keys()
        for token, share in zip(tokens.tolist(), probabilities.tolist(), strict=True):
            assert share == pytest.approx(expected[token], rel=1e-3, abs=1e-6)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert values.index(max(values)) in tokens.tolist()


@given(st.integers(0, 50), st.floats(0.05, 0.999), st.floats(0.2, 4))
@example(3, 0.999, 4)
@settings(max_examples=40, deadline=None)
def test_a_large_vocabulary_need_not_be_sorted_whole(seed: int, top_p: float, temperature: float) -> None:
    logits = 4 * torch.randn(3000, generator=torch.Generator().manual_seed(seed))
    one = Sampler(Rule(temperature, top_p=top_p))
    short = one.left_in(logits)
    one.enough = lambda scaled, whole: scaled.sort(descending=True, stable=True)
    whole = one.left_in(logits)
    assert abs(len(short[0]) - len(whole[0])) <= 1  # where the edge lies within rounding
    common = min(len(short[0]), len(whole[0]))
    if len(short[0]) == len(whole[0]) == common:
        assert torch.equal(short[0], whole[0])
        torch.testing.assert_close(short[1], whole[1], rtol=1e-4, atol=1e-7)


def test_only_where_the_most_likely_do_not_suffice_all_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MANY", 4)
    tokens, _ = Sampler(Rule(1.0, top_p=0.88)).left_in(torch.zeros(20))
    assert len(tokens) == 18


def test_top_p_keeps_the_best_of_two_that_round_to_the_same_probability() -> None:
    tokens, _ = Sampler(Rule(1.0, top_p=0.5)).left_in(torch.tensor([-1.8716e-18, 0.0]))
    assert tokens.tolist() == [1]


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def test_draws_follow_the_distribution() -> None:
    one = Sampler(Rule(1.0, seed=2))
    values = logits_of(0.7, 0.2, 0.1)
    counts = torch.bincount(torch.tensor([one.draw(values, place) for place in range(3000)]), minlength=3) / 3000
    torch.testing.assert_close(counts, torch.tensor([0.7, 0.2, 0.1]), atol=0.04, rtol=0)


def test_seed_and_place_decide_and_nothing_else() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    one, other = Sampler(Rule(1.0, seed=5)), Sampler(Rule(1.0, seed=5))
    forwards = [one.draw(values, place) for place in range(20)]
    backwards = [other.draw(values, place) for place in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert forwards != [Sampler(Rule(1.0, seed=6)).draw(values, place) for place in range(20)]
    # Rounding elsewhere in the distribution moves an edge a little and changes no draw.
    assert forwards == [one.draw(values + 1e-7 * torch.arange(50), place) for place in range(20)]


def test_without_a_seed_two_requests_differ() -> None:
    values = torch.zeros(1000)
    assert Sampler(Rule(1.0)).draw(values, 0) != Sampler(Rule(1.0)).draw(values, 0) or (
        Sampler(Rule(1.0)).draw(values, 0) != Sampler(Rule(1.0)).draw(values, 0)
    )


def test_the_numbers_are_spread_over_the_unit_interval() -> None:
    one = Sampler(Rule(1.0, seed=1))
    numbers = torch.tensor([one.number(place) for place in range(4000)], dtype=torch.float64)
    assert 0 <= float(numbers.min()) < 0.01
    assert 0.99 < float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.02)


def test_temperature_zero_draws_the_best() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert Sampler(Rule()).draw(values, 3) == int(values.argmax())


def test_alternatives_are_of_the_models_own_distribution() -> None:
    own, top = alternatives(logits_of(0.5, 0.125, 0.375), 1, 2)
    assert own == pytest.approx(math.log(0.125), abs=1e-5)
    assert [token for token, _ in top] == [0, 2]
    assert [value for _, value in top] == pytest.approx([math.log(0.5), math.log(0.375)], abs=1e-5)
    assert len(alternatives(logits_of(0.5, 0.5), 0, 20)[1]) == 2


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 2}, {"min_p": 1}])
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rule(**wrong)  # pyright: ignore[reportArgumentType]
