"""Training files become documents in which exactly what the assistant said is learnt, packed and gone through whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoint import tiny_tokenizer, write_checkpoint
from training import chat_of, conversation, documents_of, write_conversations

from laguna_backend.chat.encoding import Chat
from laguna_backend.chat.openai import ConversationError
from laguna_backend.chat.template import ChatTemplate
from laguna_backend.chat.tokenizer import TokenBytes
from laguna_backend.nano.checkpoint import TEMPLATE as NANO
from laguna_backend.train.conversations import read_conversation, read_documents, written_down
from laguna_backend.train.errors import DataError
from laguna_backend.train.packing import Document, Epochs, groups, pack

TOKEN_BYTES = TokenBytes(tiny_tokenizer())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny-laguna"))


def learnt(document: Document) -> list[str]:
    """The texts that are learnt, each in one piece."""
    texts: list[str] = []
    before = False
    for token, learn in zip(document.ids.tolist(), document.learn.tolist(), strict=True):
        if learn:
            texts = texts if before else [*texts, ""]
            texts[-1] += TOKEN_BYTES.spelling([token]).decode()
        before = learn
    return texts


def test_what_the_assistant_said_is_learnt_and_nothing_else(checkpoint: Path) -> None:
    line = json.dumps(conversation(1))
    (document,) = written_down(chat_of(checkpoint), read_conversation(line))
    assert learnt(document) == [
        "I read.</think><tool_call>read<arg_key>path</arg_key><arg_value>bb.py</arg_value></tool_call></assistant>",
        "</think>read bb.py</assistant>",
    ]
    assert TOKEN_BYTES.spelling(document.ids.tolist()).decode().startswith("〈|EOS|〉<system><available_tools>")


def test_a_message_of_weight_0_is_read_and_not_learnt(checkpoint: Path) -> None:
    raw = conversation(2)
    raw["messages"][1]["weight"] = 0
    (document,) = written_down(chat_of(checkpoint), read_conversation(json.dumps(raw)))
    assert learnt(document) == ["</think>read ccc.py</assistant>"]
    assert b"<tool_call>read" in TOKEN_BYTES.spelling(document.ids.tolist())


def test_a_conversation_may_think_or_not_whatever_it_did(checkpoint: Path) -> None:
    raw = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    for thinking, expected in ((None, "Hello</assistant>"), (True, "</think>Hello</assistant>")):
        (document,) = written_down(chat_of(checkpoint), read_conversation(json.dumps(raw | {"thinking": thinking})))
        assert learnt(document) == [expected]


def test_what_a_template_no_longer_shows_is_learnt_where_it_was_shown() -> None:
    chat = Chat(ChatTemplate(NANO), tiny_tokenizer())
    messages = [message for number in (1, 2) for message in conversation(number)["messages"]]
    first, second = written_down(chat, read_conversation(json.dumps({"messages": messages})))
    assert [text.partition("</think>")[0] for text in learnt(first)] == ["I read.", ""]
    assert TOKEN_BYTES.spelling(second.ids.tolist()).decode().startswith("〈|EOS|〉<user>read ccc.py</user>")


ASK = json.dumps({"role": "user", "content": "Hi"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "2: not JSON"),
        ('{"messages": NaN}', "2: not JSON: NaN"),
        ("[]", "2: not an object with messages"),
        ('{"messages": [{"role": "user", "content": "Hi"}]}', "2: nothing to learn"),
        ('{"messages": [{"role": "assistant", "content": "Hi", "weight": 0}]}', "2: nothing to learn"),
        ('{"messages": [{"role": "assistant", "content": "Hi", "weight": 0.5}]}', "2: weight is 0.5"),
        ('{"messages": [{"role": "assistant", "content": "Hi"}], "thinking": 1}', "2: thinking is 1"),
        ('{"messages": [{"role": "assistant", "content": 7}]}', r"2: messages\[0\]\.content is 7"),
        ('{"messages": [{"role": "assistant", "content": "x"}], "tools": 7}', "2: tools is 7"),
        ('{"messages": [' + ASK + ', {"role": "assistant", "content": "' + "y" * 900 + '"}]}', "2: 9.. tokens"),
        ("\udcff", "2: not UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_line_is_told_by_file_and_number(checkpoint: Path, tmp_path: Path, line: str, expected: str) -> None:
    file = tmp_path / "data.jsonl"
    good = json.dumps(conversation(0))
    file.write_bytes(f"{good}\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=f"data.jsonl:{expected}"):
        read_documents(file, chat_of(checkpoint), longest=300)


@pytest.mark.parametrize(("content", "expected"), [("\n \n", "no conversation"), (None, "No such file")])
def test_a_file_without_conversations_is_told(checkpoint: Path, tmp_path: Path, content: Any, expected: str) -> None:
    file = tmp_path / "data.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=expected):
        read_documents(file, chat_of(checkpoint), longest=300)


def test_a_template_that_refuses_names_the_line(tmp_path: Path) -> None:
    chat = Chat(ChatTemplate("{{ raise_exception('no') }}"), tiny_tokenizer())
    with pytest.raises(DataError, match=r":1: .*no"):
        read_documents(write_conversations(tmp_path / "data.jsonl", 1), chat, longest=300)
    with pytest.raises(ConversationError):
        written_down(chat, read_conversation(json.dumps(conversation(0))))


# Packing -------------------------------------------------------------------------------------------------


def document(length: int, token: int = 70) -> Document:
    return Document.of([token] * (length + 1), [False, *([True] * length)], f"{length}")


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


@given(LENGTHS, st.integers(60, 200))
def test_packs_hold_every_document_once_and_none_is_too_long(lengths: Sequence[int], longest: int) -> None:
    packed = list(groups([document(length) for length in lengths], longest))
    assert Counter(d.inputs for group in packed for d in group) == Counter(lengths)
    assert all(sum(d.inputs for d in group) <= longest for group in packed)
    assert len(packed) < 2 * sum(lengths) / longest + 17  # half full at worst, but for those still open


def test_a_pack_foretells_each_document_by_itself() -> None:
    first = Document.of([2, 70, 71, 24], [False, False, True, True])
    second = Document.of([2, 80, 24], [False, False, True])
    packed = pack([first, second], rest=0.25)
    assert packed.tokens.tolist() == [2, 70, 71, 2, 80]
    assert packed.targets.tolist() == [70, 71, 24, 80, 24]
    assert packed.weights.tolist() == [0.25, 1, 1, 0.25, 1]
    assert packed.lengths == (3, 2)
    assert packed.silent().weight == 0


@given(LENGTHS, st.integers(1, 5), st.integers(0, 7))
def test_each_epoch_has_every_document_once_and_goes_on_from_anywhere(
    lengths: Sequence[int], batch: int, stop: int
) -> None:
    def source() -> Epochs:
        return Epochs([document(n, 70 + at) for at, n in enumerate(lengths)], length=100, batch=batch, seed=3)

    whole = source()
    begun = [whole.step(0.0) for _ in range(stop)]
    state = json.loads(json.dumps(whole.state()))
    after = [whole.step(0.0) for _ in range(8)]
    resumed = source()
    resumed.restore(state)
    for step, again in zip(after, (resumed.step(0.0) for _ in range(8)), strict=True):
        assert [p.tokens.tolist() for p in step] == [p.tokens.tolist() for p in again]
    packs = [p for step in (*begun, *after) for p in step]
    first = packs[: len(source().packed)]
    if len(first) == len(source().packed):
        assert sum(len(p.tokens) for p in first) == sum(lengths)
        assert set(torch.cat([p.tokens for p in first]).tolist()) == {70 + at for at in range(len(lengths))}


def test_epochs_differ_in_order_and_by_seed(checkpoint: Path, tmp_path: Path) -> None:
    documents = documents_of(checkpoint, write_conversations(tmp_path / "data.jsonl"))
    orders = [
        [d.where for group in Epochs(documents, length=300, batch=1, seed=seed).order(epoch) for d in group]
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(ValueError, match="no document"):
        Epochs([], length=10, batch=1, seed=0)
    with pytest.raises(ValueError, match="30: 30 tokens are more than a pack of 10"):
        list(groups([document(30)], 10))
