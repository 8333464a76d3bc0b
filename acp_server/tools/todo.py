"""todo_action: the model's plan, shown to the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from acp.updates import PlanEntry

from ..action import Action, Outcome, Report, ToolProblem
from ..wording import visible
from .spec import Context, Parameter, Tool

MOST_ENTRIES = 100
LONGEST_ENTRY = 500

Status = Literal["pending", "in_progress", "completed", "cancelled"]

_MARKS: dict[str, Status] = {
    "": "pending",
    " ": "pending",
    "~": "in_progress",
    ">": "in_progress",
    "/": "in_progress",
    "x": "completed",
    "X": "completed",
    "-": "cancelled",
}
_LINE = re.compile(r"\s*(?:[-*+]|\d{1,4}[.)])?\s*\[(?P<mark>[ ~>/xX-]?)\]\s*(?P<text>\S.*)")
_BULLET = re.compile(r"\s*(?:[-*+]|\d{1,4}[.)])\s+")
_STATUSES: dict[str, Status] = {
    "pending": "pending",
    "todo": "pending",
    "in_progress": "in_progress",
    "in-progress": "in_progress",
    "completed": "completed",
    "done": "completed",
    "cancelled": "cancelled",
}


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    entries = parse(arguments["todos"])

    async def run(_: Report) -> Outcome:
        return Outcome("ok")

    return Action("Update the plan", "think", run, plan=entries, reads_only=True)


def parse(todos: object) -> tuple[PlanEntry, ...]:
    """The entries of a plan, as lines or as a list. Raises `ToolProblem`."""
    if isinstance(todos, str):
        items: Iterable[object] = (line for line in todos.splitlines() if line.strip())
    elif isinstance(todos, list):
        items = cast("list[object]", todos)
    else:
        raise ToolProblem("argument todos must be lines such as `[ ] to do`, `[~] doing`, `[x] done`")
    entries = [_entry(item) for item in items]
    if len(entries) > MOST_ENTRIES:
        raise ToolProblem(f"the plan has {len(entries)} entries; keep it to {MOST_ENTRIES}")
    return tuple(entries)


def _entry(item: object) -> PlanEntry:
    if isinstance(item, str):
        found = _LINE.fullmatch(item.rstrip())
        if found:
            return PlanEntry(_said(found["text"]), status=_MARKS[found["mark"]])
        if text := _BULLET.sub("", item, count=1).strip():
            return PlanEntry(_said(text))
    if isinstance(item, Mapping):
        values = cast("Mapping[str, object]", item)
        text = next((values[k] for k in ("content", "text", "title", "task") if k in values), None)
        if isinstance(text, str) and text.strip():
            status = _STATUSES.get(str(values.get("status", "pending")), "pending")
            return PlanEntry(_said(text.strip()), status=status)
    raise ToolProblem("an entry of todos must be a line such as `[ ] to do`")


def _said(text: str) -> str:
    return visible(text[:LONGEST_ENTRY], keep="\n\t")


TODO = Tool(
    "todo_action",
    "Keep a plan: one line each, `[ ]` to do, `[~]` doing, `[x]` done.",
    (Parameter("todos", "list", required=True),),
    prepare,
)
