"""Slash commands: names for prompts that are written often, and `/compact`, which is one for the agent itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from acp.updates import Command, Commands

COMPACT = Command(
    "compact", "Summarise the conversation so far, to make room in the model's context.", "what must not be lost"
)
"""The one command that every agent has."""

_SPOKEN = re.compile(r"/(\S+)(?:\s+(.*))?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Template:
    """`/name input` stands for `text`, in which {input} is what followed the name."""

    name: str
    description: str
    text: str
    hint: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\s/]+", self.name):
            raise ValueError(f"a command's name has no white space and no slash: {self.name!r}")


def listed(templates: Sequence[Template]) -> Commands:
    """The commands as clients are told of them."""
    commands = [Command(t.name, t.description, t.hint) for t in templates]
    own = () if any(command.name == COMPACT.name for command in commands) else (COMPACT,)
    return Commands((*commands, *own))


def spelled_out(text: str, templates: Sequence[Template]) -> str:
    """What the prompt means: the template's text, if it begins with a command's name, else the prompt itself."""
    spoken = _SPOKEN.match(text)
    template = next((t for t in templates if spoken and t.name == spoken[1]), None)
    if spoken is None or template is None:
        return text
    return template.text.replace("{input}", spoken[2] or "")


def compaction_asked(text: str) -> str | None:
    """What is to be kept in mind, if a prompt that is spelled out asks for a compaction; else None."""
    spoken = _SPOKEN.match(text)
    return (spoken[2] or "").strip() if spoken and spoken[1] == COMPACT.name else None
