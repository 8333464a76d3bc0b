"""A session's log: what is written can be read, and what is read is fit to go on with."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from update_values import version_2

from acp.json_text import dumps, loads
from acp.updates import (
    ContextUsage,
    Message,
    MessageChunk,
    Notice,
    Plan,
    PlanEntry,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    Update,
)
from acp_server import model
from acp_server.storage.history import LOST, Recorder, entry_of, messages_of, settings_of, turns_of, updates_of
from acp_server.storage.record import from_json, to_json


@settings(max_examples=200, deadline=None)
@given(version_2)
def test_every_update_comes_back_from_its_json(update: Update) -> None:
    assert from_json(loads(dumps(to_json(update)))) == update


def test_every_message_comes_back_from_its_json() -> None:
    messages: tuple[model.Message, ...] = (
        model.System("be good"),
        model.User("hi\n"),
        model.Assistant("a", "b", (model.ToolUse("1", "read", {"path": "x", "=": [1]}),), "step"),
        model.ToolResult("1", "read", "text", failed=True),
    )
    assert from_json(loads(dumps(to_json(messages)))) == messages


def entries_of(*updates: Update) -> list[dict[str, object]]:
    return [dict(entry) for update in updates if (entry := entry_of(update)) is not None]


def test_chunks_are_replayed_as_the_message_they_made() -> None:
    said = entries_of(
        Message("user", "t1.u", (TextBlock("do it"),)),
        MessageChunk("thought", TextBlock("hm"), "t1.m.1"),
        MessageChunk("agent", TextBlock("Hel"), "t1.m.2"),
        MessageChunk("agent", TextBlock("lo"), "t1.m.2"),
    )
    assert updates_of(said) == [
        Message("user", "t1.u", (TextBlock("do it"),)),
        Message("thought", "t1.m.1", (TextBlock("hm"),)),
        Message("agent", "t1.m.2", (TextBlock("Hello"),)),
    ]
    assert turns_of(said) == 1


def test_a_call_is_replayed_as_it_ended_where_it_began() -> None:
    said = entries_of(
        ToolCall("1", "Read", "read"),
        MessageChunk("agent", TextBlock("x"), "m"),
        ToolCallUpdate("1", status="in_progress"),
        ToolCallUpdate("1", content=()),
        ToolCallUpdate("1", status="completed", raw_output=3),
        ToolCall("2", "Run", "execute"),
    )
    first, _, second = updates_of(said)
    assert first == ToolCall("1", "Read", "read", "completed", raw_output=3)
    assert second == ToolCall("2", "Run", "execute", "failed")


def test_notices_and_progress_are_no_history_and_of_plans_and_usage_the_last_counts() -> None:
    said = entries_of(
        Notice("info", "hi"),
        Plan((PlanEntry("a"),)),
        ContextUsage(1, 10),
        Plan(()),
        ContextUsage(2, 10),
    )
    assert updates_of(said) == [Plan(()), ContextUsage(2, 10)]


def test_a_tool_use_whose_result_was_lost_has_one_that_says_so() -> None:
    use = model.ToolUse("1", "shell", {"cmd": "ls"})
    entries = Recorder().entries_of([model.User("go"), model.Assistant("", "", (use,), "step")])
    assert messages_of(entries) == [
        model.User("go"),
        model.Assistant("", "", (use,)),
        model.ToolResult("1", "shell", LOST, failed=True),
    ]


texts = st.lists(st.sampled_from("abc"), max_size=4)


@given(st.lists(texts, max_size=6))
def test_the_messages_kept_are_those_of_the_last_time_however_they_grew_and_shrank(states: list[list[str]]) -> None:
    recorder, entries, now = Recorder(), [], []
    for state in states:
        shared = 0  # a conversation is only ever cut back or added to
        while shared < min(len(now), len(state)) and now[shared] == state[shared]:
            shared += 1
        entries += recorder.entries_of([model.User(text) for text in now[:shared]])
        entries += recorder.entries_of([model.User(text) for text in state])
        now = state
    assert messages_of(entries) == [model.User(text) for text in now]


def test_an_option_has_the_value_that_was_set_last() -> None:
    assert settings_of([{"setting": "mode", "value": "ask"}, {"update": {}}, {"setting": "mode", "value": "all"}]) == {
        "mode": "all"
    }


def test_an_entry_of_a_kind_that_we_never_wrote_is_left_out() -> None:
    entries = [{"update": {"=": "Martian"}}, {"update": {"=": "Plan", "entries": [], "colour": 1}}, {"news": 1}]
    assert updates_of(entries) == []
