"""edit: replace a piece of a file, found by its exact text."""

from __future__ import annotations

import difflib
from typing import Any

from acp.updates import Location

from ..action import Action, Outcome, Permission, Report, ToolProblem
from ..wording import bounded, plural, title
from ..workspace.encoding import Decoded, decode, encode, fit_line_ends
from ..workspace.files import Loaded, check_writable, digest
from ..workspace.jail import Place
from ..workspace.protected import is_protected
from ..workspace.workspace import Workspace, aside
from .diffs import changed_line, hunks, shown_diff
from .spec import Context, Parameter, Tool

LARGEST = 10 * 1024 * 1024
"""Bytes of a file that can be edited."""


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    old, new = arguments["old_string"], arguments["new_string"]
    if not old:
        raise ToolProblem("old_string is empty; use write to create a file")
    if old == new:
        raise ToolProblem("old_string and new_string are the same")
    workspace = context.workspace
    place = await workspace.resolve(arguments["path"])
    before = await load_to_change(workspace, place)
    check_seen(context, place, before, f"read {place.shown} before editing it")
    decoded = decode(before.data, place.shown)
    if decoded.encoding.startswith("utf-16"):
        raise ToolProblem(f"{place.shown} is {decoded.encoding}; it can be read but not edited")
    text, count = await aside(substitute, decoded, old, new, arguments["replace_all"], place.shown)
    data = encode(text, decoded.encoding, place.shown)
    lines = await aside(hunks, decoded.text, text)
    diff = shown_diff(place, decoded.text, text)
    where = (Location(place.absolute, changed_line(decoded.text, text)),)

    async def run(_: Report) -> Outcome:
        remark = await change(context, place, data, before)
        parts = [f"edited {place.shown}: {plural(count, 'replacement')}", *lines, *filter(None, [remark])]
        added = sum(line.startswith("+") for line in lines)
        removed = sum(line.startswith("-") for line in lines)
        raw = {"replacements": count, "added": added, "removed": removed}
        return Outcome(bounded("\n".join(parts), context.limit), (diff,), raw, locations=where)

    return Action(title(f"Edit {place.title}"), "edit", run, edit_permission(workspace, place), (diff,), where)


def substitute(decoded: Decoded, old: str, new: str, everywhere: bool, shown: str) -> tuple[str, int]:
    """The new text and how many places changed. Only line ends may differ from what the model wrote."""
    text = decoded.text
    old = fit_line_ends(old, decoded)
    count = text.count(old)
    if not count:
        raise ToolProblem("\n".join([f"old_string was not found in {shown}", *_hints(text, old)]))
    if count > 1 and not everywhere:
        raise ToolProblem(f"old_string occurs {count} times in {shown}; add surrounding lines or set replace_all")
    new = fit_line_ends(new, decoded)
    if old == new:
        raise ToolProblem("old_string and new_string are the same")
    return text.replace(old, new), count


async def load_to_change(workspace: Workspace, place: Place) -> Loaded:
    """The file, if it may and can be changed as a whole."""
    before = await workspace.load(place)
    if len(before.data) > LARGEST or not before.whole:
        raise ToolProblem(f"{place.shown} is too large to edit ({before.size} bytes)")
    await aside(check_writable, workspace.jail, place)
    return before


def check_seen(context: Context, place: Place, before: Loaded, unread: str) -> None:
    """Raises `ToolProblem` unless the model knows the file as it is."""
    seen = context.seen.get(place.absolute)
    if seen is None:
        raise ToolProblem(unread)
    if seen != before.digest:
        raise ToolProblem(f"{place.shown} changed since it was read; read it again")


async def change(context: Context, place: Place, data: bytes, before: Loaded | None) -> str:
    """Store, if nothing happened to the file since it was shown to the user. A remark, or ""."""
    workspace = context.workspace
    if before is not None and workspace.overlay is not None:
        # The disk is compared in `store`; what was typed in the editor meanwhile shows only here.
        now = await workspace.load(place)
        if now.digest != before.digest:
            raise ToolProblem(f"{place.shown} changed since it was read; read it again")
    remark = await workspace.store(place, data, before)
    context.seen[place.absolute] = digest(data)
    return remark


def edit_permission(workspace: Workspace, place: Place) -> Permission:
    if is_protected(place):
        name = title(f"Always allow edits of {place.relative} this session")
        return Permission("protected", place.absolute, name)
    name = title(f"Always allow edits in {workspace.root} this session")
    return Permission("edit", str(workspace.root), name)


def _hints(text: str, old: str) -> list[str]:
    """Where the text nearly is, for a model that copied it wrongly."""
    lines = text.splitlines()
    wanted = next((line for line in old.splitlines() if line.strip()), "")
    if not wanted or len(lines) > 20_000:
        return []
    squeezed = "".join(old.split())
    if squeezed and squeezed in "".join(text.split()):
        note = ["It is there with different spaces or line breaks."]
    else:
        note = []
    same = [n for n, line in enumerate(lines) if line.strip() == wanted.strip()]
    if not same and len(lines) <= 3000 and len(wanted) <= 300:
        candidates = [line for line in lines if len(line) <= 600]
        close = difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.7)
        same = [lines.index(close[0])] if close else []
    return note + [f"Line {n + 1} is: {lines[n][:300]}" for n in same[:3]]


EDIT = Tool(
    "edit",
    "Replace old_string, copied exactly from the file, by new_string. Read the file first.",
    (
        Parameter("path", "string", required=True),
        Parameter("old_string", "string", "Must occur once.", required=True),
        Parameter("new_string", "string", required=True),
        Parameter("replace_all", "boolean", "Replace every occurrence.", default=False),
    ),
    prepare,
)
