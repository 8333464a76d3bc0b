"""read: a file's lines, numbered."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import PurePath
from typing import Any

from acp.updates import Location

from ..action import Action, Outcome, Report, ToolProblem
from ..wording import fenced, fitting, title
from ..workspace.encoding import Decoded, decode
from ..workspace.files import Loaded
from ..workspace.jail import Place
from ..workspace.workspace import aside
from .spec import Context, Parameter, Tool

LONGEST_LINE = 2000
"""Characters shown of one line."""

_LANGUAGES = {"py": "python", "js": "javascript", "ts": "typescript", "rs": "rust", "sh": "bash", "yml": "yaml"}


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    offset = max(1, arguments["offset"])
    limit: int = arguments["limit"]
    place = await context.workspace.resolve(arguments["path"])

    async def run(_: Report) -> Outcome:
        return await _read(context, place, offset, limit)

    where = f" ({offset}-{offset + limit - 1})" if (offset, limit) != (1, DEFAULT_LIMIT) else ""
    return Action(
        title(f"Read {place.title}{where}"),
        "read",
        run,
        locations=(Location(place.absolute, offset),),
        reads_only=True,
    )


async def _read(context: Context, place: Place, offset: int, limit: int) -> Outcome:
    loaded = await context.workspace.load(place)
    lines, total, notes = await aside(_lines, loaded, place, offset, limit)
    context.seen[place.absolute] = loaded.digest
    if not total:
        return Outcome("(empty file)", fenced(""), {"lines": 0, "total_lines": 0, "truncated": False})
    lines = lines[: fitting(lines, context.limit - 80)]
    last = offset + len(lines) - 1
    text = list(lines)
    cut = offset > 1 or last < total or not loaded.whole
    if cut:
        of = str(total) if loaded.whole else f"more than {total}"
        more = f"; continue with offset={last + 1}" if last < total else ""
        text.append(f"[lines {offset}-{last} of {of}{more}]")
    text += notes
    return Outcome(
        "\n".join(text),
        fenced("\n".join(line.partition("\t")[2] for line in lines), language(place.absolute)),
        {"lines": len(lines), "total_lines": total, "truncated": cut},
    )


def _lines(loaded: Loaded, place: Place, offset: int, limit: int) -> tuple[list[str], int, list[str]]:
    """The numbered lines wanted, how many the file has, and remarks."""
    decoded = decode(loaded.data, place.shown)
    text = decoded.text.removeprefix("\ufeff")
    total = text.count("\n") + (bool(text) and not text.endswith("\n"))
    if total and offset > total:
        raise ToolProblem(f"offset {offset} is beyond the end of {place.shown}, which has {total} lines")
    chosen = islice(io.StringIO(text, newline="\n"), offset - 1, offset - 1 + limit)
    numbered = [f"{offset + n}\t{_cut(line)}" for n, line in enumerate(chosen)]
    return numbered, total, _notes(loaded, decoded)


def _cut(line: str) -> str:
    line = line.removesuffix("\n").removesuffix("\r")
    left_out = len(line) - LONGEST_LINE
    return line if left_out <= 0 else f"{line[:LONGEST_LINE]} [… {left_out} characters left out …]"


def _notes(loaded: Loaded, decoded: Decoded) -> list[str]:
    notes: list[str] = []
    if decoded.encoding == "latin-1":
        notes.append("[not UTF-8; shown as Latin-1]")
    if loaded.unsaved:
        notes.append("[as in the editor, with unsaved changes; grep and shell see the saved file]")
    if not loaded.whole:
        notes.append(f"[only the first {len(loaded.data)} of {loaded.size} bytes can be read]")
    return notes


def language(path: str) -> str:
    """The info string of a code block for this file."""
    suffix = PurePath(path).suffix.lstrip(".").lower()
    return _LANGUAGES.get(suffix, suffix if suffix.isascii() and suffix.isalnum() else "")


DEFAULT_LIMIT = 400

READ = Tool(
    "read",
    "Show a file with numbered lines.",
    (
        Parameter("path", "string", required=True),
        Parameter("offset", "integer", "First line, from 1.", default=1, least=0),
        Parameter("limit", "integer", "Most lines.", default=DEFAULT_LIMIT, least=1, most=2000),
    ),
    prepare,
)
