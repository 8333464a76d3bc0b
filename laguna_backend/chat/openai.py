"""Conversations in the form that OpenAI's chat interface made common, read into the agent's own words.

A message is an object with a `role` and `content` (a text, or a list of text parts); an assistant's may have reasoning
(`reasoning` or `reasoning_content`) and `tool_calls`, whose arguments are an object or a text that holds one. What does
not fit is refused by the name of its field; fields that carry nothing to say are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, cast

from acp_server.model import Assistant, Message, System, ToolResult, ToolSpec, ToolUse, User
from acp_server.spelled.coercion import load_json

from ..fields import ConfigError, Fields, shown

ROLES = ("system", "developer", "user", "assistant", "tool")


class ConversationError(ValueError):
    """The messages or tools are not what they should be. The message names the field."""


def read_messages(raw: Any, path: str = "messages") -> list[Message]:
    """The messages of a conversation, one for each. Results of tools stand in the order of their calls.

    Raises ConversationError: a field of the wrong kind, content that is no text, a result of a call that was not made.
    """
    try:
        return list(_in_call_order([_message(one) for one in _objects(raw, path)], path))
    except ConfigError as error:
        raise ConversationError(str(error)) from error


def read_tools(raw: Any, path: str = "tools") -> list[ToolSpec]:
    """The tools of a conversation: none for null. Raises ConversationError."""
    try:
        return [_tool(one) for one in _objects([] if raw is None else raw, path)]
    except ConfigError as error:
        raise ConversationError(str(error)) from error


def _objects(raw: Any, path: str) -> Iterator[Fields]:
    if not isinstance(raw, list):
        raise ConversationError(f"{path} is {shown(raw)}, not a list")
    for index, one in enumerate(cast("list[Any]", raw)):
        if not isinstance(one, dict):
            raise ConversationError(f"{path}[{index}] is {shown(one)}, not an object")
        yield Fields(cast("dict[str, Any]", one), f"{path}[{index}].")


def _message(raw: Fields) -> Message:
    role = raw.get("role")
    match role:
        case "system" | "developer":
            return System(_text(raw))
        case "user":
            return User(_text(raw))
        case "tool":
            return ToolResult(raw.text("tool_call_id", ""), raw.text("name", ""), _text(raw))
        case "assistant":
            if raw.has("function_call"):
                raise ConversationError(f"{raw.path}function_call is the old form; write it as tool_calls")
            thought = raw.text("reasoning", raw.text("reasoning_content", ""))
            numbers = count(1)
            calls = _objects(raw.items("tool_calls"), f"{raw.path}tool_calls")
            return Assistant(_text(raw), thought, tuple(_call(one, next(numbers)) for one in calls))
        case _:
            raise ConversationError(f"{raw.path}role is {shown(role)}; known are {', '.join(ROLES)}")


def _text(raw: Fields) -> str:
    """`content` as one text; null is empty."""
    content = raw.get("content", "")
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in _objects(content, f"{raw.path}content"):
        if part.get("type") != "text":
            raise ConversationError(f"{part.path}type is {shown(part.get('type'))}; only 'text' can be read")
        texts.append(part.text("text", ""))
    return "".join(texts)


def _call(raw: Fields, number: int) -> ToolUse:
    function = raw.mapping("function")
    if function is None or not function.text("name", ""):
        raise ConversationError(f"{raw.path}function has no name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = load_json(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise ConversationError(f"{function.path}arguments is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ConversationError(f"{function.path}arguments is {shown(arguments)}, not an object")
    return ToolUse(raw.text("id", f"call-{number}"), function.text("name", ""), cast("dict[str, Any]", arguments))


def _tool(raw: Fields) -> ToolSpec:
    function = raw.mapping("function")
    if function is None or not function.text("name", ""):
        raise ConversationError(f"{raw.path}function has no name")
    parameters = function.mapping("parameters")
    return ToolSpec(
        function.text("name", ""),
        function.text("description", ""),
        parameters.raw if parameters else {"type": "object", "properties": {}},
    )


def _in_call_order(messages: Sequence[Message], path: str) -> Iterator[Message]:
    """The same messages; results named after their calls and in their order."""
    index = 0
    while index < len(messages):
        message = messages[index]
        if isinstance(message, ToolResult):
            raise ConversationError(f"{path}[{index}] is the result of a tool that no message before it calls")
        yield message
        index += 1
        if not isinstance(message, Assistant):
            continue
        places = {use.id: place for place, use in enumerate(message.tool_uses)}
        if len(places) < len(message.tool_uses):
            raise ConversationError(f"{path}[{index - 1}].tool_calls has two calls of one id")
        found: dict[int, ToolResult] = {}
        while index < len(messages) and isinstance(result := messages[index], ToolResult):
            # Where no ids are written, results stand in the order of their calls.
            place = places.get(result.tool_use_id) if result.tool_use_id else len(found)
            if place is None or place >= len(places) or place in found:
                why = "has a result already" if place in found else "was not made"
                raise ConversationError(f"{path}[{index}].tool_call_id is {shown(result.tool_use_id)}: that call {why}")
            use = message.tool_uses[place]
            found[place] = ToolResult(use.id, use.name, result.text)
            index += 1
        if len(found) < len(places) and index < len(messages):
            missing = next(use for place, use in enumerate(message.tool_uses) if place not in found)
            raise ConversationError(f"{path}[{index}] follows before the call of {missing.name} has a result")
        yield from (found[place] for place in sorted(found))
