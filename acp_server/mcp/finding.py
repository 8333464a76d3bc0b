"""find_tools: search the tools that the model cannot be told of all at once, for its context has no room for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from acp.updates import BlockContent, TextBlock

from ..action import Action, Outcome, Report, ToolProblem
from ..model import ToolSpec
from ..wording import fitting, plural, title

MOST = 10
"""Tools that one search gives."""

FIND = ToolSpec(
    "find_tools",
    "Search the further tools there are, by words of what they do. What is found can be called by its name.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)


def find(tools: Sequence[ToolSpec], arguments: Mapping[str, Any], limit: int) -> Action:
    """The search, prepared. Raises ToolProblem."""
    query = arguments.get("query")
    if not isinstance(query, str) or not query.strip():
        raise ToolProblem("query has to be a text of a few words")

    async def run(report: Report) -> Outcome:
        found = best(tools, query)
        lines = [
            json.dumps({"name": t.name, "description": t.description, "parameters": t.parameters}, ensure_ascii=False)
            for t in found
        ]
        text = "\n".join(lines[: fitting(lines, limit)]) or f"none of the {plural(len(tools), 'tool')} fits"
        names = "\n".join(tool.name for tool in found) or "(none)"
        return Outcome(text, (BlockContent(TextBlock(names)),))

    return Action(title(f"Find tools: {query}"), "search", run, reads_only=True)


def best(tools: Sequence[ToolSpec], query: str) -> list[ToolSpec]:
    """The tools that have most of the query's words, in their name or else in their description."""
    words = set(re.findall(r"\w+", query.lower()))

    def score(tool: ToolSpec) -> int:
        name, description = tool.name.lower(), tool.description.lower()
        return sum(3 if word in name else word in description for word in words)

    return sorted(filter(score, tools), key=score, reverse=True)[:MOST]
