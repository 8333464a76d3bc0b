"""list_directory: what is in a directory."""

from __future__ import annotations

import stat
from typing import Any

from acp.updates import Location

from ..action import Action, Outcome, Report, ToolProblem
from ..wording import fenced, fitting, title, visible
from ..workspace.jail import Place, problem
from ..workspace.workspace import aside
from .spec import Context, Parameter, Tool
from .walk import Walk

MOST_SHOWN = 300
MOST_COUNTED = 100_000


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    place = await context.workspace.resolve(arguments["path"])
    depth: int = arguments["depth"]

    async def run(_: Report) -> Outcome:
        entries, total, cut = await aside(_entries, context, place, depth)
        if not total:
            return Outcome("(empty directory)", fenced("(empty directory)"), {"entries": 0})
        shown = entries[: fitting(entries, context.limit - 60)]
        left = total - len(shown)
        lines = [*shown, *([f"[{'more than ' if cut else ''}{left} more entries]"] if left or cut else [])]
        text = "\n".join(lines)
        return Outcome(text, fenced(text), {"entries": total, "truncated": bool(left or cut)})

    return Action(
        title(f"List {place.title}"),
        "read",
        run,
        locations=(Location(place.absolute),),
        reads_only=True,
    )


def _entries(context: Context, place: Place, depth: int) -> tuple[list[str], int, bool]:
    """The lines to show, how many entries there are, and whether there are more than were counted."""
    check_directory(context, place)
    walk = Walk(context.workspace.jail, place, depth, ignored_too=True)
    lines: list[str] = []
    total = 0
    try:
        for found in walk:
            total += 1
            if total <= MOST_SHOWN:
                name = visible("/".join(found.parts[len(place.parts) :]))
                lines.append(name + "/" if found.is_directory else name)
            if total >= MOST_COUNTED:
                return lines, total, True
    except OSError as error:
        raise problem(error, place.shown) from error
    return lines, total, walk.cut


def check_directory(context: Context, place: Place) -> None:
    status = context.workspace.jail.status(place)
    if status is None:
        raise ToolProblem(f"{place.shown} does not exist")
    if not stat.S_ISDIR(status.st_mode):
        raise ToolProblem(f"{place.shown} is not a directory; use read")


LIST_DIRECTORY = Tool(
    "list_directory",
    "List a directory; names of directories end in /.",
    (
        Parameter("path", "string", default="."),
        Parameter("depth", "integer", "Levels to show.", default=1, least=1, most=10),
    ),
    prepare,
)
