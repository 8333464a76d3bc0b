"""Chat templates: as transformers renders them, and within bounds when they come from strangers."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import COMPACT, READ

from laguna_backend.chat.encoding import describe
from laguna_backend.chat.sandbox import TooMuch, deadline
from laguna_backend.chat.template import ChatTemplate, TemplateFailure, grammar

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers.utils.chat_template_utils import render_jinja_template

RELEASED = Path(__file__).parents[3] / "shared" / "templates"
TEMPLATES = {path.stem: path for path in sorted(RELEASED.glob("*.jinja"))}

TOOLS: list[Any] = [{"type": "function", "function": describe(READ)}]
USER = {"role": "user", "content": "Öffne <a.py> & 'b' \"c\"\n"}
CALL = {"type": "function", "function": {"name": "read", "arguments": {"path": "a.py", "limit": 10, "x": [1, "é"]}}}
ASSISTANT = {"role": "assistant", "content": "Reading.", "reasoning": "I should read it.", "tool_calls": [CALL]}
RESULT = {"role": "tool", "name": "read", "content": "print(1)"}

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "plain": [USER],
    "system": [{"role": "system", "content": "You are pool.  \n"}, USER],
    "empty system": [{"role": "system", "content": ""}, USER],
    "multi-turn": [{"role": "system", "content": "You are pool."}, USER, ASSISTANT, RESULT,
                   {"role": "assistant", "content": "It prints 1.", "reasoning": "Easy."}, USER],
    "no reasoning": [USER, {"role": "assistant", "content": "Hello."}, USER],
    "parallel calls": [USER, ASSISTANT | {"tool_calls": [CALL, CALL]}, RESULT, RESULT],
    "system in the middle": [USER, {"role": "assistant", "content": "A"}, {"role": "system", "content": "B."}, USER],
    "call without text": [USER, ASSISTANT | {"content": ""}, RESULT],
}  # fmt: skip


@pytest.mark.skipif(not TEMPLATES, reason="the released templates are not beside this checkout")
@pytest.mark.parametrize("name", list(TEMPLATES) or ["none"])
@pytest.mark.parametrize("conversation", list(CONVERSATIONS))
@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("tools", [True, False])
def test_a_released_template_renders_as_transformers_renders_it(
    name: str, conversation: str, thinking: bool, tools: bool
) -> None:
    source = TEMPLATES[name].read_text(encoding="utf-8")
    offers = TOOLS if tools else None
    for prompt in (True, False):
        (expected,), _ = render_jinja_template(
            [CONVERSATIONS[conversation]], tools=offers, chat_template=source, add_generation_prompt=prompt,
            enable_thinking=thinking,
        )  # fmt: skip
        ours = ChatTemplate(source).render(
            CONVERSATIONS[conversation], offers or (), thinking=thinking, generation_prompt=prompt
        )
        assert ours == expected


TOOL_JSON = json.dumps(TOOLS[0], ensure_ascii=False)


def test_the_compact_grammar_stays_as_it_is() -> None:
    messages = [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}, ASSISTANT, RESULT]
    assert ChatTemplate(COMPACT).render(messages, TOOLS, thinking=True) == (
        f"〈|EOS|〉<system>Be.<available_tools>\n{TOOL_JSON}\n</available_tools></system>\n<user>Hi</user>\n"
        "<assistant><think>I should read it.</think>Reading.<tool_call>read<arg_key>path</arg_key>"
        "<arg_value>a.py</arg_value><arg_key>limit</arg_key><arg_value>10</arg_value><arg_key>x</arg_key>"
        '<arg_value>[1, "é"]</arg_value></tool_call></assistant>\n<tool_response>print(1)</tool_response>\n'
        "<assistant><think>"
    )


GOLDEN = {
    "poolside-Laguna-S-2.1": (
        "〈|EOS|〉<system>You are pool.</system>\n<user>Hi</user>\n"
        "<assistant><think>Hm.</think>Hello.</assistant>\n<user>Bye</user>\n<assistant><think>",
        "〈|EOS|〉<system>You are pool.</system>\n<user>Hi</user>\n"
        "<assistant></think>Hello.</assistant>\n<user>Bye</user>\n<assistant></think>",
    ),
    "poolside-Laguna-XS-2.1": (
        "〈|EOS|〉<system>\n\nYou are pool.\n</system>\n<user>\nHi\n</user>\n<assistant>\n<think>\nHm.\n</think>\n"
        "Hello.\n</assistant>\n<user>\nBye\n</user>\n<assistant>\n<think>",
        "〈|EOS|〉<system>\n\nYou are pool.\n</system>\n<user>\nHi\n</user>\n<assistant>\n<think>\nHm.\n</think>\n"
        "Hello.\n</assistant>\n<user>\nBye\n</user>\n<assistant>\n</think>",
    ),
}


@pytest.mark.skipif(not TEMPLATES, reason="the released templates are not beside this checkout")
@pytest.mark.parametrize("name", list(GOLDEN))
def test_a_released_template_renders_as_written_down_here(name: str) -> None:
    template = ChatTemplate(TEMPLATES[name].read_text(encoding="utf-8"))
    messages = [
        {"role": "system", "content": "You are pool."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello.", "reasoning": "Hm."},
        {"role": "user", "content": "Bye"},
    ]
    for thinking, expected in zip((True, False), GOLDEN[name], strict=True):
        assert template.render(messages, thinking=thinking) == expected


def test_the_grammar_is_named_by_what_the_template_writes() -> None:
    for name, path in TEMPLATES.items():
        kind = grammar(ChatTemplate(path.read_text(encoding="utf-8")))
        assert kind.startswith("compact (v" if "S-2.1" in name and "XS" not in name else "newline (v")
    assert grammar(ChatTemplate(COMPACT)) == "compact"
    assert grammar(ChatTemplate("{{ messages }}")) == "its own"


# Strangers' templates ------------------------------------------------------------------------------------

HOSTILE = {
    "loops without end": "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
    "text without end": "{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
    "a long string": "{{ 'x' * 10 ** 10 }}",
    "a long string, the other way round": "{{ 10000000000 * 'x' }}",
    "a long list": "{{ [1] * 100000000 }}",
    "doubling by ~": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling a list": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a power": "{{ 9 ** 99999999 }}",
    "a product": "{% set n = namespace(x=9) %}{% for i in range(99999) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "padding": "{{ 'x'.ljust(10000000000) }}",
    "a format": "{{ '%10000000000d' % 1 }}",
    "another format": "{{ '{:>10000000000}'.format(1) }}",
    "a format by the filter attr": "{{ ('{:>10000000000}' | attr('format'))(1) }}",
    "replace": "{{ ('x' * 60000000).replace('x', 'x' * 60000000) }}",
    "the filter replace": "{{ ('x' * 60000000) | replace('x', 'x' * 60000000) }}",
    "join": "{{ ('x' * 60000000).join(range(100000) | list) }}",
    "the filter join": "{{ range(100000) | join('x' * 60000000) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a way out": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an import": "{% import 'os' as os %}{{ os.system('true') }}",
    "a change": "{{ messages.append(1) }}",
    "an error of Python's": "{{ messages[0].content + 1 }}",
    "nothing of that name": "{{ messages[0].nothing.nothing }}",
    "a division": "{{ 1 / 0 }}",
    "a refusal": "{{ raise_exception('roles must alternate') }}",
}


@pytest.mark.parametrize("source", list(HOSTILE.values()), ids=list(HOSTILE))
def test_a_hostile_template_fails_within_its_bounds(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laguna_backend.chat.sandbox.SECONDS", 0.5)
    begun = time.monotonic()
    with pytest.raises(TemplateFailure, match="chat template"):
        ChatTemplate(source).render([USER], thinking=True)
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ x", "{% generation %}", "{{ 1 | nofilter }}", "(" * 10, "{{" + "(" * 9999]
)
def test_a_broken_template_is_told_or_renders(source: str) -> None:
    if "{" in source:
        with pytest.raises(TemplateFailure, match="does not compile"):
            ChatTemplate(source)
    else:
        assert ChatTemplate(source).render([USER], thinking=True) == source


def test_a_template_of_a_million_characters_is_refused() -> None:
    with pytest.raises(TemplateFailure, match="characters"):
        ChatTemplate("x" * (2 << 20))


def test_a_missing_template_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(TemplateFailure, match=r"chat_template\.jinja"):
        ChatTemplate.from_directory(tmp_path)


def test_a_template_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe{{")
    with pytest.raises(TemplateFailure, match="UTF-8"):
        ChatTemplate.from_directory(tmp_path)


def test_a_long_conversation_stays_far_from_the_bounds() -> None:
    messages = [USER, ASSISTANT, RESULT | {"content": "x" * 30_000}] * 150
    text = ChatTemplate(COMPACT).render(messages, TOOLS, thinking=True)
    assert text.count("<tool_response>") == 150


def test_the_deadline_leaves_a_tracer_in_place() -> None:
    import sys

    def tracer(*_: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with pytest.raises(TooMuch), deadline(1.0):
            raise TooMuch
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
