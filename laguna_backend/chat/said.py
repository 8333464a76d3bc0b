"""Conversations that are over, as the steps in which they were said: what training learns from.

For each of the assistant's messages: the prompt that the runtime would have shown (`encoding`), and what the template
writes for the message behind it, up to the tag that ends the turn. The two are encoded apart, as generated tokens are
apart from their prompt, and later prompts hold the earlier steps' own tokens, as they do while a model speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acp_server.model import Assistant, Message, ToolSpec

from .encoding import TURN_ENDS, Chat, as_dicts, describe
from .guard import unused
from .template import TemplateFailure
from .tokenizer import THINK

THINK_OPENED, THINK_CLOSED = "<think>", "</think>"


@dataclass(frozen=True)
class Said:
    """One step: which message it is, the tokens of its prompt, and those that the model said."""

    index: int
    prompt: list[int]
    ids: list[int]


def steps(chat: Chat, conversation: Sequence[Message], tools: Sequence[ToolSpec], *, thinking: bool) -> Iterator[Said]:
    """The steps of a conversation. Raises TemplateFailure: the template refuses it, or writes a message in another way
    than its own prompt begins."""
    messages = list(as_dicts(conversation))
    offers = [{"type": "function", "function": describe(tool)} for tool in tools]
    mark = unused(messages, offers)
    messages, offers = chat.guard.apply(messages, mark), chat.guard.apply(offers, mark)
    past, end, ids = (
        "",
        0,
        list[int](),
    )  # the text through the last step, where its turn ends, and the tokens up to there
    for index, message in enumerate(conversation):
        if not isinstance(message, Assistant):
            continue
        prompt = chat.template.render(messages[:index], offers, thinking=thinking)
        whole = chat.template.render(messages[: index + 1], offers, thinking=thinking, generation_prompt=False)
        shown = ids + chat.encode(prompt[end:], mark) if past and prompt.startswith(past) else chat.encode(prompt, mark)
        begin = len(prompt)
        if not whole.startswith(prompt):
            # A message without thoughts, where the prompt has begun one: closing it at once is what was said.
            begin -= len(THINK_OPENED)
            if shown[-1] != THINK or not whole.startswith(prompt[:begin] + THINK_CLOSED):
                raise TemplateFailure(f"the template asks for message {index} in another way than it shows it")
            shown = shown[:-1]
        end = whole.rfind(TURN_ENDS) + len(TURN_ENDS)
        if end <= begin:
            raise TemplateFailure(f"the template does not end message {index} with {TURN_ENDS}")
        said = chat.encode(whole[begin:end], mark)
        past, ids = whole, shown + said
        yield Said(index, shown, said)
