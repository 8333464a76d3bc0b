"""write: create a file, or replace all of one that was read."""

from __future__ import annotations

import re
import stat
from typing import Any

from acp.updates import Location

from ..action import Action, Outcome, Report, ToolProblem
from ..wording import plural, title
from ..workspace.encoding import decode, encode, fit_line_ends
from ..workspace.files import Loaded
from ..workspace.jail import Place
from ..workspace.workspace import aside
from .diffs import shown_diff
from .edit import LARGEST, change, check_seen, edit_permission, load_to_change
from .spec import Context, Parameter, Tool

_OMISSION = re.compile(
    r"\s*(?:#|//|/\*|<!--|--|;|%|\"\"\")?\s*(?:[(\[{]?\s*)(?:\.{3}|…)\s*(?P<words>[^\n]{0,80})", re.ASCII
)
_OMISSION_AFTER = re.compile(r"\s*(?:#|//|/\*|<!--|--|;|%)\s*(?P<words>[^\n]{0,80}?)\s*(?:\.{3}|…)[^\n\w]{0,8}")
_OMITTED = re.compile(
    r"\b(?:rest of|existing (?:code|content|lines|methods|functions|imports)|unchanged|remain(?:s|ing|der)?"
    r"|same as (?:before|above)|previous (?:code|content)|omitted|other (?:code|functions|methods|lines))\b",
    re.IGNORECASE,
)


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    workspace = context.workspace
    place = await workspace.resolve(arguments["path"])
    status = await aside(workspace.jail.status, place)
    content: str = arguments["content"]
    check_no_omission(content)
    before: Loaded | None = None
    old: str | None = None
    encoding = "utf-8"
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise ToolProblem(f"{place.shown} is a directory; use list_directory")
        if place.absolute not in context.seen and stat.S_ISREG(status.st_mode):
            raise ToolProblem(f"{place.shown} exists; read it before overwriting it")
        before = await load_to_change(workspace, place)
        check_seen(context, place, before, f"{place.shown} exists; read it before overwriting it")
        decoded = decode(before.data, place.shown)
        old, encoding = decoded.text, decoded.encoding
        content = fit_line_ends(content, decoded)
        if old.startswith("\ufeff") and not content.startswith("\ufeff"):
            content = "\ufeff" + content
    data = encode(content, encoding, place.shown)
    if len(data) > LARGEST:
        raise ToolProblem(f"content is too large to write at once ({len(data)} bytes)")
    return _action(context, place, content, data, (old, before))


def _action(context: Context, place: Place, content: str, data: bytes, was: tuple[str | None, Loaded | None]) -> Action:
    old, before = was
    diff = shown_diff(place, old, content)
    lines = plural(len(content.splitlines()), "line")
    verb = "created" if before is None else "overwrote"

    async def run(_: Report) -> Outcome:
        remark = await change(context, place, data, before)
        text = f"{verb} {place.shown} ({lines})" + (f"\n{remark}" if remark else "")
        return Outcome(text, (diff,), {"bytes": len(data), "created": before is None}, locations=where)

    where = (Location(place.absolute),)
    return Action(
        title(f"{'Create' if before is None else 'Overwrite'} {place.title}"),
        "edit",
        run,
        edit_permission(context.workspace, place),
        (diff,),
        where,
    )


def check_no_omission(content: str) -> None:
    """Raises `ToolProblem` for a line that stands for text the model did not write out."""
    for number, line in enumerate(content.splitlines(), 1):
        if len(line) > 200 or ("..." not in line and "…" not in line):
            continue
        found = _OMISSION.fullmatch(line) or _OMISSION_AFTER.fullmatch(line)
        if found and _OMITTED.search(found["words"]):
            said = line.strip()[:80]
            raise ToolProblem(f"line {number} of content, `{said}`, leaves text out; write the whole file, or use edit")


WRITE = Tool(
    "write",
    "Create a file, or replace the whole content of one you have read.",
    (
        Parameter("path", "string", required=True),
        Parameter("content", "string", "The whole file.", required=True),
    ),
    prepare,
)
