"""One answer: what is drawn, forced, held back and told, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laguna_backend.chat.thinking import ThinkingBudget
from laguna_backend.chat.tokenizer import THINK, THINK_END
from laguna_backend.engine.generation import Generation
from laguna_backend.engine.request import Allowed, Finish, Forced, NothingAllowed, Request, Rule, Step
from laguna_backend.engine.stopping import StopTexts

WORDS = {10: b"He", 11: b"llo", 12: b" wor", 13: b"ld", 14: "é".encode()[:1], 15: "é".encode()[1:], 16: b""}
VOCABULARY = 30


def logits(best: int, *others: int) -> torch.Tensor:
    """`best` is the most likely token, then the others in their order."""
    values = torch.zeros(VOCABULARY)
    for rank, token in enumerate((best, *others)):
        values[token] = 9.0 - rank
    return values


def begin(count: int = 20, **more: object) -> Generation:
    request = Request(prompt=(1, 2), max_tokens=count, **more)  # pyright: ignore[reportArgumentType]
    return Generation(request, limit=count, eos=(5,), text_of=lambda token: WORDS.get(token, b"."))


def drive(one: Generation, tokens: Sequence[int]) -> tuple[list[Step], Finish | None]:
    """Draw these tokens, as far as it goes on."""
    said: list[Step | Finish] = one.take()
    for token in tokens:
        if one.finish is None:
            one.run = len(one.tokens)
            one.draw(logits(token))
            said += one.take()
    return [step for step in said if isinstance(step, Step)], one.finish


def text(steps: Sequence[Step]) -> bytes:
    return b"".join(step.text for step in steps)


def test_a_stop_token_of_the_model_or_the_request_ends_it_and_is_told() -> None:
    for stop, ids in ((5, frozenset[int]()), (7, frozenset({7}))):
        steps, finish = drive(begin(stop_ids=ids), [10, 11, stop, 12])
        assert [step.token for step in steps] == [10, 11, stop]
        assert finish is not None
        assert (finish.reason, finish.by, finish.generated, finish.prompt) == ("stop", stop, 3, 2)


def test_the_limit_ends_it() -> None:
    steps, finish = drive(begin(2), [10, 11, 12])
    assert (len(steps), finish and finish.reason) == (2, "length")


@pytest.mark.parametrize("mask", [None, bytes(VOCABULARY).replace(b"\0", b"\1")])
def test_a_barred_token_is_never_drawn_and_can_be_forced(mask: bytes | None) -> None:
    class Mask:
        def next(self) -> Allowed | None:
            return Allowed(mask) if mask else None

        def take(self, token: int) -> None:
            pass

    best = logits(10, 11, 12)
    kept = best.clone()
    for rule in (Rule(), *(Rule(temperature=9.0, seed=seed) for seed in range(20))):
        one = begin(barred=(10, 12, 99), rule=rule, constraints=(Mask(),), logprobs=1)
        assert one.draw(best) not in (10, 12)
        assert one.draw(best) not in (10, 12)
        [first, _] = [step for step in one.take() if isinstance(step, Step)]
        assert first.top[0][0] == 10  # what the model would have said
    assert torch.equal(best, kept)
    forced, _ = drive(begin(barred=(10,), constraints=(ThinkingBudget(0, (10,), thinking=True),)), [])
    assert 10 in [step.token for step in forced]
    with pytest.raises(NothingAllowed):
        begin(barred=(10,), constraints=(Only(10),)).draw(best)


class Only:
    """Allows one token."""

    def __init__(self, token: int) -> None:
        self.token = token

    def next(self) -> Allowed:
        return Allowed.only(self.token)

    def take(self, token: int) -> None:
        pass


# Texts to stop at ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "expected", "count"),
    [
        ("lo w", b"Hel", 3),
        ("Hello", b"", 2),
        ("world", b"Hello ", 4),
        ("ld", b"Hello wor", 4),
        ("é", b"Hello world", 6),
        ("x", "Hello worldé".encode(), 7),
    ],
)
def test_a_text_to_stop_at_is_found_across_tokens_and_cut_off(stop: str, expected: bytes, count: int) -> None:
    steps, finish = drive(begin(7, stop=(stop,)), [10, 11, 12, 13, 14, 15, 16])
    assert text(steps) == expected
    assert len(steps) == count
    assert finish is not None
    assert finish.by == (None if stop == "x" else stop)
    assert finish.reason == ("length" if stop == "x" else "stop")


def test_a_token_is_held_back_while_it_may_begin_a_text_to_stop_at() -> None:
    one = begin(stop=("lo!",))
    assert [len(drive(one, [token])[0]) for token in (10, 11, 12)] == [1, 0, 2]


texts = st.text(alphabet="abé", min_size=1, max_size=4)


@given(st.lists(texts, min_size=1, max_size=3), st.text(alphabet="abéx", max_size=30), st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_let_through_does_not_depend_on_the_tokens(stops: list[str], whole: str, data: st.DataObject) -> None:
    raw = whole.encode()
    # However it is cut, the text that is complete first ends it; of those that end together the longest.
    ends = [(at + len(stop.encode()), at) for stop in stops if (at := raw.find(stop.encode())) >= 0]
    expected = raw[: min(ends)[1]] if ends else raw
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)))))
    matcher = StopTexts(stops)
    seen = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        seen += text(matcher.feed(Step(0, raw[start:end])))
        assert expected.startswith(seen)
        if matcher.found is not None:
            break
    seen += text(matcher.finish())
    assert seen == expected
    assert (matcher.found is not None) == bool(ends)


# Constraints ---------------------------------------------------------------------------------------------


class Script:
    """Answers what it is told to, in order, and then nothing."""

    def __init__(self, *answers: Forced | Allowed | None) -> None:
        self.answers, self.taken = list(answers), list[int]()

    def next(self) -> Forced | Allowed | None:
        return self.answers.pop(0) if self.answers else None

    def take(self, token: int) -> None:
        self.taken.append(token)


def test_only_what_is_allowed_is_drawn_at_any_temperature() -> None:
    for rule in (Rule(), Rule(1.0, seed=1), Rule(1.0, top_k=3, top_p=0.5, seed=1)):
        script = Script(Allowed.only(12, 13))
        one = begin(rule=rule, constraints=(script,))
        one.draw(logits(10, 13, 11))
        one.draw(logits(10))
        assert one.tokens[2:] in ([13, 10], [12, 10])
        assert script.taken == one.tokens[2:]


def test_a_mask_of_another_length_than_the_vocabulary_is_understood() -> None:
    for mask in (bytearray(4) + b"\1", bytearray(4) + b"\1" + bytearray(200)):
        one = begin(constraints=(Script(Allowed(mask)),))
        assert one.draw(logits(10)) == 4


def test_what_several_constraints_allow_together_is_drawn() -> None:
    one = begin(constraints=(Script(Allowed.only(10, 11)), Script(None), Script(Allowed.only(11, 12))))
    assert one.draw(logits(10, 12, 11)) == 11


def test_constraints_that_leave_nothing_are_refused() -> None:
    one = begin(constraints=(Script(Allowed.only(10)), Script(Allowed.only(11))))
    with pytest.raises(NothingAllowed):
        one.draw(logits(10))


def test_forced_tokens_come_without_being_drawn_and_are_run_together() -> None:
    script = Script(Forced((10, 11)), None, Forced((12,)), Forced((13,)))
    one = begin(constraints=(script,))
    assert one.unrun == [1, 2, 10, 11]
    one.run = 4
    one.draw(logits(16))
    assert one.unrun == [16, 12, 13]
    steps, _ = drive(one, [])
    assert [step.token for step in steps] == [10, 11, 16, 12, 13]
    assert [step.forced for step in steps] == [True, True, False, True, True]
    assert script.taken == [10, 11, 16, 12, 13]


def test_forced_tokens_stop_at_the_limit_and_at_a_stop_token() -> None:
    steps, finish = drive(begin(3, constraints=(Script(Forced((10, 11, 12, 13, 14))),)), [])
    assert (len(steps), finish and finish.reason) == (3, "length")
    steps, finish = drive(begin(constraints=(Script(Forced((10, 5, 12))),)), [])
    assert ([step.token for step in steps], finish and finish.by) == ([10, 5], 5)


def test_log_probabilities_are_told_when_asked_for_before_masks_and_temperature() -> None:
    one = begin(logprobs=2, rule=Rule(3.0, top_k=1), constraints=(Script(Allowed.only(11)),))
    one.draw(logits(10, 11))
    one.draw(logits(10, 11))
    (masked, free), _ = drive(one, [])
    logs = logits(10, 11).log_softmax(-1)
    assert masked.logprob == pytest.approx(float(logs[11]))
    assert free.logprob == pytest.approx(float(logs[10]))
    assert [token for token, _ in masked.top] == [10, 11]
    assert drive(begin(), [10])[0][0].logprob is None


def test_logits_that_are_no_numbers_are_an_error() -> None:
    broken = logits(10)
    broken[3] = float("nan")
    with pytest.raises(FloatingPointError):
        begin().draw(broken)


# Thinking ------------------------------------------------------------------------------------------------


def test_thoughts_end_when_their_budget_is_spent_and_the_answer_goes_on() -> None:
    one = begin(constraints=(ThinkingBudget(3, (8, THINK_END), thinking=True),))
    steps, _ = drive(one, [10, 11, 12, 13, 14])
    assert [step.token for step in steps] == [10, 11, 12, 8, THINK_END, 13, 14]


def test_thoughts_that_end_by_themselves_are_left_alone_and_new_ones_have_what_is_left() -> None:
    one = begin(constraints=(ThinkingBudget(3, (THINK_END,), thinking=True),))
    steps, _ = drive(one, [10, THINK_END, 11, 12, 13, 14, THINK, 10, 11, 12])
    assert [s.token for s in steps] == [10, THINK_END, 11, 12, 13, 14, THINK, 10, 11, THINK_END, 12]


def test_no_budget_at_all_ends_thoughts_before_they_begin() -> None:
    one = begin(constraints=(ThinkingBudget(0, (THINK_END,), thinking=True),))
    assert one.unrun == [1, 2, THINK_END]
    assert begin(constraints=(ThinkingBudget(0, (THINK_END,), thinking=False),)).unrun == [1, 2]


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"logprobs": 21}, {"logprobs": -1}, {"stop": ("a", "")}])
def test_a_request_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"max_tokens|logprobs|empty"):
        Request(**({"prompt": (1,), "max_tokens": 1} | wrong))  # pyright: ignore[reportArgumentType]
