"""A tool of an MCP server, as one that the model can call."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from acp.updates import BlockContent, TextBlock

from ..action import Action, Outcome, Permission, Report, ToolProblem
from ..model import ToolSpec
from ..wording import title, visible
from .link import Link
from .result import outcome

if TYPE_CHECKING:
    from mcp_types import Tool

LONGEST_NAME = 64
"""Characters that models' interfaces allow in a tool's name."""
LONGEST_DESCRIPTION = 2000
LARGEST_SCHEMA = 8192
"""Characters of a schema that the model is shown; of a larger one, or a deeper one, only what its parameters are."""
DEEPEST_SCHEMA = 24
MOST_PARAMETERS = 64
"""Parameters that are kept of a schema too large."""


@dataclass(frozen=True, slots=True)
class McpTool:
    """`spec` is what the model is told; `remote` what the server calls it."""

    spec: ToolSpec
    link: Link
    remote: str
    title: str

    def prepare(self, arguments: Mapping[str, Any], limit: int) -> Action:
        """The call, which the server checks when it is made. What it would do, only the server knows."""
        if missing := [name for name in self.spec.parameters.get("required", ()) if name not in arguments]:
            raise ToolProblem(f"{self.spec.name} needs {', '.join(map(repr, missing))}")

        async def run(report: Report) -> Outcome:
            async def heard(progress: float, total: float | None, message: str | None) -> None:
                of = "" if total is None else f" of {total:g}"
                await report((BlockContent(TextBlock(visible(message[:500]) if message else f"{progress:g}{of}")),))

            return outcome(await self.link.call(self.remote, dict(arguments), heard), limit)

        always = f"Always allow {visible(self.remote[:80])} of {self.link.name} this session"
        permission = Permission("mcp", self._identity(), always)
        return Action(title(f"{self.link.name}: {self.title}"), "other", run, permission)

    def _identity(self) -> str:
        """What an "always" is for: this tool as it was described then, of this very server."""
        told = self.link.offer, self.remote, self.spec.description, json.dumps(self.spec.parameters)
        return f"{self.spec.name} {hash(told)}"


def named(link: Link, tool: Tool, taken: Collection[str]) -> McpTool:
    """The tool under a name that no other has."""
    wanted = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{link.offer.name}__{tool.name}")
    name = wanted[:LONGEST_NAME]
    number = 0
    while name in taken or (name != wanted and not number):
        digest = hashlib.sha256(f"{link.offer.name}\0{tool.name}\0{number}".encode()).hexdigest()[:8]
        name, number = f"{wanted[: LONGEST_NAME - 9]}_{digest}", number + 1
    words = tool.description or tool.title or tool.name
    heading = (tool.annotations.title if tool.annotations else None) or tool.title or tool.name
    return McpTool(ToolSpec(name, words[:LONGEST_DESCRIPTION], parameters(tool.input_schema)), link, tool.name, heading)


def parameters(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A server's schema as the model is shown it: an object's, and of a bounded size. References stay as they are."""
    properties, required = _object(schema.get("properties")), _list(schema.get("required"))
    names = [name for name in required if isinstance(name, str)]
    whole = {**schema, "type": "object", "properties": properties, **({"required": names} if names else {})}
    return whole if _is_handy(whole) else _shallow(properties, names)


def _shallow(properties: Mapping[str, Any], required: Collection[str]) -> dict[str, Any]:
    """The names of the parameters, and of each its type and the beginning of its description."""
    kept: dict[str, Any] = {}
    for name, said in properties.items():
        if len(name) <= LONGEST_NAME and len(kept) < MOST_PARAMETERS:
            texts = {key: _object(said).get(key) for key in ("type", "description")}
            kept[name] = {key: text[:200] for key, text in texts.items() if isinstance(text, str)}
    return {"type": "object", "properties": kept, "required": [name for name in required if name in kept]}


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _is_handy(value: Any) -> bool:
    """Whether a JSON value is small and flat enough to be shown and walked through."""
    level = [value]
    for _ in range(DEEPEST_SCHEMA):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += _object(item).values()
            else:
                inner += _list(item)
        if not inner:
            return len(json.dumps(value)) <= LARGEST_SCHEMA
        level = inner
    return False
