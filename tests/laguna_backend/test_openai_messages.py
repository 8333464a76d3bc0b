"""Conversations in OpenAI's form become the agent's own words, or an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from acp_server.model import Assistant, System, ToolResult, ToolSpec, ToolUse, User
from laguna_backend.chat.openai import ConversationError, read_messages, read_tools


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}} | more


def test_every_role_is_read() -> None:
    raw = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Open "}, {"type": "text", "text": "a.py"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "I read.",
            "tool_calls": [call("read", '{"path": "a.py"}')],
        },
        {"role": "tool", "content": "x = 1"},
        {"role": "assistant", "content": "It sets x.", "reasoning_content": "Short."},
    ]
    assert read_messages(raw) == [
        System("Be brief."),
        User("Open a.py"),
        Assistant("", "I read.", (ToolUse("call-1", "read", {"path": "a.py"}),)),
        ToolResult("call-1", "read", "x = 1"),
        Assistant("It sets x.", "Short."),
    ]


def test_results_stand_in_the_order_of_their_calls() -> None:
    raw = [
        {"role": "assistant", "tool_calls": [call("read", {"path": "a"}, id="1"), call("list", "", id="2")]},
        {"role": "tool", "tool_call_id": "2", "content": "b"},
        {"role": "tool", "tool_call_id": "1", "content": "a"},
    ]
    assert read_messages(raw)[1:] == [ToolResult("1", "read", "a"), ToolResult("2", "list", "b")]


def test_tools_are_read_and_parameters_may_be_absent() -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    raw = [
        {"type": "function", "function": {"name": "read", "description": "Read a file", "parameters": schema}},
        {"type": "function", "function": {"name": "now"}},
    ]
    assert read_tools(raw) == [
        ToolSpec("read", "Read a file", schema),
        ToolSpec("now", "", {"type": "object", "properties": {}}),
    ]
    assert read_tools(None) == []


MADE = {"role": "assistant", "tool_calls": [call("read", {}, id="1")]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": ""}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, r"messages is \{\}, not a list"),
        (["hi"], r"messages\[0\] is 'hi', not an object"),
        ([{"role": "robot"}], r"messages\[0\]\.role is 'robot'; known are system"),
        ([{"content": "hi"}], r"messages\[0\]\.role is None"),
        ([{"role": "user", "content": 7}], r"messages\[0\]\.content is 7"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"content\[0\]\.type is 'image_url'"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], r"tool_calls\[0\]\.function has no name"),
        ([{"role": "assistant", "tool_calls": [call("read", "{")]}], r"function\.arguments is not JSON"),
        ([{"role": "assistant", "tool_calls": [call("read", "[1]")]}], r"function\.arguments is \[1\], not an object"),
        ([{"role": "assistant", "function_call": {"name": "read"}}], r"function_call is the old form"),
        ([RESULT], r"messages\[0\] is the result of a tool that no message before it calls"),
        ([MADE, RESULT | {"tool_call_id": "9"}], r"messages\[1\]\.tool_call_id is '9': that call was not made"),
        ([MADE, RESULT, RESULT], r"messages\[2\]\.tool_call_id is '1': that call has a result already"),
        ([MADE, {"role": "user", "content": "?"}], r"messages\[1\] follows before the call of read has a result"),
        ([{"role": "assistant", "tool_calls": [call("a", {}, id="1"), call("b", {}, id="1")]}], "two calls of one id"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_field(raw: Any, expected: str) -> None:
    with pytest.raises(ConversationError, match=expected):
        read_messages(raw)


@pytest.mark.parametrize("raw", [7, [7], [{"type": "function"}], [{"function": {"name": "x", "parameters": []}}]])
def test_tools_that_are_none_are_refused(raw: Any) -> None:
    with pytest.raises(ConversationError, match="tools"):
        read_tools(raw)
