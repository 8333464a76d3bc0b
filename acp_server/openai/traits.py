"""What an endpoint was found to take. Every server has fields that it refuses, and says so only when it gets one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from .endpoint import Thinking
from .refusal import Refusal

TEMPLATE, EFFORT = "chat_template_kwargs", "reasoning_effort"
OPTIONAL = ("stream_options", TEMPLATE, EFFORT, "top_k", "min_p", "seed", "top_p", "temperature")
"""Fields of a request that it can do without, in the order in which a refusal is looked through for them."""

THOUGHTS = ("reasoning", "reasoning_content")
"""What servers call a message's thoughts."""

_LATE_SYSTEM = re.compile(
    r"system (?:message|role|prompt)s?\b.*\b(?:begin|first|start|only)|roles? must alternate", re.I
)


@dataclass(slots=True)
class Traits:
    """One endpoint's habits, as far as they are known.

    `thoughts` are the names under which thoughts are sent back: both until it has used one. `late_system`: whether it
    takes a system message that is not the first. `guards`: whether it keeps the tags in texts from being control tags.
    """

    thinking: Thinking = "template"
    thoughts: tuple[str, ...] = THOUGHTS
    tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    late_system: bool = True
    guards: bool = False
    refused: set[str] = field(default_factory=set[str])

    def learn(self, refusal: Refusal, body: dict[str, Any]) -> bool:
        """Learn from a refusal of `body`. Whether there is now something else to send."""
        if refusal.status not in (400, 404, 422) or refusal.is_too_long:
            return False
        words = refusal.words
        if self.tokens == "max_tokens" and "max_completion_tokens" in words:
            self.tokens = "max_completion_tokens"
            return "max_tokens" in body
        if self.late_system and _LATE_SYSTEM.search(words):
            self.late_system = False
            return True
        for name in (*OPTIONAL, *THOUGHTS):
            if name not in self.refused and re.search(rf"\b{name}\b", words) and self._holds(body, name):
                self.refused.add(name)
                return True
        if EFFORT in body and re.search(r"does not support think", words, re.I):  # Ollama's words
            self.refused.add(EFFORT)
            return True
        return False

    @staticmethod
    def _holds(body: dict[str, Any], name: str) -> bool:
        return name in body or any(name in message for message in body["messages"])
