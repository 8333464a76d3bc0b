"""grep: lines that match a regular expression."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from acp.updates import Location

from ..action import Action, Outcome, Report, ToolProblem
from ..wording import fenced, fitting, title, visible
from ..workspace.jail import Place, problem
from ..workspace.workspace import aside
from .glob import shown_path
from .patterns import Pattern
from .spec import Context, Parameter, Tool
from .walk import Walk

MOST_SHOWN = 200
SECONDS = 20.0
"""A search that takes longer is killed."""

_CHILD = str(Path(__file__).with_name("search_child.py"))


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    place = await context.workspace.resolve(arguments["path"])
    written: str = arguments["pattern"]
    if not written:
        raise ToolProblem("the pattern is empty")
    name = Pattern(arguments["glob"]) if arguments["glob"] else None
    expression, note = _expression(written)

    async def run(_: Report) -> Outcome:
        files, cut = await aside(_files, context, place, name)
        job = {
            "root": place.root.real,
            "files": files,
            "pattern": expression,
            "ignore_case": arguments["ignore_case"],
            "context": arguments["context"],
            "most": MOST_SHOWN,
            "seconds": SECONDS * 0.75,
        }
        return _outcome(context, written, await _search(job), cut, note)

    where = "" if place.shown == "." else f" in {place.title}"
    return Action(
        title(f"Search {written}{where}"),
        "search",
        run,
        locations=(Location(place.absolute),),
        reads_only=True,
    )


def _expression(written: str) -> tuple[str, list[str]]:
    """A valid regular expression, and a remark if it is not the one that was written."""
    try:
        re.compile(written)
    except (re.error, OverflowError, RecursionError) as error:
        return re.escape(written), [f"[not a valid regular expression ({error}); searched for the text itself]"]
    return written, []


def _files(context: Context, place: Place, name: Pattern | None) -> tuple[list[tuple[str, str]], bool]:
    """What to search: each file's path below the root, and its name for the model."""
    workspace = context.workspace
    status = workspace.jail.status(place)
    if status is None:
        raise ToolProblem(f"{place.shown} does not exist")
    if stat.S_ISREG(status.st_mode):
        return [("/".join(place.parts), shown_path(workspace, place, place.parts))], False
    if not stat.S_ISDIR(status.st_mode):
        raise ToolProblem(f"{place.shown} is not a regular file")
    walk = Walk(workspace.jail, place)
    try:
        return [
            ("/".join(found.parts), shown_path(workspace, place, found.parts))
            for found in walk
            if found.is_file and (name is None or name.matches(found.parts[len(place.parts) :]))
        ], walk.cut
    except OSError as error:
        raise problem(error, place.shown) from error


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-X", "utf8", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        start_new_session=True,
    )


async def _search(job: dict[str, Any]) -> dict[str, Any]:
    """What the child found. It does not outlive this call, cancelled or not."""
    child = await to_thread.run_sync(_start)
    answer = b""
    try:
        with anyio.move_on_after(SECONDS) as limit:
            answer, _ = await aside(child.communicate, json.dumps(job).encode())
        if limit.cancelled_caught:
            raise ToolProblem(f"the search took longer than {SECONDS:.0f} s; simplify the pattern or narrow the path")
    finally:
        child.kill()
        with anyio.CancelScope(shield=True):
            await aside(child.wait, 2)
    try:
        return json.loads(answer)
    except ValueError as error:
        raise ToolProblem("the search failed; simplify the pattern or narrow the path") from error


def _outcome(context: Context, written: str, found: dict[str, Any], cut: bool, note: list[str]) -> Outcome:
    lines = [visible(line, keep="\t") for line in found["lines"]]
    cut = cut or found["cut"]
    if not lines:
        none = f"no matches for {visible(written)}"
        more = ["[not everything was searched; narrow the path]"] if cut else []
        text = "\n".join([none, *more, *note])
        return Outcome(text, fenced(text), {"matches": 0, "truncated": cut})
    shown = lines[: fitting(lines, context.limit - 160)]
    matches = found["shown"] if len(shown) == len(lines) else sum(1 for line in shown if _is_match(line))
    left = found["total"] - matches
    if left or cut:
        shown.append(f"[{'more than ' if cut else ''}{left} more matches]")
    text = "\n".join([*shown, *note])
    return Outcome(text, fenced(text), {"matches": found["total"], "truncated": bool(left or cut)})


def _is_match(line: str) -> bool:
    return re.match(r".*?:\d+:", line) is not None


GREP = Tool(
    "grep",
    "Find lines that match a regular expression.",
    (
        Parameter("pattern", "string", required=True),
        Parameter("path", "string", "File or directory to search.", default="."),
        Parameter("glob", "string", "Only files of such names, as `*.py`."),
        Parameter("context", "integer", "Lines around each match.", default=0, least=0, most=20),
        Parameter("ignore_case", "boolean", default=False),
    ),
    prepare,
)
