"""A session's log: what is written can be read, and what is read is fit to go on with."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from update_values import version_2

from acp.json_text import dumps, loads
from acp.updates import (
    Compaction,
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
from acp_server.storage.history import (
    CUT_SHORT,
    LOST,
    MARK,
    Recorder,
    began,
    copied,
    ended,
    entry_of,
    fate_of,
    last_words,
    messages_of,
    settings_of,
    summary_of,
    turns_of,
    updates_of,
)
from acp_server.storage.record import LONGEST_CHUNK, from_json, joined, to_json
from acp_server.storage.store import Entry


@settings(max_examples=200)
@given(version_2)
def test_every_update_comes_back_from_its_json(update: Update) -> None:
    assert from_json(loads(dumps(to_json(update)))) == update


def test_a_chunk_of_plain_text_is_recorded_as_any_other_update_is() -> None:
    chunk = MessageChunk("thought", TextBlock("hm"), "t1.m1")
    plain = {"=": "MessageChunk", "role": "thought", "content": {"=": "TextBlock", "text": "hm"}, "message_id": "t1.m1"}
    assert to_json(chunk) == plain
    assert to_json(replace(chunk, extra={"a": 1})) == plain | {"extra": {"a": 1}}
    assert to_json(replace(chunk, message_id=None)) == {key: plain[key] for key in ("=", "role", "content")}


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


chunks = st.builds(
    MessageChunk,
    st.sampled_from(["agent", "thought"]),
    st.builds(TextBlock, st.sampled_from(["a", "bc", "\n", "x" * 700]), st.sampled_from([{}, {"annotations": {}}])),
    st.sampled_from(["m.1", "m.2"]),
)


@given(st.lists(st.one_of(chunks, st.just(ToolCall("1", "Read", "read")))))
def test_entries_that_are_joined_tell_the_same_history(updates: list[Update]) -> None:
    apart, together = entries_of(*updates), list[Entry]()
    for entry in apart:
        if together and (both := joined(together[-1], entry)) is not None:
            together[-1] = both
        else:
            together.append(entry)
    assert updates_of(together) == updates_of(apart)


def test_entries_are_joined_up_to_a_length() -> None:
    [entry] = entries_of(MessageChunk("agent", TextBlock("x" * LONGEST_CHUNK), "m"))
    [short] = entries_of(MessageChunk("agent", TextBlock("x"), "m"))
    assert joined(entry, short) is None
    assert joined(short, entry) == entries_of(MessageChunk("agent", TextBlock("x" * (LONGEST_CHUNK + 1)), "m"))[0]
    assert joined({"kept": 1}, short) is None


def test_what_became_of_a_prompt_is_known_by_its_name() -> None:
    assert fate_of([]) == {"prompt": None, "running": False}
    first = [began("p1"), ended({"stopReason": "end_turn"})]
    assert fate_of(first) == {"prompt": "p1", "running": False, "stopReason": "end_turn"}
    assert fate_of([*first, {"kept": 1}, began("p2")]) == {"prompt": "p2", "running": False}
    assert fate_of(copied([*first, {"kept": 1}])) == {"prompt": None, "running": False}


def test_a_turn_whose_process_died_is_ended_truthfully() -> None:
    use = model.ToolUse("1", "shell", {"cmd": "ls"})
    recorder = Recorder()
    said = [model.User("go"), model.Assistant("Let me look.", "", (use,))]
    entries = [
        began("p1"),
        *entries_of(
            Message("user", "t1.u", (TextBlock("go"),)), MessageChunk("agent", TextBlock("Let me look."), "t1.1")
        ),
        *recorder.entries_of(said),
        *entries_of(ToolCall("t1.1", "Run", "execute"), MessageChunk("thought", TextBlock("hm"), "t1.2")),
        *entries_of(MessageChunk("agent", TextBlock("Now "), "t1.3"), MessageChunk("agent", TextBlock("I"), "t1.3")),
    ]
    entries += last_words(entries)
    assert last_words(entries) == []
    assert fate_of(entries) == {"prompt": "p1", "running": False, "error": {"code": -32603, "message": CUT_SHORT}}
    assert messages_of(entries) == [
        *said,
        model.ToolResult("1", "shell", LOST, failed=True),
        model.Assistant(f"Now I\n{MARK}", "hm"),
    ]
    shown = updates_of(entries)
    assert shown[-1] == Message("agent", "t1.cut", (TextBlock(CUT_SHORT),))
    assert [call.status for call in shown if isinstance(call, ToolCall)] == ["failed"]


def test_a_prompt_to_which_nothing_was_said_yet_is_not_forgotten() -> None:
    entries = [began(None), *entries_of(Message("user", "t1.u", (TextBlock("go"), TextBlock("on"))))]
    assert messages_of([*entries, *last_words(entries)]) == [model.User("go\non"), model.Assistant(MARK)]


def test_a_compaction_that_was_cut_short_is_told_to_the_user_and_leaves_the_model_nothing() -> None:
    asked = entries_of(Message("user", "t1.u", (TextBlock("/compact the\nnames"),)), Compaction("t1.s1", "in_progress"))
    entries = [began("p"), *asked]
    entries += last_words(entries)
    assert messages_of(entries) == []
    assert fate_of(entries)["error"] == {"code": -32603, "message": CUT_SHORT}
    assert updates_of(entries)[-1] == Message("agent", "t1.cut", (TextBlock(CUT_SHORT),))


def test_a_turn_that_ended_needs_no_last_words_and_neither_does_a_log_of_before_there_were_any() -> None:
    said = entries_of(Message("user", "t1.u", (TextBlock("go"),)))
    assert last_words([began("p"), *said, ended({"stopReason": "cancelled"})]) == []
    assert last_words(said) == []


@given(st.lists(st.lists(st.sampled_from(["say", "call", "answer", "die"]), max_size=6), max_size=4))
def test_a_log_read_by_several_processes_in_turn_repeats_no_message(lives: list[list[str]]) -> None:
    """Each writes what it adds to what it has read; one that died in the middle of a call left it without a result."""
    entries: list[Entry] = []
    said: list[str] = []
    for life, steps in enumerate(lives):
        messages, recorder = messages_of(entries), Recorder(entries)
        for n, step in enumerate(steps):
            id = f"{life}.{n}"
            match step:
                case "say":
                    messages.append(model.User(id))
                case "call":
                    messages.append(model.Assistant(id, tool_uses=(model.ToolUse(id, "read"),)))
                case "answer":
                    messages.append(model.Assistant(id))
                case _:
                    break
            said.append(id)
            entries += recorder.entries_of(messages)
            if step == "call":
                messages.append(model.ToolResult(id, "read", "text"))
    assert [m.text for m in messages_of(entries) if not isinstance(m, model.ToolResult)] == said


def test_the_last_summary_counts_and_is_kept_once() -> None:
    messages = [model.User(str(n)) for n in range(4)]
    recorder = Recorder()
    first, second = model.Summary(2, "a"), model.Summary(3, "b")
    entries = [*recorder.entries_of(messages), *recorder.entries_of(messages, first)]
    assert summary_of(entries) == first
    assert recorder.entries_of(messages, first) == []
    assert Recorder(entries).entries_of(messages, first) == []
    entries += recorder.entries_of(messages, second)
    assert summary_of(loads(dumps(entries))) == second
    assert summary_of(copied(entries)) == second
    assert summary_of([]) is None


def test_a_compaction_that_nobody_lived_to_end_has_failed_unless_its_turn_goes_on() -> None:
    said = entries_of(Message("user", "t1.u", (TextBlock("/compact"),)), Compaction("t1.s1", "in_progress"))
    assert updates_of(said)[1] == Compaction("t1.s1", "failed")
    assert updates_of(said, running=True)[1] == Compaction("t1.s1", "in_progress")
    ended = Compaction("t1.s1", "completed", (TextBlock("It went well."),))
    assert updates_of([*said, *entries_of(ended)])[1] == ended
