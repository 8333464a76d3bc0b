"""What can be set in a session: which model, what goes without asking, whether it thinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from acp.errors import RequestError
from acp.updates import Choice, ConfigOption, Json

from .model import ModelBackend, Sampling
from .permissions import Policy

MODE, MODEL, THOUGHT = "mode", "model", "thought_level"

_MODES: Mapping[Policy, tuple[str, str]] = {
    "ask": ("Ask", "Ask before every edit and every command"),
    "edits": ("Accept edits", "Edit files in the workspace without asking; ask before commands"),
    "all": ("Allow all", "Ask for nothing but changes of protected files"),
}
_THOUGHTS = {"on": "Think", "brief": "Think briefly", "off": "Do not think"}
BRIEF = 512
"""Tokens of thought before each answer of a model that thinks briefly."""


@dataclass(slots=True)
class Options:
    """One session's options and their values. `set` refuses what is not offered, and then changes nothing."""

    models: Mapping[str, ModelBackend]
    model: str
    mode: Policy = "ask"
    thought: str = "on"

    @property
    def backend(self) -> ModelBackend:
        return self.models[self.model]

    def sampling(self, default: Sampling) -> Sampling:
        match self.thought:
            case "off":
                return replace(default, thinking=False)
            case "brief":
                return replace(default, thinking_budget=BRIEF)
            case _:
                return default

    def values(self) -> dict[str, str]:
        return {MODE: self.mode, MODEL: self.model, THOUGHT: self.thought}

    def listed(self) -> tuple[ConfigOption, ...]:
        """All options, the most important first, which is the order that clients show them in."""
        modes = tuple(Choice(mode, name, description) for mode, (name, description) in _MODES.items())
        models = tuple(Choice(name, name) for name in self.models)
        thoughts = tuple(Choice(value, name) for value, name in _THOUGHTS.items())
        return (
            ConfigOption(MODE, "Mode", self.mode, modes, category="mode"),
            ConfigOption(MODEL, "Model", self.model, models, category="model"),
            ConfigOption(THOUGHT, "Thinking", self.thought, thoughts, category="thought_level"),
        )

    def set(self, id: str, value: Json) -> None:
        """Set an option. Raises RequestError -32602 for an option or a value that is not listed."""
        option = next((option for option in self.listed() if option.id == id), None)
        if option is None:
            raise RequestError.invalid_params(f"There is no option {id!r}.", {"configId": id})
        if all(value != choice.value for choice in option.choices):
            raise RequestError.invalid_params(f"{option.name} cannot be {value!r}.", {"configId": id, "value": value})
        match id:
            case "mode":
                self.mode = cast("Policy", value)
            case "model":
                self.model = cast("str", value)
            case _:
                self.thought = cast("str", value)

    def restore(self, settings: Mapping[str, Json]) -> None:
        """Set what was set before, as far as it is still offered."""
        for id, value in settings.items():
            try:
                self.set(id, value)
            except RequestError:
                continue
