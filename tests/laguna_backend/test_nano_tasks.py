"""What laguna-nano is trained on: drawn from a seed, apart from what it is measured on."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer

from laguna_backend.nano.names import HELD_OUT, PIECES, TRAINING, Names
from laguna_backend.nano.phrasings import PHRASINGS
from laguna_backend.nano.tasks import CANNOT, FAMILIES, draw, play
from laguna_backend.nano.transcript import write_down
from laguna_backend.nano.vocabulary import merges, nano_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return nano_tokenizer()


def prompts(seed: int, count: int, *, held_out: bool = False) -> list[str]:
    names = Names(random.Random(seed), held_out=held_out)
    return [draw(names).prompt for _ in range(count)]


def test_a_seed_draws_the_same_tasks_every_time() -> None:
    assert prompts(3, 50) == prompts(3, 50)
    assert prompts(3, 50) != prompts(4, 50)


def test_phrasings_for_training_and_for_evaluation_are_apart() -> None:
    for table in PHRASINGS.values():
        assert table.training
        assert table.held_out
        assert not set(table.training) & set(table.held_out)


def test_no_evaluation_request_occurs_in_training() -> None:
    assert not set(prompts(0, 3000)) & set(prompts(1_000_000, 300, held_out=True)) - set(plain())


def plain() -> list[str]:
    """Requests without a name in them: a tree can be listed in so many words only."""
    texts = [*PHRASINGS["list_root"].held_out, *PHRASINGS["hello"].held_out, *PHRASINGS["run_tests"].held_out]
    return [text for form in texts for text in (form, form[0].upper() + form[1:])]


def test_words_for_training_and_for_evaluation_are_apart() -> None:
    assert len(TRAINING) > 400
    assert len(HELD_OUT) > 60
    assert not set(TRAINING) & set(HELD_OUT)
    assert not set(PIECES) & set(HELD_OUT)
    drawn = {Names(random.Random(seed)).word() for seed in range(3000)}
    # Two pieces may spell a word by chance; whole words are not drawn from the other list.
    assert len(drawn & set(HELD_OUT)) < 5
    assert len(drawn & set(TRAINING)) > 300


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_ends_with_an_answer(family: str) -> None:
    names = Names(random.Random(1))
    for _ in range(50):
        steps = play(draw(names, [family]))
        assert steps[-1].text
        assert steps[-1].call is None
        assert all(step.response for step in steps[:-1])


def test_a_name_is_cut_the_same_way_wherever_it_stands(tokenizer: Tokenizer) -> None:
    for name in ("fmt_price", "src/app.py", "parseConfig2", "READY_DOOR", "user-name.yml"):
        alone = tokenizer.encode(name).ids
        for before, after in ((" ", " "), ("`", "`"), (">", "</arg_value>"), ("/", "."), ('"', '"')):
            ids = tokenizer.encode(before + name + after).ids
            start = len(tokenizer.encode(before).ids)
            assert ids[start : start + len(alone)] == alone


def test_a_forged_closing_tag_is_told_apart_by_its_first_token(tokenizer: Tokenizer) -> None:
    real = tokenizer.encode("</tool_response>").ids
    forged = tokenizer.encode("<").ids + tokenizer.encode("/tool_response>").ids
    assert real != forged
    assert tokenizer.decode(real) == tokenizer.decode(forged)


def test_the_vocabulary_is_the_released_one_up_to_the_merges(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 70 + 256 + len(merges())
    assert [tokenizer.token_to_id(token) for token in ("〈|EOS|〉", "<think>", "</assistant>", "<tool_call>")] == [
        2,
        18,
        24,
        25,
    ]
    assert tokenizer.encode("<\n>").ids == [97, 268, 99]


def test_only_what_the_assistant_says_is_to_be_learnt(tokenizer: Tokenizer) -> None:
    names = Names(random.Random(2))
    task = draw(names, ["cannot"])
    transcript = write_down(tokenizer, task.prompt, play(task))
    learnt = [id for id, learn in zip(transcript.ids, transcript.learn, strict=True) if learn]
    said = tokenizer.decode(learnt, skip_special_tokens=False)
    assert task.prompt not in said
    assert said.endswith("</assistant>")
    assert CANNOT in said or "Hello" in said
