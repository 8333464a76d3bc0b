"""The parser of what the model says, fed token by token, at every cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import READ, tiny_tokenizer

from acp_server.model import Part, Text, Thought, ToolSpec, ToolUse, ToolUseArguments, ToolUseStarted
from laguna_backend.chat.parser import ReplyParser
from laguna_backend.chat.tokenizer import TokenBytes

END, CALL, CALL_END, THINK, THINK_END, ASSISTANT, EOS, PAD = 24, 25, 26, 18, 19, 23, 2, 9

TOKENIZER = tiny_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER)
BYTE_ID = {TOKEN_BYTES(token): token for token in range(70, 326)}

WRITE = ToolSpec(
    "write",
    "Write a file",
    {
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "force": {"type": "boolean"}},
        "required": ["path", "content"],
    },
)
LIST = ToolSpec("list_directory", "List", {"type": "object", "properties": {}})
TOOLS = [READ, WRITE, LIST]

Piece = str | int
"""A text, or a control token by id."""


def as_bytes(pieces: Sequence[Piece]) -> list[int]:
    """One token a byte, so that every tag and every character is split everywhere."""
    tokens: list[int] = []
    for piece in pieces:
        tokens += [piece] if isinstance(piece, int) else [BYTE_ID[bytes([byte])] for byte in piece.encode()]
    return tokens


def as_tokens(pieces: Sequence[Piece]) -> list[int]:
    """The tokenizer's own tokens, the spelled tags in pieces."""
    tokens: list[int] = []
    for piece in pieces:
        if isinstance(piece, int):
            tokens.append(piece)
        else:
            for part in piece.split("<"):
                tokens += [*TOKENIZER.encode(part).ids, BYTE_ID[b"<"]]
            tokens.pop()
    return tokens


def parse(
    tokens: Iterable[int], *, thinking: bool = False, tools: Sequence[ToolSpec] = TOOLS, cut_off: bool = False
) -> list[Part]:
    numbers = itertools.count(1)
    parser = ReplyParser(TOKEN_BYTES, tools, lambda: f"id{next(numbers)}", thinking=thinking)
    parts = [part for token in tokens for part in parser.feed(token)]
    return parts + parser.finish(cut_off=cut_off)


def joined(parts: Iterable[Part]) -> list[Part]:
    """The parts with neighbours of one kind joined. Arguments that were told as they came join to the call's."""
    out: list[Part] = []
    told: dict[str, str] = {}
    for part in parts:
        if isinstance(part, ToolUseStarted):
            told[part.id] = ""
        elif isinstance(part, ToolUseArguments):
            assert part.text
            told[part.id] += part.text
            continue
        elif isinstance(part, ToolUse) and part.id in told:
            fits(told[part.id], part)
        last = out[-1] if out else None
        if isinstance(part, Text) and isinstance(last, Text):
            out[-1] = Text(last.text + part.text)
        elif isinstance(part, Thought) and isinstance(last, Thought):
            out[-1] = Thought(last.text + part.text)
        else:
            out.append(part)
    return out


def fits(told: str, use: ToolUse) -> None:
    whole = json.dumps(dict(use.arguments), ensure_ascii=False)
    if use.problem is None:
        assert told == whole
        return
    with pytest.raises(ValueError, match="line 1"):
        json.loads(told)
    if told != whole[:-1]:  # cut off within a text, which is told as far as it came
        before, key = dict(use.arguments), [*json.loads(told + '"}')][-1]
        assert key not in before
        assert {**before, key: json.loads(told + '"}')[key]} == json.loads(told + '"}')


def said(*pieces: Piece, **options: Any) -> list[Part]:
    """What the pieces parse to, the same for both ways to cut them."""
    whole = joined(parse(as_tokens(pieces), **options))
    assert joined(parse(as_bytes(pieces), **options)) == whole
    return whole


def call(*pieces: Piece, **options: Any) -> ToolUse:
    """The one tool use that the pieces parse to."""
    (use,) = [part for part in said(*pieces, **options) if isinstance(part, ToolUse)]
    return use


# Thoughts and text ---------------------------------------------------------------------------------------


def test_thought_and_text_are_told_apart_by_id() -> None:
    assert said("I think.", THINK_END, "Yes.", END, thinking=True) == [Thought("I think."), Text("Yes.")]


def test_the_newline_grammar_gives_the_same_as_the_compact_one() -> None:
    newline = said("\nI think.\n", THINK_END, "\nYes.\n", END, thinking=True)
    assert newline == said("I think.", THINK_END, "Yes.", END, thinking=True)


def test_newlines_inside_a_text_stay() -> None:
    assert said("a\n\nb\n  c\n", END) == [Text("a\n\nb\n  c")]


def test_spelled_tags_in_a_text_are_text() -> None:
    text = "Close it with </think>, never with <think> or </tool_call>; <tool_call> begins a call, <user> not."
    assert said(text, END) == [Text(text)]
    assert said(text, THINK_END, END, thinking=True) == [Thought(text)]


def test_the_spelled_end_of_the_turn_ends_it() -> None:
    assert said("Done.</assistant>\n<user>And now I am the user") == [Text("Done.")]


def test_a_beginning_of_a_tag_that_comes_to_nothing_is_text() -> None:
    assert said("a < b, </assist", END) == [Text("a < b, </assist")]


def test_text_that_cannot_become_a_tag_is_given_at_once() -> None:
    parser = ReplyParser(TOKEN_BYTES, TOOLS, lambda: "id", thinking=False)
    given = [parser.feed(token) for token in as_bytes(["ab<c"])]
    assert given == [[Text("a")], [Text("b")], [], [Text("<c")]]


def test_an_echoed_think_is_ignored() -> None:
    assert said(THINK, "\nHm.", THINK_END, "Ok", END, thinking=True) == [Thought("Hm."), Text("Ok")]


def test_a_leading_end_of_thought_is_dropped() -> None:
    assert said(THINK_END, "Ok", END) == [Text("Ok")]


def test_a_thought_that_the_prompt_did_not_open_is_one() -> None:
    assert said(THINK, "Hm.", THINK_END, "Ok", END) == [Thought("Hm."), Text("Ok")]


def test_a_call_ends_a_thought() -> None:
    parts = said("Hm.", CALL, "list_directory", CALL_END, END, thinking=True)
    assert parts == [Thought("Hm."), ToolUse("id1", "list_directory")]


def test_a_thought_that_is_cut_off_leaves_no_text() -> None:
    assert said("Hm", thinking=True, cut_off=True) == [Thought("Hm")]


@pytest.mark.parametrize("token", [EOS, END, ASSISTANT])
def test_the_turn_ends_at_each_token_that_ends_it(token: int) -> None:
    assert said("Ok", token, "more") == [Text("Ok")]


def test_special_tokens_never_show() -> None:
    assert said("a", PAD, 8, 12, "b", CALL_END, END) == [Text("ab")]


def test_characters_of_several_bytes_come_whole() -> None:
    text = "naïve 日本 🦀 é"
    assert said(text, END) == [Text(text)]
    for part in parse(as_bytes([text])):
        assert isinstance(part, Text)
        assert "\ufffd" not in part.text


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert joined(parse([BYTE_ID[b"\xf0"], BYTE_ID[b"\x9f"], END])) == [Text("\ufffd")]


# Calls ---------------------------------------------------------------------------------------------------


def pairs(name: str, **arguments: str) -> str:
    return name + "".join(f"<arg_key>{k}</arg_key><arg_value>{v}</arg_value>" for k, v in arguments.items())


def test_a_call_in_the_compact_grammar() -> None:
    parts = said("Reading.", CALL, pairs("read", path="a.py", limit="10"), CALL_END, END)
    assert parts == [
        Text("Reading."),
        ToolUseStarted("id1", "read"),
        ToolUse("id1", "read", {"path": "a.py", "limit": 10}),
    ]


def test_a_call_in_the_newline_grammar() -> None:
    body = "read\n<arg_key>path</arg_key>\n<arg_value>a.py</arg_value>\n"
    body += "<arg_key>limit</arg_key>\n<arg_value>10</arg_value>\n"
    assert call("Reading.\n", CALL, body, CALL_END, END).arguments == {"path": "a.py", "limit": 10}


def test_a_call_without_arguments() -> None:
    assert call(CALL, "list_directory", CALL_END, END) == ToolUse("id1", "list_directory")
    assert call(CALL, "list_directory\n", CALL_END, END) == ToolUse("id1", "list_directory")


def test_a_name_with_space_around_it_is_that_name() -> None:
    assert call(CALL, "\n read \n<arg_key>path</arg_key><arg_value>a</arg_value>", CALL_END, END).name == "read"


def test_the_start_of_a_call_is_told_before_its_arguments() -> None:
    parser = ReplyParser(TOKEN_BYTES, TOOLS, lambda: "id", thinking=False)
    told = [parser.feed(token) for token in as_tokens([CALL, "read<arg_key>"])]
    assert told[-1] == [ToolUseStarted("id", "read")]


def test_arguments_are_told_as_they_are_written() -> None:
    parser = ReplyParser(TOKEN_BYTES, TOOLS, lambda: "id", thinking=False)

    def told(*pieces: Piece) -> str:
        parts = [part for token in as_bytes(pieces) for part in parser.feed(token)]
        return "".join(part.text for part in parts if isinstance(part, ToolUseArguments))

    assert told(CALL, "write<arg_key>path</arg_key><arg_value>a.p") == '{"path": "a.p'
    assert told("y</arg_value>") == "y"  # that may be a part of the text
    assert told("<arg_key>force</arg_key><arg_value>tru") == '"'
    assert told("e</arg_value>\n<arg_key>content</arg_key>") == ', "force": true'
    assert told('<arg_value>"é\n</arg_va') == ', "content": "\\"é\\n'
    assert told("lues></arg_value>") == "</arg_values>"
    assert told(CALL_END) == '"}'


def test_several_calls_and_text_between_them_keep_their_order() -> None:
    parts = said(CALL, "list_directory", CALL_END, "\nand\n", CALL, pairs("read", path="b"), CALL_END, "\n", END)
    assert parts == [
        ToolUse("id1", "list_directory"),
        Text("and"),
        ToolUseStarted("id2", "read"),
        ToolUse("id2", "read", {"path": "b"}),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "\r\nx\r\n",
        "  indented\n\n",
        "<user>x</user>",
        "</arg_value> is how a value ends",
        "<arg_value>nested</arg_value>",
        "</tool_call> and </arg_key>, <tool_call>read",
        "<think></think></assistant>",
        '{"json": true}',
        "日本 🦀",
    ],
)
def test_a_string_argument_is_verbatim(content: str) -> None:
    use = call(CALL, pairs("write", path="a", content=content, force="true"), CALL_END, END)
    assert (use.arguments, use.problem) == ({"path": "a", "content": content, "force": True}, None)


def test_a_call_that_the_model_closes_with_the_end_of_its_turn_counts() -> None:
    use = call(CALL, pairs("read", path="a"), END)
    assert (use.arguments, use.problem) == ({"path": "a"}, None)


@pytest.mark.parametrize(
    "body", ["read", "read<arg_key>pa", "read<arg_key>path</arg_key>", "read<arg_key>path</arg_key><arg_value>a.p"]
)
def test_a_call_that_lacks_something_at_the_end_of_the_turn_is_a_problem(body: str) -> None:
    assert call(CALL, body, END).problem


def test_a_call_that_the_token_limit_cut_off_is_a_problem_though_it_looks_whole() -> None:
    assert "cut off" in (call(CALL, pairs("read", path="a"), cut_off=True).problem or "")


def test_a_call_that_begins_inside_an_open_one_ends_it() -> None:
    first, second = [p for p in said(CALL, "read", CALL, pairs("read", path="b"), CALL_END) if isinstance(p, ToolUse)]
    assert first.problem
    assert (second.arguments, second.problem) == ({"path": "b"}, None)


def test_a_call_token_inside_a_value_belongs_to_the_value() -> None:
    use = call(CALL, "write<arg_key>path</arg_key><arg_value>a</arg_value><arg_key>content</arg_key><arg_value>x",
               CALL, "y</arg_value>", CALL_END)  # fmt: skip
    assert use.arguments["content"] == "x<tool_call>y"


def test_an_unknown_tool_is_passed_on() -> None:
    assert call(CALL, pairs("fly", to="the moon"), CALL_END) == ToolUse("id1", "fly", {"to": "the moon"})


@pytest.mark.parametrize(
    "body", ["", "two words<arg_key>a</arg_key><arg_value>b</arg_value>", "<arg_key>path</arg_key>", "?!"]
)
def test_a_call_without_a_name_is_a_problem_not_a_silence(body: str) -> None:
    assert call(CALL, body, CALL_END).problem


def test_of_a_repeated_argument_the_first_is_kept_and_the_contradiction_told() -> None:
    same = "<arg_key>path</arg_key><arg_value>a</arg_value>"
    other = "<arg_key>path</arg_key><arg_value>b</arg_value>"
    assert call(CALL, "read" + same + same, CALL_END) == ToolUse("id1", "read", {"path": "a"})
    use = call(CALL, "read" + same + other, CALL_END)
    assert use.arguments == {"path": "a"}
    assert "twice" in (use.problem or "")


def test_an_argument_without_a_value_is_a_problem() -> None:
    use = call(CALL, "read<arg_key>limit</arg_key><arg_key>path</arg_key><arg_value>a</arg_value>", CALL_END)
    assert use.arguments == {"path": "a"}
    assert "limit has no value" in (use.problem or "")


def test_text_among_the_arguments_is_a_problem() -> None:
    assert "hello" in (call(CALL, pairs("read", path="a") + "hello", CALL_END).problem or "")


# What models fall back to --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "read", "arguments": {"path": "a.py"}}',
        '\n{"name": "read", "arguments": "{\\"path\\": \\"a.py\\"}"}\n',
        '{"name": "read", "parameters": {"path": "a.py"}}',
        'read\n{"path": "a.py"}\n',
        'read\n{"path": "a.py"}',
    ],
)
def test_a_call_in_json_counts(body: str) -> None:
    use = call(CALL, body, CALL_END, END)
    assert (use.name, use.arguments, use.problem) == ("read", {"path": "a.py"}, None)


@pytest.mark.parametrize("body", ['{"name": "read"', '{"arguments": {}}', "read\n{path: a}", '{"name": 1}', "{" * 5000])
def test_broken_json_is_a_problem(body: str) -> None:
    assert call(CALL, body, CALL_END, END).problem


def test_ordinary_json_in_a_text_is_no_call() -> None:
    text = '{"name": "read", "arguments": {"path": "a.py"}}'
    assert said(text, END) == [Text(text)]


def test_a_spelled_call_counts_when_a_declared_tool_follows() -> None:
    parts = said("Ok.\n<tool_call>", pairs("read", path="a") + "</tool_call>\nafter", END)
    assert parts == [
        Text("Ok."),
        ToolUseStarted("id1", "read"),
        ToolUse("id1", "read", {"path": "a"}),
        Text("after"),
    ]


def test_a_spelled_call_of_no_declared_tool_is_text() -> None:
    text = "Write <tool_call>reader</tool_call> or <tool_call>\nfly<arg_key>"
    assert said(text, END) == [Text(text)]


def test_a_spelled_call_may_have_its_own_tags_in_a_value() -> None:
    body = "<tool_call>" + pairs("write", path="a", content="x</tool_call>y") + "</tool_call>"
    assert call(body, END).arguments == {"path": "a", "content": "x</tool_call>y"}


# However it is cut ---------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.sampled_from([THINK, THINK_END, CALL, CALL_END, PAD]),
    st.sampled_from(
        [
            "read",
            "write",
            "\n",
            "<arg_key>",
            "</arg_key>",
            "path",
            "<arg_value>",
            "</arg_value>",
            "</assistant>",
            "<tool_call>",
            "</tool_call>",
            "<",
            "é",
            "🦀",
            "{",
            '"name"',
            "a b",
        ]
    ),
    st.text(max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14), st.booleans())
def test_the_result_does_not_depend_on_how_the_text_is_cut_into_tokens(pieces: list[Piece], thinking: bool) -> None:
    said(*pieces, thinking=thinking)


INSIDE = st.one_of(
    st.sampled_from(["<arg_key>path</arg_key><arg_value>", "<arg_key>force</arg_key>\n<arg_value>", "</arg_value>"]),
    st.sampled_from(["\n", " ", "true", '"', "</arg_value", "<arg_key>", "</arg_key>", "</tool_call>", "{}"]),
    st.text(max_size=3),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(INSIDE, max_size=12), st.sampled_from([CALL, "<tool_call>"]), st.booleans(), st.booleans())
def test_what_was_told_of_a_call_holds_however_it_goes_on(
    pieces: list[Piece], begin: Piece, ended: bool, cut_off: bool
) -> None:
    """`joined` looks at it."""
    said(begin, "write\n", *pieces, *([CALL_END, END] if ended else []), cut_off=cut_off)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, TOKENIZER.get_vocab_size() + 3), max_size=60), st.booleans(), st.booleans())
def test_any_tokens_parse_to_parts_that_can_be_json(tokens: list[int], thinking: bool, cut_off: bool) -> None:
    for part in parse(tokens, thinking=thinking, cut_off=cut_off):
        if isinstance(part, ToolUse):
            json.dumps(dict(part.arguments), allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_string_comes_back_from_a_call_as_it_was_written(content: str) -> None:
    use = call(CALL, pairs("write", path="p", content=content), CALL_END, END)
    # A value that itself spells the end of a value, and then what may follow one, cannot be told from it.
    if "</arg_value>" not in content:
        assert use.arguments == {"path": "p", "content": content}
