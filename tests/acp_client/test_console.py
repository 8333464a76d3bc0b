"""What a turn looks like."""

from __future__ import annotations

import io

import pytest

from acp.updates import (
    BlockContent,
    Diff,
    MessageChunk,
    Other,
    OtherBlock,
    Plan,
    PlanEntry,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolStatus,
    Update,
)
from acp_client.cli.console import SHOWN_LINES, Console
from acp_client.cli.result import Exit, LastWords, Result, tokens_per_second
from acp_client.surface import Usage


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(*updates: Update, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    console = Console(out)
    for update in updates:
        console.update(update)
    return out.getvalue()


def said(text: str, role: str = "agent") -> MessageChunk:
    return MessageChunk(role, TextBlock(text))  # type: ignore[arg-type]


def text(content: str) -> tuple[BlockContent, ...]:
    return (BlockContent(TextBlock(content)),)


def output(content: str, status: ToolStatus = "in_progress") -> ToolCallUpdate:
    return ToolCallUpdate("c", status=status, content=text(f"```console\n{content}\n```"))


def test_speakers_get_lines_of_their_own_and_thoughts_are_dim() -> None:
    updates = [said("hm ", "thought"), said("so", "thought"), said("\nYes"), said("."), said("ignored", "user")]
    assert shown(*updates) == "hm so\nYes."
    assert shown(*updates, out=Screen()) == "\x1b[2mhm \x1b[0m\x1b[2mso\x1b[0m\nYes."


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colour_gets_none(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert "\x1b" not in shown(said("hm", "thought"), ToolCall("c", "Read"), out=Screen())


def test_a_commands_output_is_shown_as_it_grows_and_nothing_twice() -> None:
    out = io.StringIO()
    announced = ToolCall("c", "`make`", "execute", content=text("```bash\nmake\n```"))
    console = Console(out)
    console.update(announced)
    console.update(output("one\ntw"))
    assert out.getvalue() == "● `make`\n  one\n"
    console.update(output("one\ntwo\nthree"))
    console.update(output("one\ntwo\nthree", "completed"))
    console.update(ToolCallUpdate("c", status="completed"))
    assert out.getvalue() == "● `make`\n  one\n  two\n  three\n"


def test_a_long_command_is_shown_whole_when_its_title_is_cut() -> None:
    announced = ToolCall("c", "`echo 1…`", "execute", content=text("```bash\necho 1\necho 2\n```"))
    assert shown(announced) == "● `echo 1…`\n  echo 1\n  echo 2\n"


def test_output_whose_middle_was_left_out_is_shown_at_the_end() -> None:
    updates = [
        ToolCall("c", "run"),
        output("a\nb\n"),
        output("a\n[… cut …]\nz"),
        output("a\n[… cut …]\nzz", "completed"),
    ]
    assert shown(*updates) == "● run\n  a\n  b\n  a\n  [… cut …]\n  zz\n"


def test_very_long_output_is_counted() -> None:
    lines = "\n".join(map(str, range(SHOWN_LINES + 5)))
    rows = shown(ToolCall("c", "run"), output(lines, "completed")).splitlines()
    assert rows[-2:] == [f"  {SHOWN_LINES - 1}", "  … 5 more lines"]


def test_a_failure_says_why_and_that_it_failed() -> None:
    failed = ToolCallUpdate("c", status="failed", content=text("error: no"))
    assert shown(ToolCall("c", "Read x"), failed) == "● Read x\n  error: no\n  failed\n"


def test_a_diff_is_shown_once_wherever_it_comes() -> None:
    change = Diff("/a", "two\n", "one\n")
    updates = [ToolCall("c", "Edit", content=(change,)), ToolCallUpdate("c", status="completed", content=(change,))]
    assert shown(*updates) == "● Edit\n  @ /a\n  @@ -1 +1 @@\n  -one\n  +two\n"
    assert "(new file)" in shown(ToolCall("c", "Write", content=(Diff("/a", "x"),)))


def test_a_call_that_was_never_announced_and_unknown_things_are_shown_too() -> None:
    image = MessageChunk("agent", OtherBlock({"type": "image", "data": "…"}))
    assert shown(ToolCallUpdate("c9", status="in_progress"), Other({"sessionUpdate": "new"}), image) == "● c9\n[image]"


def test_a_plan_is_a_list() -> None:
    entries = (PlanEntry("a", status="completed"), PlanEntry("b\x1b", status="in_progress"), PlanEntry("c"))
    assert shown(Plan(entries)) == "  [x] a\n  [~] b\\x1b\n  [ ] c\n"


def test_text_in_a_title_cannot_start_a_line() -> None:
    assert shown(ToolCall("c", "read\n● fake\x1b[2J")) == "● read\\n● fake\\x1b[2J\n"


def test_the_end_says_reason_tokens_and_speed() -> None:
    out = io.StringIO()
    Console(out).finished(Result(Exit.DONE, "end_turn", usage=Usage(9, 7, 2), seconds=1.25, tokens_per_second=8.0))
    assert out.getvalue() == "-- end_turn, 7 tokens in, 2 out, 8 tokens/s, 1.2 s\n"


def test_speed_is_by_the_models_time_where_the_agent_says_it() -> None:
    usage = Usage(30, 10, 20)
    assert tokens_per_second(usage, {"acp-laguna/turn": {"modelSeconds": 2.0}}, 4.0) == 10.0
    for meta in ({}, {"acp-laguna/turn": "x"}, {"acp-laguna/turn": {"modelSeconds": 0}}):
        assert tokens_per_second(usage, meta, 4.0) == 5.0
    assert tokens_per_second(None, {}, 4.0) is None
    assert tokens_per_second(usage, {}, 0.0) is None


def test_the_last_words_are_those_since_the_last_tool_call() -> None:
    words = LastWords()
    for update in (said("first"), ToolCall("c", "t"), said("a"), said("not this", "thought"), said("b")):
        words.update(update)
    assert words.text == "ab"
