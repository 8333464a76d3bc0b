"""A session as it stands, after any updates."""

from __future__ import annotations

import base64
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from update_values import calls, version_2

from acp.updates import (
    ActionRequired,
    BlockContent,
    Command,
    Commands,
    Compaction,
    CompactionChunk,
    ExitStatus,
    Message,
    MessageChunk,
    Notice,
    Other,
    OtherBlock,
    Plan,
    PlanFile,
    PlanRemoved,
    PlanText,
    SessionInfo,
    SessionMessage,
    SessionMessageChunk,
    StateUnknown,
    Subagent,
    Terminal,
    TerminalChunk,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContentChunk,
    TurnEnded,
    TurnStarted,
    Update,
    Work,
)
from acp_client.ledger import MOST_NOTICES, MOST_OUTPUT, RUN, Ledger
from acp_client.snapshot import Change, PassedMessage, ShownSubagent, Snapshot, Summary


def after(*updates: Update) -> Snapshot:
    ledger = Ledger()
    for update in updates:
        ledger.apply(update)
    return ledger.snapshot


def chunk(text: str, id: str | None = "m", role: str = "agent") -> MessageChunk:
    return MessageChunk(role, TextBlock(text), id)  # type: ignore[arg-type]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@given(st.lists(st.text(max_size=3), max_size=8))
def test_a_text_is_the_same_however_it_was_cut(parts: list[str]) -> None:
    said = after(*(chunk(part) for part in parts))
    assert "".join(parts) == (said.messages["m"].text if parts else "")
    assert len(said.messages) == (1 if parts else 0)


def test_a_whole_message_replaces_and_chunks_go_on_from_there() -> None:
    image = OtherBlock({"type": "image", "data": "x"})
    said = after(
        chunk("old"), Message("agent", "m", (TextBlock("new"),)), chunk("er"), MessageChunk("agent", image, "m")
    )
    assert said.messages["m"].content == (TextBlock("newer"), image)
    assert after(chunk("old"), Message("agent", "m")).messages["m"].text == "old"
    assert after(chunk("old"), Message("agent", "m", None)).messages["m"].content == ()


def test_chunks_without_ids_join_while_one_role_speaks() -> None:
    said = after(
        chunk("a", None), chunk("b", None), chunk("c", None, "thought"), ToolCall("t", "T"), chunk("d", None, "thought")
    )
    assert [message.text for message in said.messages.values()] == ["ab", "c", "d"]
    assert [kind for kind, _ in said.order] == ["message", "message", "call", "message"]


def test_a_call_is_patched_field_by_field_and_its_content_grows() -> None:
    shown = BlockContent(TextBlock("x"))
    said = after(
        ToolCall("t", "T", "read"),
        ToolCallUpdate("t", status="in_progress", raw_input={"a": 1}),
        ToolContentChunk("t", shown),
        ToolContentChunk("t", shown),
        ToolCallUpdate("t", kind=None),
    )
    assert said.calls["t"] == ToolCall("t", "T", "other", "in_progress", (shown, shown), raw_input={"a": 1})


def test_a_terminals_output_is_decoded_piece_by_piece_and_its_end_is_kept() -> None:
    pieces = [TerminalChunk("t", encoded("ä".encode()[:1])), TerminalChunk("t", encoded("ä".encode()[1:]))]
    said = after(
        Terminal("t", "ls", "/w"), *pieces, TerminalChunk("t", "!not base64!"), Terminal("t", exit=ExitStatus(0))
    )
    terminal = said.terminals["t"]
    assert (terminal.command, terminal.output.decode(), terminal.exit, terminal.cut) == (
        "ls",
        "ä",
        ExitStatus(0),
        False,
    )
    assert after(*pieces, Terminal("t", output=encoded(b"new"))).terminals["t"].output == b"new"
    long = after(TerminalChunk("t", encoded(b"a" * MOST_OUTPUT)), TerminalChunk("t", encoded(b"b"))).terminals["t"]
    assert (len(long.output), long.output[-2:], long.cut) == (MOST_OUTPUT, b"ab", True)


def test_an_idle_state_that_is_told_again_ends_no_turn() -> None:
    said = after(
        TurnEnded(None), TurnStarted(), ActionRequired(), TurnStarted(), TurnEnded("end_turn"), TurnEnded("refusal")
    )
    assert (said.state, said.stop_reason, said.turns) == ("idle", "end_turn", 1)
    assert after(TurnStarted((Work("terminal", "t"),)), ActionRequired()).background == (Work("terminal", "t"),)
    assert after(TurnStarted(), ActionRequired()).state == "requires_action"


def test_what_there_is_one_of_is_as_it_was_said_last() -> None:
    said = after(
        Commands((Command("a", "A"),)),
        Commands(()),
        SessionInfo("one", "then"),
        SessionInfo(None),
        Plan((), "p"),
        PlanRemoved("p"),
        Compaction("c", "in_progress"),
        CompactionChunk("c", TextBlock("short")),
        Compaction("c", "completed"),
        Other({"sessionUpdate": "_new"}),
    )
    assert (said.commands, said.title, said.updated_at, said.plans, said.unknown) == ((), None, "then", {}, 1)
    assert said.compactions == {"c": Summary("c", "completed", (TextBlock("short"),))}


def test_no_more_notices_are_kept_than_a_user_would_read() -> None:
    said = after(*(Notice("info", str(number)) for number in range(MOST_NOTICES + 5)))
    assert [said.notices[0].title, len(said.notices)] == ["5", MOST_NOTICES]


def test_a_change_names_what_to_draw_again() -> None:
    ledger = Ledger()
    assert ledger.apply(chunk("a")) == Change("message", "m")
    assert ledger.apply(ToolCall("t", "T")) == Change("call", "t")
    assert ledger.apply(TurnStarted()) == Change("state")
    assert ledger.apply(PlanRemoved("none")) is None


def test_what_did_not_change_is_shared_between_snapshots() -> None:
    ledger = Ledger()
    ledger.apply(chunk("a", "one"))
    before = ledger.snapshot
    ledger.apply(chunk("b", "two"))
    assert ledger.snapshot.messages["one"] is before.messages["one"]
    assert "two" not in before.messages


histories = st.lists(version_2 | calls, max_size=12)


@settings(max_examples=150)
@given(histories)
def test_any_updates_make_a_snapshot(updates: list[Update]) -> None:
    said = after(*updates)
    shown = {"message": said.messages, "call": said.calls, "plan": said.plans, "terminal": said.terminals}
    shown |= {"compaction": said.compactions, "subagent": said.subagents, "session_message": said.session_messages}
    for kind, id in said.order:
        assert id in shown[kind]


said = st.builds(chunk, st.text(max_size=3), st.sampled_from(["a", "b", None]), st.sampled_from(["agent", "thought"]))


@settings(max_examples=100)
@given(st.lists(said | calls, max_size=12), st.integers(0, 12))
def test_a_replay_gives_the_same_whatever_has_ids_and_so_does_one_after_another_that_was_cut(
    updates: list[Update], cut: int
) -> None:
    ledger = Ledger()
    for update in updates:
        ledger.apply(update)
    once = ledger.snapshot
    for told, complete in ((updates[:cut], False), (updates, True)):
        ledger.begin_replay()
        for update in told:
            ledger.apply(update)
        ledger.end_replay(complete=complete)
    assert ledger.snapshot == once


def test_messages_without_ids_that_a_replay_cuts_otherwise_are_there_once() -> None:
    ledger = Ledger()
    for update in (chunk("a", None), ToolCall("t", "T"), chunk("b", None), chunk("hm", None, "thought")):
        ledger.apply(update)
    ledger.begin_replay()
    for update in (chunk("ab", None), chunk("c", None)):
        ledger.apply(update)
    ledger.end_replay(complete=True)
    ledger.apply(TurnEnded("end_turn"))
    ledger.apply(chunk("d", None))
    assert [message.text for message in ledger.snapshot.messages.values()] == ["hm", "abc", "d"]
    assert [id for _, id in ledger.snapshot.order] == ["agent 0.1", "t", "thought 0.1", "agent 0.2"]


def test_a_plan_may_be_a_file_or_a_text_and_each_replaces_what_was_there() -> None:
    shown = after(Plan((), "p"), PlanFile("p", "file:///w/plan.md"), PlanText("q", "# Plan"))
    assert shown.plans == {"p": PlanFile("p", "file:///w/plan.md"), "q": PlanText("q", "# Plan")}
    assert after(PlanText("q", "x"), PlanRemoved("q")).plans == {}


def test_a_subagent_is_patched_field_by_field() -> None:
    shown = after(
        Subagent("c1", "Count", "counts to three", {"cancel": {}}, TurnStarted(), "/w/sub", ("/x",)),
        Subagent("c1", title=None, state=TurnEnded("end_turn")),
        Subagent("c1", state=None),
    )
    assert shown.subagents == {
        "c1": ShownSubagent("c1", None, "counts to three", {"cancel": {}}, None, "/w/sub", ("/x",))
    }
    assert shown.order == (("subagent", "c1"),)


def test_a_message_between_sessions_is_whole_whatever_of_it_comes_first() -> None:
    shown = after(
        SessionMessageChunk("m1", TextBlock("Count ")),
        SessionMessage("m1", "s1", "c1", recipient_message="m9"),
        SessionMessageChunk("m1", TextBlock("to three.")),
        SessionMessage("m1", sender_message="m1"),
    )
    [message] = shown.session_messages.values()
    assert message == PassedMessage("m1", "s1", "c1", "m1", "m9", (TextBlock("Count to three."),))
    assert (
        after(SessionMessage("m1", content=(TextBlock("a"),)), SessionMessage("m1", content=None))
        .session_messages["m1"]
        .content
        == ()
    )


def test_a_state_that_nobody_knows_is_not_idle_and_ends_no_turn() -> None:
    shown = after(TurnStarted(), StateUnknown(), TurnStarted(), TurnEnded("end_turn"))
    assert (after(TurnStarted(), StateUnknown()).state, shown.state, shown.turns) == ("unknown", "idle", 1)


def test_of_a_long_message_the_text_is_kept_and_not_its_chunks() -> None:
    count, ledger = 50_000, Ledger()
    words = [f"{n} " for n in range(count)]
    tracemalloc.start()
    try:
        for n in range(count):
            ledger.apply(chunk(f"{n} "))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ledger.snapshot.messages["m"].text == "".join(words)
    assert grown < 2 * len("".join(words))


def test_what_is_joined_meanwhile_is_joined_the_same() -> None:
    image = OtherBlock({"type": "image", "data": "", "mimeType": "image/png"})
    blocks = [image if n % 700 == 350 else TextBlock(f"{n} ") for n in range(3 * RUN)]
    often, once = Ledger(), Ledger()
    for block in blocks:
        for ledger in (often, once):
            ledger.apply(MessageChunk("agent", block, "m"))
        _ = often.snapshot
    assert often.snapshot == once.snapshot
    assert [type(block) for block in once.snapshot.messages["m"].content] == [TextBlock, OtherBlock, TextBlock]
