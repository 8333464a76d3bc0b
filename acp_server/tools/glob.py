"""glob: files by name."""

from __future__ import annotations

import os
from typing import Any

from acp.updates import Location

from ..action import Action, Outcome, Report, ToolProblem
from ..wording import fenced, fitting, title, visible
from ..workspace.jail import Place, problem
from ..workspace.workspace import Workspace, aside
from .list_directory import check_directory
from .patterns import Pattern
from .spec import Context, Parameter, Tool
from .walk import Walk

MOST_SHOWN = 200


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    place = await context.workspace.resolve(arguments["path"])
    written: str = arguments["pattern"]
    pattern = Pattern(_relative(written, context.workspace, place))

    async def run(_: Report) -> Outcome:
        paths, total, cut = await aside(_find, context, place, pattern)
        if not total:
            none = f"no files match {visible(written)}"
            return Outcome(none, fenced(none), {"files": 0})
        shown = paths[: fitting(paths, context.limit - 60)]
        left = total - len(shown)
        lines = [*shown, *([f"[{'more than ' if cut else ''}{left} more files]"] if left or cut else [])]
        text = "\n".join(lines)
        return Outcome(text, fenced(text), {"files": total, "truncated": bool(left or cut)})

    where = "" if place.shown == "." else f" in {place.title}"
    return Action(
        title(f"Find {written}{where}"),
        "search",
        run,
        locations=(Location(place.absolute),),
        reads_only=True,
    )


def _find(context: Context, place: Place, pattern: Pattern) -> tuple[list[str], int, bool]:
    check_directory(context, place)
    walk = Walk(context.workspace.jail, place)
    paths: list[str] = []
    total = 0
    try:
        for found in walk:
            if not found.is_directory and pattern.matches(found.parts[len(place.parts) :]):
                total += 1
                if total <= MOST_SHOWN:
                    paths.append(shown_path(context.workspace, place, found.parts))
    except OSError as error:
        raise problem(error, place.shown) from error
    return paths, total, walk.cut


def shown_path(workspace: Workspace, place: Place, parts: tuple[str, ...]) -> str:
    """A file found below `place`, as the model may name it: relative to the workspace."""
    inside = place.root is workspace.jail.roots[0]
    return visible("/".join(parts) if inside else os.path.join(place.root.path, *parts))


def _relative(pattern: str, workspace: Workspace, place: Place) -> str:
    """An absolute pattern made relative to the directory that is searched."""
    if not pattern.strip():
        raise ToolProblem("the pattern is empty")
    if not pattern.startswith("/"):
        return pattern
    for base in (place.absolute, os.path.join(place.root.real, *place.parts)):
        if pattern.startswith(base.rstrip("/") + "/"):
            return "./" + pattern[len(base.rstrip("/")) + 1 :]
    raise ToolProblem(f"{visible(pattern[:200])} is outside {place.shown}; use a relative pattern")


GLOB = Tool(
    "glob",
    "Find files by name, such as `*.py` or `src/**/test_*.py`.",
    (
        Parameter("pattern", "string", required=True),
        Parameter("path", "string", "Directory to search.", default="."),
    ),
    prepare,
)
