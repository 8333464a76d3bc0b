"""What of a history is shown when the window is small."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp_server.model import Assistant, Message, ModelInfo, System, ToolResult, ToolUse, Usage, User
from acp_server.turn.conversation import (
    LEFT_OUT,
    PLACEHOLDER,
    ContextFull,
    Conversation,
    reserve,
    result_limit,
)

SMALL = ModelInfo("small", 2000)


def _turn(conversation: Conversation, prompt: str, *results: str) -> None:
    conversation.begin(prompt)
    for n, result in enumerate(results):
        use = ToolUse(f"c{n}", "read", {"path": "a"})
        conversation.append(Assistant(tool_uses=(use,)), ToolResult(use.id, use.name, result))
    conversation.append(Assistant("Done."))


def test_what_fits_is_shown_unchanged_from_the_system_prompt_on() -> None:
    conversation = Conversation("Be kind.")
    _turn(conversation, "one", "result")
    assert conversation.fit(SMALL, []) == [System("Be kind."), *conversation.messages]


def test_on_overflow_the_oldest_results_go_first_and_stay_gone() -> None:
    conversation = Conversation("s")
    _turn(conversation, "one", "a" * 2000, "b" * 2000, "c" * 1200)
    conversation.begin("two")
    results = [m.text[0] for m in conversation.fit(SMALL, []) if isinstance(m, ToolResult)]
    assert results == [PLACEHOLDER[0], "b", "c"] or results == [PLACEHOLDER[0], PLACEHOLDER[0], "c"]
    assert conversation.fit(SMALL, []) == conversation.fit(SMALL, [])


def test_the_results_of_the_last_step_are_never_left_out() -> None:
    conversation = Conversation("s")
    conversation.begin("one")
    for name in "abc":
        use = ToolUse(name, "read")
        conversation.append(Assistant(tool_uses=(use,)), ToolResult(name, "read", name * 2500))
    shown = conversation.fit(SMALL, [])
    assert shown[-1] == ToolResult("c", "read", "c" * 2500)


def test_when_results_are_not_enough_whole_turns_are_left_out_with_a_note() -> None:
    conversation = Conversation("s")
    for n in range(20):
        _turn(conversation, f"{n} " + "x" * 500)
    conversation.begin("last")
    shown = conversation.fit(SMALL, [])
    assert shown[:2] == [System("s"), System(LEFT_OUT)]
    assert isinstance(shown[2], User)
    assert shown[-1] == User("last")
    assert len(conversation.messages) == 41  # nothing is forgotten, only not shown


def test_a_prompt_that_cannot_fit_says_how_much_there_is_and_may_be() -> None:
    conversation = Conversation("s")
    conversation.begin("x" * 1_000_000)
    with pytest.raises(ContextFull) as full:
        conversation.fit(SMALL, [])
    assert full.value.available == 1500
    assert 280_000 < full.value.needed < 290_000


def test_checking_a_prompt_that_is_too_long_leaves_the_history_as_it_was() -> None:
    conversation = Conversation("s")
    _turn(conversation, "one", "a" * 3000)
    before = list(conversation.messages)
    with pytest.raises(ContextFull):
        conversation.check("x" * 1_000_000, SMALL, [])
    assert conversation.messages == before
    conversation.check("x", SMALL, [])


def test_the_backends_count_corrects_the_estimate() -> None:
    conversation = Conversation("s")
    conversation.begin("x" * 4000)
    conversation.fit(SMALL, [])
    conversation.counted(Usage(input=4000))  # one token a byte, not 3.5 bytes a token
    with pytest.raises(ContextFull):
        conversation.fit(SMALL, [])


def test_a_turn_without_an_answer_can_be_forgotten_and_one_with_an_answer_cannot() -> None:
    conversation = Conversation("s")
    _turn(conversation, "one", "r")
    before = list(conversation.messages)
    conversation.abandon_turn()
    assert conversation.messages == before
    conversation.begin("two")
    conversation.append(System("nudge"))
    conversation.abandon_turn()
    assert conversation.messages == before


def test_limits_follow_the_window() -> None:
    assert result_limit(ModelInfo("m", 131072)) == 32768
    assert result_limit(ModelInfo("m", 4096)) == 1474
    assert reserve(ModelInfo("m", 131072)) == 8192
    assert reserve(ModelInfo("m", 4096)) == 1024


@given(st.lists(st.lists(st.integers(0, 1500), max_size=4), max_size=8), st.integers(200, 4000))
def test_whatever_is_shown_fits_begins_with_the_system_prompt_and_keeps_calls_with_their_results(
    turns: list[list[int]], size: int
) -> None:
    conversation = Conversation("s")
    for n, results in enumerate(turns):
        _turn(conversation, f"prompt {n}", *("r" * length for length in results))
    conversation.begin("now")
    info = ModelInfo("m", size)
    shown = conversation.fit(info, [])
    total = sum(len(m.text.encode()) for m in shown)
    assert total <= (size - reserve(info)) * info.bytes_per_token + len(LEFT_OUT)
    assert shown[0] == System("s")
    assert shown[-1] == User("now")
    _check_pairs(shown)


def _check_pairs(shown: list[Message]) -> None:
    for before, message in pairwise(shown):
        if isinstance(message, ToolResult):
            assert isinstance(before, Assistant)
            assert [use.id for use in before.tool_uses] == [message.tool_use_id]
