"""Answers as the endpoints that are about stream them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp_server.model import Part, Stop, Text, Thought, ToolSpec, ToolUse, ToolUseStarted, Usage
from acp_server.openai import answer as answers
from acp_server.openai.answer import Answer, Cut, Overlong

READ = ToolSpec(
    "read", "", {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}}
)
LIST = ToolSpec("list", "", {"type": "object", "properties": {}})
TOOLS = [READ, LIST]


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def piece(**fields: Any) -> dict[str, Any]:
    """A chunk with one piece of a tool call."""
    function = {k: fields.pop(k) for k in ("name", "arguments") if k in fields}
    return chunk(tool_calls=[fields | {"function": function}])


def heard(*chunks: Any, done: bool = True, tools: list[ToolSpec] = TOOLS) -> list[Part]:
    answer = Answer(tools)
    parts = [part for chunk in chunks for part in answer.feed(chunk)]
    return joined([*parts, *answer.finish(1.0, done=done)])


def joined(parts: Iterable[Part]) -> list[Part]:
    """Neighbouring texts and thoughts joined."""
    out: list[Part] = []
    for part in parts:
        match part, out[-1:]:
            case Text(text), [Text(before)]:
                out[-1] = Text(before + text)
            case Thought(text), [Thought(before)]:
                out[-1] = Thought(before + text)
            case _:
                out.append(part)
    return out


def uses(parts: Iterable[Part]) -> list[tuple[str, Any]]:
    """The tool uses: name, and arguments or what is wrong."""
    found = [part for part in parts if isinstance(part, ToolUse)]
    assert len({use.id for use in found}) == len(found)
    return [(use.name, use.problem or dict(use.arguments)) for use in found]


def reason(parts: list[Part]) -> str:
    stops = [part for part in parts if isinstance(part, Stop)]
    assert parts[-1:] == stops
    return stops[0].reason


# Texts and thoughts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_come_under_either_name(name: str) -> None:
    said = heard(chunk(role="assistant", content=""), chunk(**{name: "Hm."}), chunk(content="Yes."), chunk("stop"))
    assert said == [Thought("Hm."), Text("Yes."), Stop("end_turn", seconds=1.0)]


def test_a_thought_under_both_names_is_one_thought() -> None:
    said = heard(chunk(reasoning="Hm.", reasoning_content="Hm.", content=""), chunk(reasoning=None, content="Yes."))
    assert said[:2] == [Thought("Hm."), Text("Yes.")]


def test_contents_in_blocks_are_read() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    said = heard(chunk(content=[thinking]), chunk(content=[{"type": "text", "text": "Yes."}, 3]))
    assert said[:2] == [Thought("Hm."), Text("Yes.")]


def test_a_whole_answer_reads_as_a_streamed_one() -> None:
    message = {
        "content": "Yes.",
        "tool_calls": [{"id": "x", "function": {"name": "read", "arguments": '{"path":"a"}'}}],
    }
    said = heard({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 3}})
    assert said[0] == Text("Yes.")
    assert uses(said) == [("read", {"path": "a"})]
    assert said[-1] == Stop("tool_use", Usage(input=3), 1.0)


def test_usage_comes_last_with_no_choices_and_is_kept() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 7}, "completion_tokens_details": {"reasoning_tokens": 2}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5} | details
    said = heard(chunk("stop", content="Yes."), {"choices": [], "usage": usage})
    assert said[-1] == Stop("end_turn", Usage(10, 7, 5, 2), 1.0)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("eos", "end_turn")],
)
def test_finish_reasons_are_translated(finish: str, expected: str) -> None:
    assert reason(heard(chunk(finish, content="Yes."))) == expected


def test_a_refusal_is_shown_and_ends_as_one() -> None:
    said = heard(chunk(refusal="No."), chunk("stop"))
    assert said == [Text("No."), Stop("refusal", seconds=1.0)]


def test_an_answer_without_an_end_is_cut() -> None:
    for last in (chunk(content="Ye"), chunk("error")):
        with pytest.raises(Cut):
            heard(last, done=False)
    assert reason(heard(chunk("stop", content="Yes."), done=False)) == "end_turn"


@pytest.mark.parametrize(
    "junk", [{}, {"choices": None}, {"choices": [None]}, {"choices": [{"delta": 3}]}, chunk(content=3)]
)
def test_a_chunk_that_makes_no_sense_says_nothing(junk: Any) -> None:
    assert heard(junk, chunk(content="Yes.", tool_calls=[None, {}], reasoning=3))[0] == Text("Yes.")


def test_an_answer_that_does_not_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LARGEST_ANSWER", 10)
    with pytest.raises(Overlong):
        heard(chunk(content="12345"), chunk(reasoning="12345"), piece(index=0, name="read", arguments="1"))


# Calls ---------------------------------------------------------------------------------------------------


def test_a_call_in_pieces_is_announced_once_its_name_is_there() -> None:
    answer = Answer(TOOLS)
    assert answer.feed(piece(index=0, id="c1", name="read", arguments="")) == []
    (started,) = answer.feed(piece(index=0, arguments='{"pa'))
    assert isinstance(started, ToolUseStarted)
    assert answer.feed(piece(index=0, arguments='th": "a.py"}')) == []
    use, stop = answer.finish(1.0, done=True)
    assert use == ToolUse(started.id, "read", {"path": "a.py"})
    assert stop == Stop("tool_use", seconds=1.0)


def test_calls_side_by_side_are_told_apart_by_index() -> None:
    said = heard(
        piece(index=0, id="", name="read", arguments='{"path":'),
        piece(index=1, id="", name="list", arguments="{"),
        piece(index=0, arguments='"a"}'),
        piece(index=1, arguments="}"),
        chunk("stop"),
    )
    assert uses(said) == [("read", {"path": "a"}), ("list", {})]
    assert reason(said) == "tool_use"


@pytest.mark.parametrize(
    "pieces",
    [
        # Ollama: a whole call a chunk, all of them at index 0.
        [{"index": 0, "id": "a"}, {"index": 0, "id": "b"}],
        # No index: told apart by id.
        [{"id": "a"}, {"id": "b"}],
        # Neither: a new name begins a new call.
        [{}, {}],
        [{"index": None, "id": None}, {"index": None, "id": ""}],
    ],
)
def test_whole_calls_are_told_apart_whatever_is_missing(pieces: list[dict[str, Any]]) -> None:
    one, two = pieces
    said = heard(
        piece(**one, name="read", arguments='{"path": "a"}'),
        piece(**two, name="read", arguments={"path": "b"}),
        chunk(),
    )
    assert uses(said) == [("read", {"path": "a"}), ("read", {"path": "b"})]


def test_calls_without_arguments_are_told_apart_by_their_names() -> None:
    assert uses(heard(piece(name="list", arguments=None), piece(name="read"))) == [("list", {}), ("read", {})]


def test_pieces_that_repeat_id_and_name_are_one_call() -> None:
    written = ['{"path"', ': "a', '"}']
    said = heard(*(piece(index=0, id="c", name="read", arguments=text) for text in written))
    assert uses(said) == [("read", {"path": "a"})]
    assert uses(heard(*(piece(id="c", name="read", arguments=text) for text in written))) == [("read", {"path": "a"})]


def test_a_name_may_come_in_pieces() -> None:
    assert uses(heard(piece(index=0, name="re"), piece(index=0, name="ad"), piece(index=0, arguments="{}"))) == [
        ("read", {})
    ]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [("", {}), ("null", {}), (None, {}), ('"{\\"path\\": \\"a\\"}"', {"path": "a"}), ({"path": "a"}, {"path": "a"})],
)
def test_arguments_come_in_many_shapes(written: Any, arguments: Any) -> None:
    assert uses(heard(piece(index=0, name="read", arguments=written))) == [("read", arguments)]


@pytest.mark.parametrize(
    ("written", "problem"), [("{", "not valid JSON"), ("[1]", "not a JSON object"), ("NaN", "valid")]
)
def test_arguments_that_cannot_be_read_are_said_to_be(written: str, problem: str) -> None:
    ((name, said),) = uses(heard(piece(index=0, name="read", arguments=written)))
    assert name == "read"
    assert problem in said


def test_a_call_that_was_cut_off_says_so() -> None:
    said = heard(
        piece(index=0, name="list", arguments="{}"),
        piece(index=1, name="read", arguments='{"path": "a'),
        chunk("length"),
    )
    assert uses(said) == [("list", {}), ("read", answers.CUT_OFF)]
    assert reason(said) == "max_tokens"


def test_a_call_without_a_name_is_not_dropped() -> None:
    assert uses(heard(piece(index=0, arguments="{}"))) == [("", "the call has no name of a tool")]


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3), st.lists(st.integers(0, 60), max_size=5))
def test_however_arguments_are_cut_they_are_the_same(arguments: dict[str, Any], cuts: list[int]) -> None:
    text = json.dumps(arguments)
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(text) + 60])]
    said = heard(piece(index=0, id="c", name="read"), *(piece(index=0, arguments=text) for text in pieces))
    assert uses(said) == [("read", arguments)]


# What a server without a parser leaves in the text -------------------------------------------------------

SPELLED = "<tool_call>read\n<arg_key>path</arg_key>\n<arg_value>a <b>\n</arg_value>\n</tool_call>"


def raw(text: str, *, cuts: list[int] | None = None, finish: str = "stop", tools: list[ToolSpec] = TOOLS) -> list[Part]:
    places = [0, *(cuts or []), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    return heard(*(chunk(content=piece) for piece in pieces), chunk(finish), tools=tools)


@given(st.lists(st.integers(0, 120), max_size=6))
def test_thoughts_and_calls_left_in_the_text_are_found_wherever_it_is_cut(cuts: list[int]) -> None:
    said = raw(f"<think>\nHm. </thin</think>\nI look.\n{SPELLED}\n{SPELLED}Done.", cuts=sorted(cuts))
    assert uses(said) == [("read", {"path": "a <b>\n"})] * 2
    assert [part for part in said if isinstance(part, Text | Thought)] == [
        Thought("\nHm. </thin"),
        Text("I look.\n"),
        Text("Done."),
    ]
    assert reason(said) == "tool_use"


@pytest.mark.parametrize("written", ['{"name": "read", "arguments": {"path": "a"}}', 'read\n{"path": "a"}'])
def test_calls_in_json_are_found_too(written: str) -> None:
    assert uses(raw(f"<tool_call>\n{written}\n</tool_call>")) == [("read", {"path": "a"})]


@pytest.mark.parametrize(
    "text",
    [
        f"Write it like this:\n```\n{SPELLED}\n```\nand go on.",
        "A <tool_call> begins a call, <tool_call>write writes.",
        "a < b and <tool_cal",
        "Use <think> to think.",
        " ",
    ],
)
def test_what_only_talks_about_calls_stays_text(text: str) -> None:
    assert raw(text) == [Text(text), Stop("end_turn", seconds=1.0)]


def test_without_tools_nothing_is_a_call() -> None:
    assert raw(SPELLED, tools=[])[0] == Text(SPELLED)


def test_a_spelled_call_that_was_cut_off_says_so() -> None:
    ((_, problem),) = uses(raw(SPELLED[:40], finish="length"))
    assert "cut off" in problem
