"""The checkpoint's own chat template, rendered by jinja2 in its sandbox as transformers renders it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser

from .sandbox import BoundedEnvironment, render

LARGEST_TEMPLATE = 1 << 20  # characters; released ones have some 6,000

Json = Any


class TemplateFailure(ValueError):
    """The chat template is missing, broken, or refuses the conversation."""


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant says; rendering just shows it."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_show"), [], [], body).set_lineno(line)

    def _show(self, caller: Any) -> str:
        return str(caller())


class ChatTemplate:
    """One compiled template. Templates come with downloaded checkpoints, so they run without access to anything."""

    def __init__(self, source: str) -> None:
        if len(source) > LARGEST_TEMPLATE:
            raise TemplateFailure(f"the chat template has {len(source)} characters")
        environment = BoundedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension]
        )
        environment.filters["tojson"] = _to_json
        functions: dict[str, Any] = {"raise_exception": _refuse, "strftime_now": _now}
        environment.globals.update(functions)
        self.source = source
        try:
            self.template = environment.compiled(source)
        except (TemplateError, RecursionError) as error:
            raise TemplateFailure(f"the chat template does not compile: {error}") from error

    @classmethod
    def from_directory(cls, directory: Path | str) -> ChatTemplate:
        """The template of a checkpoint: `chat_template.jinja`. Raises TemplateFailure."""
        path = Path(directory) / "chat_template.jinja"
        try:
            return cls(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TemplateFailure(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TemplateFailure(f"{path} is not UTF-8 text") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Json]],
        tools: Sequence[Mapping[str, Json]] = (),
        *,
        thinking: bool,
        generation_prompt: bool = True,
    ) -> str:
        """The conversation as the model reads it. Raises TemplateFailure."""
        values = {
            "messages": list(messages),
            "tools": list(tools) or None,
            "enable_thinking": thinking,
            "add_generation_prompt": generation_prompt,
        }
        try:
            return render(self.template, values)
        except MemoryError as error:
            raise TemplateFailure("the chat template filled the memory") from error
        except Exception as error:  # a template can raise whatever Python's operators raise
            raise TemplateFailure(f"the chat template failed: {error}") from error


def grammar(template: ChatTemplate) -> str:
    """What kind of Laguna template this is, for people; nothing is decided by it. Raises TemplateFailure."""
    text = template.render([{"role": "user", "content": "Hi"}], thinking=True)
    kinds = (("compact", "<user>Hi</user>"), ("newline", "<user>\nHi\n</user>"))
    kind = next((name for name, turn in kinds if turn in text), "its own")
    version = re.search(r"laguna_glm_thinking_(v\d+)", template.source)
    return f"{kind} ({version[1]})" if version else kind


def _to_json(value: Json, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=min(indent, 8) if indent else indent)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _refuse(message: str) -> None:
    raise TemplateError(message)
