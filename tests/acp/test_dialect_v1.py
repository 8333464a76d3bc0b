"""The v1 dialect: what it can say comes back unchanged, and what it does not know is not lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acp.dialect import DIALECTS, V1, agreed, negotiate
from acp.errors import NegotiationError
from acp.updates import (
    UNSET,
    BlockContent,
    ContextUsage,
    Diff,
    Location,
    MessageChunk,
    Other,
    OtherBlock,
    OtherContent,
    Plan,
    PlanEntry,
    TerminalRef,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    TurnEnded,
    TurnStarted,
    Update,
)
from acp.v1.schema import SessionNotification, UnknownSessionUpdate

words = st.text(max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
extra = st.just({}) | st.fixed_dictionaries({"_meta": st.dictionaries(words, json_values, max_size=2)})
unknown_fields = st.just({}) | st.dictionaries(words.map(lambda name: f"x-{name}"), json_values, max_size=2)
meta = st.none() | st.dictionaries(words, json_values, max_size=2)
numbers = st.integers(0, 2**32 - 1)
blocks = st.builds(TextBlock, words, extra=extra) | st.builds(
    OtherBlock,
    st.fixed_dictionaries({"type": st.just("image"), "data": words, "mimeType": words})
    | st.fixed_dictionaries({"type": st.just("hologram"), "depth": json_values}),
)
contents = st.one_of(
    st.builds(BlockContent, blocks, extra=extra),
    st.builds(Diff, words, words, st.none() | words, extra=extra),
    st.builds(TerminalRef, words, extra=extra),
    st.builds(OtherContent, st.fixed_dictionaries({"type": st.just("chart"), "rows": json_values})),
)
locations = st.builds(Location, words, st.none() | numbers, extra=extra)
kinds = st.sampled_from(["read", "edit", "delete", "execute", "other"])
statuses = st.sampled_from(["pending", "in_progress", "completed", "failed"])
unset = st.just(UNSET)
raws = unset | json_values
lists_of = {
    "content": st.lists(contents, max_size=2).map(tuple),
    "locations": st.lists(locations, max_size=2).map(tuple),
}
calls = st.builds(
    ToolCall, words, words, kinds, statuses, lists_of["content"], lists_of["locations"], raws, raws,
    st.none() | words, meta, unknown_fields,
)  # fmt: skip
optional = {"title": words, "kind": kinds, "status": statuses, "name": words, **lists_of}
call_updates = st.builds(
    ToolCallUpdate,
    words,
    raw_input=raws,
    raw_output=raws,
    meta=meta,
    extra=unknown_fields,
    **{name: unset | st.none() | values for name, values in optional.items()},
)
entries = st.builds(
    PlanEntry,
    words,
    st.sampled_from(["high", "medium", "low"]),
    st.sampled_from(["pending", "in_progress", "completed"]),
    extra=extra,
)
roles = st.sampled_from(["user", "agent", "thought"])
modes = st.fixed_dictionaries({"sessionUpdate": st.just("current_mode_update"), "currentModeId": words})
dreams = st.fixed_dictionaries({"sessionUpdate": st.just("dream"), "about": json_values})
updates: st.SearchStrategy[Update] = st.one_of(
    st.builds(MessageChunk, roles, blocks, st.none() | words, extra=extra),
    calls,
    call_updates,
    st.builds(Plan, st.lists(entries, max_size=2).map(tuple), extra=extra),
    st.builds(ContextUsage, numbers, numbers, extra=extra),
    st.builds(Other, modes | dreams),
)


def over_the_wire(update: Any) -> Any:
    """The update as the other side decodes it, by way of its JSON value."""
    sent = SessionNotification(session_id="s", update=update).encode()
    return SessionNotification.decode(sent).update


@settings(max_examples=150, deadline=None)
@given(updates)
def test_what_v1_can_say_comes_back_unchanged(update: Update) -> None:
    (wire,) = V1.encode(update)
    assert V1.decode(over_the_wire(wire)) == update


@settings(max_examples=100, deadline=None)
@given(updates)
def test_what_was_received_is_sent_on_as_it_came(update: Update) -> None:
    (wire,) = V1.encode(update)
    (again,) = V1.encode(V1.decode(over_the_wire(wire)))
    assert again.encode() == wire.encode()


@pytest.mark.parametrize("update", [TurnStarted(), TurnEnded("end_turn")])
def test_the_beginning_and_the_end_of_a_turn_have_no_update_in_v1(update: Update) -> None:
    assert list(V1.encode(update)) == []


def test_statuses_that_v1_lacks_become_the_nearest_it_has() -> None:
    def status(update: Update) -> str:
        (wire,) = V1.encode(update)
        return wire.encode()["status"]

    assert status(ToolCallUpdate("1", status="cancelled")) == "failed"
    assert status(ToolCall("1", "t", status="paused")) == "pending"


def test_a_cancelled_entry_leaves_the_plan() -> None:
    (wire,) = V1.encode(Plan((PlanEntry("a"), PlanEntry("b", status="cancelled"))))
    assert [entry["content"] for entry in wire.encode()["entries"]] == ["a"]


def test_an_omitted_field_of_an_update_stays_omitted_and_null_stays_null() -> None:
    (wire,) = V1.encode(ToolCallUpdate("1", title=None))
    assert wire.encode() == {"sessionUpdate": "tool_call_update", "toolCallId": "1", "title": None}


def test_an_update_of_an_unknown_kind_survives() -> None:
    raw = {"sessionUpdate": "weather", "sky": ["blue", None], "_meta": {"a": 1}}
    wire = SessionNotification.decode({"sessionId": "s", "update": raw}).update
    assert isinstance(wire, UnknownSessionUpdate)
    assert V1.decode(wire) == Other(raw)


def test_the_version_asked_for_is_chosen_and_otherwise_our_latest() -> None:
    assert negotiate(1) is V1
    assert negotiate(65535) is DIALECTS[max(DIALECTS)]
    assert agreed(1) is V1
    with pytest.raises(NegotiationError, match="version 9; this client speaks 1"):
        agreed(9)
