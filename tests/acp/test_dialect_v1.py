"""The v1 dialect: what it can say comes back unchanged, and what it does not know is not lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from update_values import (
    blocks,
    both_versions,
    call_updates,
    calls,
    contents,
    entries,
    extra,
    json_values,
    roles,
    subagents,
    words,
)

from acp.dialect import DIALECTS
from acp.updates import (
    Changes,
    FileChange,
    Message,
    MessageChunk,
    ModeChanged,
    Other,
    Plan,
    PlanEntry,
    Terminal,
    TerminalChunk,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    ToolContentChunk,
    TurnEnded,
    TurnStarted,
    Update,
)
from acp.v1.dialect import ReportV1
from acp.v1.schema import SessionNotification, UnknownSessionUpdate

dreams = st.fixed_dictionaries({"sessionUpdate": st.just("dream"), "about": json_values})
updates: st.SearchStrategy[Update] = st.one_of(
    st.builds(MessageChunk, roles, blocks, st.none() | words, extra=extra),
    calls,
    call_updates,
    st.builds(Plan, st.lists(entries, max_size=2).map(tuple), extra=extra),
    st.builds(ModeChanged, words, extra=extra),
    st.builds(Other, dreams),
    st.builds(Plan, st.lists(entries, max_size=2).map(tuple), words, extra=extra),
    subagents(st.none()),
    both_versions,
)


def over_the_wire(update: Any) -> Any:
    """The update as the other side decodes it, by way of its JSON value."""
    sent = SessionNotification(session_id="s", update=update).encode()
    return SessionNotification.decode(sent).update


@settings(max_examples=150)
@given(updates)
def test_what_v1_can_say_comes_back_unchanged(update: Update) -> None:
    (wire,) = DIALECTS[1].encode(update)
    assert DIALECTS[1].decode(over_the_wire(wire)) == update


@settings(max_examples=100)
@given(updates)
def test_what_was_received_is_sent_on_as_it_came(update: Update) -> None:
    (wire,) = DIALECTS[1].encode(update)
    (again,) = DIALECTS[1].encode(DIALECTS[1].decode(over_the_wire(wire)))
    assert again.encode() == wire.encode()


@pytest.mark.parametrize("update", [TurnStarted(), TurnEnded("end_turn")])
def test_the_beginning_and_the_end_of_a_turn_have_no_update_in_v1(update: Update) -> None:
    assert list(DIALECTS[1].encode(update)) == []


@given(contents)
def test_what_only_v2_has_a_word_for_is_not_said(content: ToolContent) -> None:
    for update in (ToolContentChunk("1", content), Terminal("t"), TerminalChunk("t", "aGk=")):
        assert list(DIALECTS[1].encode(update)) == []


def test_a_whole_message_is_said_as_chunks_and_changes_as_their_patch() -> None:
    said = [
        DIALECTS[1].decode(wire) for wire in DIALECTS[1].encode(Message("user", "m", (TextBlock("a"), TextBlock("b"))))
    ]
    assert said == [MessageChunk("user", TextBlock(text), "m") for text in "ab"]
    changes = Changes((FileChange("delete", "/a"),), "--- /a\n+++ /dev/null\n")
    (wire,) = DIALECTS[1].encode(ToolCallUpdate("1", content=(changes,)))
    assert wire.encode()["content"] == [{"type": "content", "content": {"type": "text", "text": changes.patch}}]


def test_statuses_that_v1_lacks_become_the_nearest_it_has() -> None:
    def status(update: Update) -> str:
        (wire,) = DIALECTS[1].encode(update)
        return wire.encode()["status"]

    assert status(ToolCallUpdate("1", status="cancelled")) == "failed"
    assert status(ToolCall("1", "t", status="paused")) == "pending"


def test_a_cancelled_entry_leaves_the_plan() -> None:
    (wire,) = DIALECTS[1].encode(Plan((PlanEntry("a"), PlanEntry("b", status="cancelled"))))
    assert [entry["content"] for entry in wire.encode()["entries"]] == ["a"]


def test_an_omitted_field_of_an_update_stays_omitted_and_null_stays_null() -> None:
    (wire,) = DIALECTS[1].encode(ToolCallUpdate("1", title=None))
    assert wire.encode() == {"sessionUpdate": "tool_call_update", "toolCallId": "1", "title": None}


def test_an_update_of_an_unknown_kind_survives() -> None:
    raw = {"sessionUpdate": "weather", "sky": ["blue", None], "_meta": {"a": 1}}
    wire = SessionNotification.decode({"sessionId": "s", "update": raw}).update
    assert isinstance(wire, UnknownSessionUpdate)
    assert DIALECTS[1].decode(wire) == Other(raw)


chunks = st.builds(MessageChunk, roles, st.builds(TextBlock, words), st.none() | words)


@settings(max_examples=200)
@given(updates | chunks, extra)
def test_a_report_is_the_notification_whichever_way_it_is_written_and_read(
    update: Update, beside: dict[str, Any]
) -> None:
    (model,) = DIALECTS[1].encode(update)
    slow = SessionNotification(session_id="s", update=model).encode() | beside
    report = ReportV1("s", update, beside)
    assert report.encode() == slow
    heard = ReportV1.decode(slow)
    assert heard == report
    assert heard.update == DIALECTS[1].decode(SessionNotification.decode(slow).update)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"sessionId": "s", "update": 3},
        {"sessionId": 3, "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}}},
        {"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": 3}}},
        {"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text"}}},
        {"sessionId": "s", "update": {"sessionUpdate": ["x"], "content": {"type": "text", "text": "x"}}},
    ],
)
def test_a_report_that_does_not_fit_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReportV1.decode(params)
