"""A conversation as token ids, rendered by the checkpoint's template, that no text in it can forge (`guard`).

What the model itself said goes back to it as the very tokens it said, not as their text encoded anew: rendering may
strip what was generated, and the cache holds the tokens. That needs the step's own prompt to be a prefix of the new
one; where it is not, everything is rendered.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from acp_server.model import Assistant, Message, System, ToolResult, ToolSpec, User

from .grammar import Spelling
from .guard import Guard, unused
from .template import ChatTemplate, TemplateFailure
from .tokenizer import ASSISTANT, ASSISTANT_END, EOS

TURN_ENDS = "</assistant>"
REMEMBERED_STEPS = 8


@dataclass(frozen=True)
class Prompt:
    """What the model is shown: the rendered text, cut marks included, and its tokens. `spliced` of them were said."""

    text: str
    ids: list[int]
    spliced: int = 0


@dataclass(frozen=True)
class _Said:
    prompt: Prompt
    message: Assistant
    ids: list[int]


class Chat:
    """A template and a tokenizer that belong together."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer
        self.guard = Guard(template.source, tokenizer)
        self.steps: OrderedDict[str, _Said] = OrderedDict()

    def prompt(self, conversation: Sequence[Message], tools: Sequence[ToolSpec], *, thinking: bool) -> Prompt:
        """The conversation, ending with the prompt for the assistant's next step.

        Raises TemplateFailure when the template refuses it.
        """
        messages = list(as_dicts(conversation))
        offers = [{"type": "function", "function": describe(tool)} for tool in tools]
        mark = unused(messages, offers)
        messages, offers = self.guard.apply(messages, mark), self.guard.apply(offers, mark)
        text = self.template.render(messages, offers, thinking=thinking)
        for index, message in reversed(list(enumerate(conversation))):
            said = self.recall(message, text)
            if said is None:
                continue
            past = self.template.render(messages[: index + 1], offers, thinking=thinking, generation_prompt=False)
            end = past.rfind(TURN_ENDS)
            if text.startswith(past) and end > len(said.prompt.text):
                ids = said.prompt.ids + said.ids
                return Prompt(text, ids + self.encode(text[end:], mark), said.prompt.spliced + len(said.ids))
        return Prompt(text, self.encode(text, mark))

    @cached_property
    def thought_ends(self) -> list[int]:
        """The tokens between a thought and what follows it: the closing tag, and a newline before it in some templates.

        Only the tag, where the template does not show thoughts.
        """
        said = {"role": "assistant", "content": "", "reasoning": "x", "reasoning_content": "x"}
        try:
            shown = self.template.render(
                [{"role": "user", "content": ""}, said], thinking=True, generation_prompt=False
            )
        except TemplateFailure:
            shown = ""
        between = re.search(r"x(\s*</think>)", shown)
        return self.encode(between[1] if between else "</think>")

    @cached_property
    def spelling(self) -> Spelling | None:
        """How the template writes calls; None where it does so in another way than Laguna's, or not at all."""
        calls = [
            {"type": "function", "function": {"name": "n", "arguments": arguments}}
            for arguments in ({"k": "v", "l": "w"}, {})
        ]
        said = {"role": "assistant", "content": "", "tool_calls": calls}
        try:
            shown = self.template.render(
                [{"role": "user", "content": ""}, said], thinking=False, generation_prompt=False
            )
        except TemplateFailure:
            return None
        space, key, value = r"(\s*)", "<arg_key>{}</arg_key>", "<arg_value>{}</arg_value>"
        first = f"<tool_call>n{space}{key.format('k')}{space}{value.format('v')}{space}{key.format('l')}"
        second = rf"\s*{value.format('w')}{space}</tool_call>\s*<tool_call>n{space}</tool_call>"
        found = re.search(first + second, shown)
        return Spelling(*found.groups()) if found else None

    def encode(self, text: str, mark: str | None = None) -> list[int]:
        """A text's tokens, none across a mark."""
        pieces = [piece for piece in (text.split(mark) if mark else [text]) if piece]
        return [token for piece in pieces for token in self.tokenizer.encode(piece, add_special_tokens=False).ids]

    def remember(self, prompt: Prompt, message: Assistant, ids: Sequence[int]) -> None:
        """Keep the tokens of a step that ended as it should, for the prompts to come. Its last one, whichever the model
        ends with, is what the template writes."""
        *ids, last = ids
        if message.step_id is not None and last in (ASSISTANT_END, EOS, ASSISTANT):
            self.steps[message.step_id] = _Said(prompt, message, ids)
            while len(self.steps) > REMEMBERED_STEPS:
                self.steps.popitem(last=False)

    def recall(self, message: Message, text: str) -> _Said | None:
        """The step that said this message after a prompt that `text` begins with."""
        if not isinstance(message, Assistant) or message.step_id is None:
            return None
        said = self.steps.get(message.step_id)
        return said if said and said.message == message and text.startswith(said.prompt.text) else None


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
