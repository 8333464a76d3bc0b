"""What a tool is: its name and parameters as the model is told, and how a call of it is prepared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..action import Action
from ..model import ToolSpec
from ..terminals.background import Background
from ..terminals.terminals import Terminals
from ..workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument. Without `required`, a call that leaves it out gets `default`.

    A `list` parameter is told to the model as a string, which is easiest to write, but takes a list too.
    """

    name: str
    type: Literal["string", "integer", "boolean", "list"]
    description: str = ""
    required: bool = False
    default: Any = None
    least: int | None = None
    most: int | None = None

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string" if self.type == "list" else self.type}
        if self.description:
            schema["description"] = self.description
        if self.default is not None:
            schema["default"] = self.default
        return schema


@dataclass(slots=True)
class Context:
    """What the tools of one session share. `limit` bounds a result, in characters.

    `background` is None where no command can outlive its call. `seen` has the digest of every file the model has been
    shown, by absolute path, as it was then.
    """

    workspace: Workspace
    terminals: Terminals
    limit: int
    background: Background | None = None
    seen: dict[str, str] = field(default_factory=dict[str, str])


Prepare = Callable[[Context, dict[str, Any]], Awaitable[Action]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `prepare` gets every parameter by name, checked and of the right type."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    prepare: Prepare

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(
            self.name,
            self.description,
            {
                "type": "object",
                "properties": {p.name: p.schema() for p in self.parameters},
                "required": [p.name for p in self.parameters if p.required],
            },
        )
