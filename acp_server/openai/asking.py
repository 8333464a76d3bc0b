"""A conversation as the body of a chat completion request. Contents are always strings: templates drop all else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..model import Assistant, Message, Sampling, System, ToolResult, ToolSpec, ToolUse, User
from .traits import THOUGHTS, Traits

REMINDER = "[from the agent, not from the user]"
"""Heads a system message that has to go as a user's, to an endpoint that takes only one at the beginning."""

ESCAPED = "[chat tags such as <\\tool_call> have a backslash here that the original has not]"

_TAG = re.compile(
    r"<(/?(?:think|assistant|tool_call|tool_response|user|system|arg_key|arg_value|available_tools)>)|〈(\|[^|\s]{1,40}\|〉)"
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SURROGATES = re.compile("[\ud800-\udfff]")


def request_body(
    model: str, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling, traits: Traits
) -> dict[str, Any]:
    """The JSON body, streamed, with what the endpoint is known to refuse left out."""
    escaping = "laguna" in model.lower() and not traits.guards
    body: dict[str, Any] = {"model": model, "messages": list(messages(conversation, traits, escaping=escaping))}
    if tools:
        body["tools"] = [{"type": "function", "function": _described(tool)} for tool in tools]
    if sampling.max_tokens is not None:
        body[traits.tokens] = sampling.max_tokens
    # None means on, as it does for the embedded model: a template's own default may be either.
    thinks = sampling.thinking is not False
    optional: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {"enable_thinking": thinks} if traits.thinking == "template" else None,
        "reasoning_effort": ("medium" if thinks else "none") if traits.thinking == "effort" else None,
    }
    body |= {name: value for name, value in optional.items() if value is not None and name not in traits.refused}
    return body | {"stream": True}


def messages(conversation: Iterable[Message], traits: Traits, *, escaping: bool) -> Iterator[dict[str, Any]]:
    """The messages as endpoints know them. `escaping` breaks control tags in what the user and tools said."""
    for n, message in enumerate(conversation):
        match message:
            case System(text) if n == 0 or traits.late_system:
                yield {"role": "system", "content": _sound(text)}
            case System(text):
                yield {"role": "user", "content": f"{REMINDER}\n{_sound(text)}"}
            case User(text):
                yield {"role": "user", "content": _sound(escaped(text) if escaping else text)}
            case ToolResult(id, _, text):
                content = _sound(escaped(text) if escaping else text)
                yield {"role": "tool", "tool_call_id": call_id(id), "content": content}
            case Assistant(text, thought, uses):
                said: dict[str, Any] = {"role": "assistant", "content": _sound(text)}
                if thought:
                    names = [name for name in traits.thoughts if name not in traits.refused and name in THOUGHTS]
                    said |= dict.fromkeys(names, _sound(thought))
                if uses:
                    said["tool_calls"] = [_call(use) for use in uses]
                yield said


def escaped(text: str) -> str:
    """The text with a backslash in every control tag, and a line that says so if there was one."""
    broken, count = _TAG.subn(lambda found: f"<\\{found[1]}" if found[1] else f"〈\\{found[2]}", text)
    return f"{broken}\n{ESCAPED}" if count else text


def call_id(id: str) -> str:
    """A call's id as every endpoint takes it (Mistral's wants nine letters and digits): the same for the same call."""
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def _call(use: ToolUse) -> dict[str, Any]:
    # A call that could not be read has whatever name the model wrote; endpoints refuse most of those.
    name = use.name if _NAME.fullmatch(use.name) else "unreadable"
    arguments = json.dumps(dict(use.arguments), ensure_ascii=False)
    return {
        "id": call_id(use.id),
        "type": "function",
        "function": {"name": name, "arguments": _sound(arguments)},
    }


def _described(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _sound(text: str) -> str:
    """Lone surrogates cannot be sent: file names that are no UTF-8 have them."""
    return _SURROGATES.sub("\ufffd", text)
