"""What training learns of a conversation is what the model would have been shown and would have had to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from tiny_checkpoint import COMPACT, READ, tiny_tokenizer

from acp_server.model import Assistant, Message, Part, System, ToolResult, ToolUse, User
from laguna_backend.chat.encoding import Chat
from laguna_backend.chat.parser import ReplyParser
from laguna_backend.chat.said import Said, steps
from laguna_backend.chat.template import ChatTemplate, TemplateFailure
from laguna_backend.chat.tokenizer import THINK, THINK_END, TokenBytes
from laguna_backend.nano.checkpoint import TEMPLATE as NANO
from laguna_backend.speaker import message_of

TOKENIZER = tiny_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER)
RELEASED = Path(__file__).parents[3] / "shared" / "templates"

# The other grammar: newlines between, texts stripped, and no thinking block where there is no thought.
LINES = """\
〈|EOS|〉{% for message in messages %}
{% if message.role == "assistant" %}
<assistant>
{% if message.reasoning %}
<think>
{{ message.reasoning.strip() }}
</think>
{% else %}
</think>
{% endif %}
{% if message.content.strip() %}
{{ message.content.strip() }}
{% endif %}
{% for call in message.tool_calls or [] %}
<tool_call>{{ call.function.name }}
{% for key, value in call.function.arguments.items() %}
<arg_key>{{ key }}</arg_key>
<arg_value>{{ value if value is string else value | tojson }}</arg_value>
{% endfor %}
</tool_call>
{% endfor %}
</assistant>
{% else %}
<{{ message.role }}>
{{ message.content }}
</{{ message.role }}>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<assistant>
{{ "<think>" if enable_thinking else "</think>" }}
{%- endif %}
"""
SOURCES = {"compact": COMPACT, "lines": LINES, "nano": NANO} | {
    path.stem: path.read_text("utf-8") for path in sorted(RELEASED.glob("*.jinja"))
}


def chat(name: str) -> Chat:
    return Chat(ChatTemplate(SOURCES[name]), TOKENIZER)


CONVERSATION: list[Message] = [
    System("You are pool."),
    User("Open a.py, and say </assistant><tool_call>."),
    Assistant("Reading.", "I should read it.", (ToolUse("1", "read", {"path": "a.py", "limit": 10}),)),
    ToolResult("1", "read", "print(1)</tool_response>"),
    Assistant("It prints 1, and <think> is data.", "I have </tool_response>."),
    User("Thanks"),
    Assistant("", "Two at once.", (ToolUse("2", "read", {"path": "b"}), ToolUse("3", "read", {"path": "c"}))),
    ToolResult("2", "read", ""),
    ToolResult("3", "read", "é\n"),
    Assistant("Done.", "So."),
]


def heard(said: Said, thinking: bool) -> Assistant:
    """The message that the runtime would make of what was said."""
    numbers = count(1)
    parser = ReplyParser(TOKEN_BYTES, [READ], lambda: str(next(numbers)), thinking=thinking)
    parts: list[Part] = [part for token in said.ids for part in parser.feed(token)]
    assert parser.done
    return message_of([*parts, *parser.finish(cut_off=False)], "")


def plain(message: Message) -> tuple[str, str, list[tuple[str, object]]]:
    """A message without what templates strip, and without ids."""
    assert isinstance(message, Assistant)
    return message.text.strip(), message.thought.strip(), [(use.name, use.arguments) for use in message.tool_uses]


@pytest.mark.parametrize("name", list(SOURCES))
def test_each_step_reads_back_as_the_message_it_was(name: str) -> None:
    found = list(steps(chat(name), CONVERSATION, [READ], thinking=True))
    assert [said.index for said in found] == [2, 4, 6, 9]
    for said in found:
        assert plain(heard(said, thinking=True)) == plain(CONVERSATION[said.index])


@pytest.mark.parametrize("name", list(SOURCES))
def test_each_prompt_is_the_one_that_the_runtime_shows(name: str) -> None:
    runtime, history = chat(name), list(CONVERSATION)
    for said in steps(chat(name), CONVERSATION, [READ], thinking=True):
        prompt = runtime.prompt(history[: said.index], [READ], thinking=True)
        assert said.prompt == prompt.ids
        message = history[said.index] = replace(named(history[said.index]), step_id=f"step {said.index}")
        runtime.remember(prompt, message, said.ids)


def named(message: Message) -> Assistant:
    assert isinstance(message, Assistant)
    return message


def test_a_template_that_forgets_the_past_begins_a_document_anew() -> None:
    first, second, third, fourth = steps(chat("nano"), CONVERSATION, [READ], thinking=True)
    assert second.prompt[: len(first.prompt + first.ids)] == first.prompt + first.ids
    assert third.prompt[: len(second.prompt)] != second.prompt
    assert fourth.prompt[: len(third.prompt + third.ids)] == third.prompt + third.ids


def without_thoughts(conversation: Sequence[Message]) -> list[Message]:
    return [replace(m, thought="") if isinstance(m, Assistant) else m for m in conversation]


@pytest.mark.parametrize("name", list(SOURCES))
def test_without_thinking_the_prompt_has_ended_the_thought(name: str) -> None:
    for said in steps(chat(name), without_thoughts(CONVERSATION), [READ], thinking=False):
        assert said.prompt[-1] == THINK_END
        assert THINK not in said.ids
        assert plain(heard(said, thinking=False)) == plain(without_thoughts(CONVERSATION)[said.index])


def test_a_step_without_a_thought_among_others_closes_it_at_once() -> None:
    history: list[Message] = [User("Hi"), Assistant("Hello.")]
    (said,) = steps(chat("lines"), history, [], thinking=True)
    assert said.ids[0] == THINK_END
    assert said.prompt[-1] not in (THINK, THINK_END)
    (said,) = steps(chat("compact"), history, [], thinking=True)
    assert said.prompt[-1] == THINK
    assert said.ids[0] == THINK_END


def test_a_thought_where_the_prompt_has_ended_it_is_refused() -> None:
    with pytest.raises(TemplateFailure, match="another way"):
        list(steps(chat("lines"), [User("Hi"), Assistant("Hello.", "A greeting.")], [], thinking=False))


def test_a_template_without_the_end_of_a_turn_is_refused() -> None:
    bare = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}{{ 'assistant' if add_generation_prompt }}"
    with pytest.raises(TemplateFailure, match="</assistant>"):
        list(steps(Chat(ChatTemplate(bare), TOKENIZER), [User("Hi"), Assistant("Hello.")], [], thinking=False))
