"""What may happen when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.errors import LocalProtocolError, RemoteProtocolError
from acp.states import CONNECTION, SESSION, TERMINAL, TOOL_CALL, Calls, Table, moved, session_move
from acp.updates import ActionRequired, TextBlock, ToolCall, ToolCallUpdate, TurnEnded, TurnStarted
from acp.updates import MessageChunk as Chunk

TABLES = [CONNECTION, SESSION, TOOL_CALL, TERMINAL]


@pytest.mark.parametrize("table", TABLES)
def test_every_state_that_a_move_leads_to_is_in_the_table(table: Table) -> None:
    assert {after for moves in table.values() for after in moves.values()} <= table.keys()


@pytest.mark.parametrize("table", TABLES)
def test_every_state_can_be_reached_from_the_first(table: Table) -> None:
    reached = {next(iter(table))}
    while more := {after for state in reached for after in table[state].values()} - reached:
        reached |= more
    assert reached == set(table)


def test_a_move_that_is_not_allowed_says_whose_fault_it_is() -> None:
    with pytest.raises(LocalProtocolError, match="tool call 'c' cannot change: it is over"):
        moved(TOOL_CALL, "over", "change", "tool call 'c'")
    with pytest.raises(RemoteProtocolError, match="the connection cannot initialize 1"):
        moved(CONNECTION, "version 1", "initialize 1", "the connection", blame="peer")


def test_a_call_is_announced_once_and_ends_once() -> None:
    calls = Calls()
    with pytest.raises(LocalProtocolError, match="is unknown"):
        calls.follow(ToolCallUpdate("c", status="completed"))
    calls.follow(ToolCall("c", "Read"))
    with pytest.raises(LocalProtocolError, match="cannot announce"):
        calls.follow(ToolCall("c", "Read"))
    calls.follow(ToolCallUpdate("c", title="Read a"))
    calls.follow(ToolCallUpdate("c", status="failed"))
    with pytest.raises(RemoteProtocolError, match="cannot end"):
        calls.follow(ToolCallUpdate("c", status="completed"), blame="peer")
    calls.follow(ToolCall("d", "Done", status="completed"))
    with pytest.raises(LocalProtocolError, match="is over"):
        calls.follow(ToolCallUpdate("d", title="x"))


@given(st.lists(st.integers(0, 30), max_size=60))
def test_no_more_calls_are_remembered_than_asked_for(ids: list[int]) -> None:
    calls = Calls(most=5)
    for id in dict.fromkeys(ids):
        calls.follow(ToolCall(str(id), ""))
    assert len(calls._states) <= 5


def test_updates_move_a_session_as_they_say() -> None:
    state = "idle"
    for update in (TurnEnded(None), TurnStarted(), ActionRequired(), TurnStarted(), TurnEnded("end_turn")):
        move = session_move(update)
        assert move is not None
        state = moved(SESSION, state, move, "the session")
    assert state == "idle"
    assert session_move(Chunk("agent", TextBlock("x"))) is None
    with pytest.raises(LocalProtocolError):
        moved(SESSION, "idle", "end", "the session")
