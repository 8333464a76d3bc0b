"""What of a history is shown when the window is small."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp_server.model import Assistant, Message, ModelInfo, Summary, System, ToolResult, ToolUse, Usage, User
from acp_server.turn.carried import LEAST, carried
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


# Summaries ----------------------------------------------------------------------------------------

_TURNS = st.lists(st.lists(st.integers(0, 1500), max_size=4), min_size=1, max_size=8)


def _talk(turns: list[list[int]]) -> Conversation:
    conversation = Conversation("s")
    for n, results in enumerate(turns):
        _turn(conversation, f"prompt {n}", *("r" * length for length in results))
    return conversation


@given(_TURNS, st.integers(500, 4000), st.sampled_from([0.0, 0.25]), st.booleans())
def test_a_summary_covers_whole_steps_and_what_the_user_said_is_shown_with_it(
    turns: list[list[int]], size: int, share: float, prompted: bool
) -> None:
    conversation, info = _talk(turns), ModelInfo("m", size)
    if prompted:
        conversation.begin("now")
    before = list(conversation.messages)
    first = conversation.spared(info, share)
    assert 0 < first < len(before)
    assert isinstance(before[first], User | Assistant)
    conversation.summarised(Summary(first, "It went well."))
    assert conversation.messages == before
    system, head, *rest = conversation.fit(info, [])
    assert system == System("s")
    assert isinstance(head, User)
    assert "It went well." in head.text
    assert all(m.text in head.text for m in before[:first] if isinstance(m, User))
    assert rest == conversation.messages[first:]
    assert rest[-1] == before[-1]
    _check_pairs(rest)
    spared = sum(len(m.text) for m in before[first:])
    last_step = max(i for i, m in enumerate(before) if isinstance(m, User | Assistant))
    assert first == last_step or spared <= share * (size - reserve(info)) * info.bytes_per_token


@given(_TURNS, st.integers(500, 4000), st.integers(100, 300))
def test_what_is_shown_to_be_summarised_leaves_room_for_the_summary(
    turns: list[list[int]], size: int, answer: int
) -> None:
    conversation, info, request = _talk(turns), ModelInfo("m", size), User("summarise")
    end = conversation.spared(info, 0.25)
    shown = conversation.past(info, [], end, request, answer)
    assert (shown[0], shown[-1]) == (System("s"), request)
    assert sum(len(m.text) for m in shown) <= (size - answer) * info.bytes_per_token
    kept = shown[1:-1]
    assert kept == conversation.messages[end - len(kept) : end]
    assert not kept or not isinstance(kept[0], ToolResult)


def test_what_is_left_after_a_summary_is_estimated_by_what_was_counted() -> None:
    conversation, info = _talk([[1000] * 4] * 3), ModelInfo("m", 100_000, bytes_per_token=2.0)
    conversation.fit(info, [])
    conversation.counted(Usage(input=2000))  # about six bytes a token, not two
    before = conversation.tokens(info, [])
    conversation.summarised(Summary(conversation.spared(info, 0.0), "It went well."))
    assert 0 < conversation.tokens(info, []) < before == 2000


def test_a_second_summary_still_has_what_the_user_said_before_the_first() -> None:
    conversation = Conversation("s")
    for n in range(6):
        _turn(conversation, f"prompt {n}")
        conversation.summarised(Summary(conversation.spared(SMALL, 0.0), f"summary {n}"))
    head = conversation.fit(SMALL, [])[1]
    assert all(f"prompt {n}" in head.text for n in range(6))
    assert "summary 5" in head.text
    assert "summary 4" not in head.text


def test_the_plan_and_the_files_that_were_changed_are_carried_over() -> None:
    uses = (
        ToolUse("1", "edit", {"path": "a.py", "old_string": "x", "new_string": "y"}),
        ToolUse("2", "write", {"path": "b.py", "content": "z"}),
        ToolUse("3", "todo_action", {"todos": "[ ] first"}),
        ToolUse("4", "todo_action", {"todos": "[x] second"}),
        ToolUse("5", "edit", {"path": "a.py"}),
        ToolUse("6", "read", {"path": "c.py"}),
    )
    text = carried([User("go"), Assistant(tool_uses=uses)], "All is well.", 10_000)
    assert "a.py\nb.py\n" in text
    assert "c.py" not in text
    assert "[x] second" in text
    assert "[ ] first" not in text
    assert text.endswith("All is well.")


@given(st.lists(st.text(max_size=3000), min_size=1, max_size=30), st.integers(2000, 20_000))
def test_of_what_the_user_said_short_texts_stay_whole_and_long_ones_share_the_rest(said: list[str], room: int) -> None:
    text = carried([User(each) for each in said], "", room)
    assert len(text) <= max(room, LEAST) + 200 + 10 * len(said)
    if sum(map(len, said)) <= room:
        assert all(each in text for each in said)
    assert said[-1][:50] in text
