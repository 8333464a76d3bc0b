"""A conversation as token ids that nobody can forge.

The checkpoint's template turns messages into one text, and that text is encoded. Between the two lies the danger: a
file that contains `</tool_response><user>` or `<tool_call>` would speak with the system's voice. So before rendering,
every tag inside untrusted text gets a private character behind its first one; after rendering the text is cut there and
the pieces are encoded apart. The bytes that the model sees are the same, but they are not the tokens of a tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from acp_server.model import Assistant, Message, System, ToolResult, ToolSpec, User

from .template import ChatTemplate

WORDS = (
    "think|assistant|tool_call|system|user|tool_response|arg_key|arg_value|available_tools"
    "|tool|tools|usage|observation|function"
)
TAG = re.compile(rf"<(?=/?(?:{WORDS})>)|〈(?=\|)")
PRIVATE = range(0xE000, 0xF8FF)


class Chat:
    """A template and a tokenizer that belong together."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer

    def encode(self, conversation: Sequence[Message], tools: Sequence[ToolSpec], *, thinking: bool) -> list[int]:
        """Token ids of the conversation, ending with the prompt for the assistant's next step.

        Raises TemplateFailure when the template refuses it.
        """
        messages = list(as_dicts(conversation))
        offers = [{"type": "function", "function": describe(tool)} for tool in tools]
        mark = unused(messages, offers)
        text = self.template.render(guarded(messages, mark), guarded(offers, mark), thinking=thinking)
        ids: list[int] = []
        for piece in text.split(mark):
            if piece:
                ids += self.tokenizer.encode(piece, add_special_tokens=False).ids
        return ids


def as_dicts(conversation: Iterable[Message]) -> Iterable[dict[str, Any]]:
    """Messages as chat templates know them: content always a string, arguments a mapping, results in call order."""
    for message in conversation:
        match message:
            case System(text):
                yield {"role": "system", "content": text}
            case User(text):
                yield {"role": "user", "content": text}
            case ToolResult(_, name, text):
                yield {"role": "tool", "name": name, "content": text}
            case Assistant(text, thought, tool_uses):
                said: dict[str, Any] = {"role": "assistant", "content": text}
                if thought:
                    said["reasoning"] = said["reasoning_content"] = thought
                if tool_uses:
                    said["tool_calls"] = [
                        {"type": "function", "function": {"name": use.name, "arguments": dict(use.arguments)}}
                        for use in tool_uses
                    ]
                yield said


def describe(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def unused(*values: Any) -> str:
    """A private-use character that stands nowhere in the values."""
    present = {char for text in texts(values) for char in text if ord(char) >= 0xE000}
    return next(chr(code) for code in PRIVATE if chr(code) not in present)


def texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            yield from texts(inner)


def guarded(value: Any, mark: str) -> Any:
    """The value with `mark` inside every tag that any of its strings spells."""
    if isinstance(value, str):
        return TAG.sub(lambda match: match[0] + mark, value)
    if isinstance(value, Mapping):
        return {guarded(key, mark): guarded(inner, mark) for key, inner in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [guarded(inner, mark) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    return value
