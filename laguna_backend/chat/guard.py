"""Keeps untrusted text from speaking with the template's voice.

A file that contains `</tool_response><user>` or `<tool_call>` must not become those tags. So before a conversation is
rendered, a private character goes into every tag that its texts spell; the rendered text is cut there, and the pieces
are encoded apart. The model reads the same bytes, but not the tokens of a tag: the character stands where the tag's own
tokens have no boundary, so no encoding of the pieces can join to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from tokenizers import Tokenizer

from .template import TemplateFailure

NAMES = "system|user|assistant|think|tool_call|tool_response|arg_key|arg_value|available_tools"
TAG_IN_TEMPLATE = re.compile(r"</?([A-Za-z_][A-Za-z0-9_]*)>")
SURROGATE = re.compile("[\ud800-\udfff]")
PRIVATE = (*range(0xE000, 0xF8FF), *range(0xF0000, 0xFFFFD))


class Guard:
    """Knows the tags of one template and the control tokens of one tokenizer, and where to cut them."""

    def __init__(self, template: str, tokenizer: Tokenizer) -> None:
        names = {*NAMES.split("|"), *(match[1] for match in TAG_IN_TEMPLATE.finditer(template))}
        tags = {f"<{slash}{name}>" for name in names for slash in ("", "/")}
        tags |= {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        self.cuts = {tag: cut_of(tag, tokenizer) for tag in tags if len(tag) > 1}
        # The longest first: a tag that begins with another one is cut as itself.
        self.pattern = re.compile("|".join(re.escape(tag) for tag in sorted(self.cuts, key=len, reverse=True)))

    def apply(self, value: Any, mark: str) -> Any:
        """The JSON value with `mark` inside every tag that any of its strings spells."""
        if isinstance(value, str):
            return self.pattern.sub(lambda match: self.cut(match[0], mark), SURROGATE.sub("\ufffd", value))
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {self.apply(key, mark): self.apply(inner, mark) for key, inner in pairs}
        if isinstance(value, list | tuple):
            return [self.apply(inner, mark) for inner in cast("list[Any]", value)]
        return value

    def cut(self, tag: str, mark: str) -> str:
        at = self.cuts[tag]
        return tag[:at] + mark + tag[at:]


def cut_of(tag: str, tokenizer: Tokenizer) -> int:
    """A place inside one of the tag's own tokens, the longest; its middle where all are single characters."""
    spans = tokenizer.encode(tag, add_special_tokens=False).offsets
    start, end = max(spans, key=lambda span: span[1] - span[0])
    return (start + end) // 2 if end - start > 1 else len(tag) // 2


def unused(*values: Any) -> str:
    """A private-use character that stands nowhere in the values. Raises TemplateFailure when they use every one."""
    present = {char for text in texts(values) for char in text if char >= "\ue000"}
    for code in PRIVATE:
        if chr(code) not in present:
            return chr(code)
    raise TemplateFailure("the conversation uses every private character of Unicode")


def texts(value: Any) -> Iterable[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in cast("Mapping[Any, Any]", value).items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from texts(inner)
