"""Values that an agent gives, judged one by one: options, commands, logins, permissions, forms, diffs, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..walking import Json, Object, members, obj, objects
from ..watching import Seen

PATHS = {"cwd", "path", "oldPath"}
SECRET = re.compile(r"pass(word|phrase|code)|secret|token|api.?key|credential|private.?key|\bpin\b|cvv", re.IGNORECASE)
PATCH_PATH = re.compile(r"^(?:--- |\+\+\+ |rename (?:from|to) |copy (?:from|to) )(?P<path>[^\t\n]+)", re.MULTILINE)


def paths(message: Object) -> Iterator[Seen]:
    """Every member that holds a path, but in what is free for the agent to fill."""
    for at, name, value in members({name: part for name, part in message.items() if name != "error"}):
        if any(word in at for word in ("rawInput", "rawOutput", "_meta", ".args")):
            continue
        if name in PATHS and isinstance(value, str):
            yield "wire.paths", "" if os.path.isabs(value) else f"{at} is {value!r}"
        if name == "additionalDirectories" and isinstance(value, list):
            wrong = [item for item in value if isinstance(item, str) and not os.path.isabs(item)]  # pyright: ignore[reportUnknownVariableType]
            yield "wire.paths", f"{at} has {wrong}" if wrong else ""


def options(rows: Json, version: int, *, booleans: bool) -> Iterator[Seen]:
    """A session's configuration options."""
    ids: list[Json] = []
    for option in objects(rows):
        ids.append(option.get("id" if version == 1 else "configId"))
        if option.get("type") == "boolean":
            fits = booleans or version == 2
            yield "wire.booleans", "" if fits else f"{ids[-1]} is a boolean, which the client did not announce"
        if option.get("type") != "select":
            continue
        values = [row.get("value") for row in choices(option)]
        chosen: Json = option.get("currentValue")
        fits = chosen in values and len(set(map(repr, values))) == len(values)
        yield "wire.config", "" if fits else f"{ids[-1]}: {chosen!r} of {values}"
    if len(set(map(repr, ids))) < len(ids):
        yield "wire.config", f"two options have one id: {ids}"


def choices(option: Object) -> list[Object]:
    """The choices of a select, those in groups too."""
    found: list[Object] = []
    for row in objects(option.get("options")):
        found += objects(row["options"]) if "options" in row else [row]
    return found


def commands(rows: Json) -> Iterator[Seen]:
    names = [str(row.get("name")) for row in objects(rows)]
    wrong = len(set(names)) < len(names) or any(not n or "/" in n or len(n.split()) != 1 for n in names)
    yield "wire.commands", f"{names}" if wrong else ""


def logins(rows: Json, version: int, *, terminal: bool) -> Iterator[Seen]:
    """The methods of authentication, told to a client that has a terminal for them or has none."""
    methods = objects(rows)
    ids = [row.get("id" if version == 1 else "methodId") for row in methods]
    if ids:
        yield "wire.auth-ids", f"{ids}" if len(set(map(repr, ids))) < len(ids) else ""
    for id, row in zip(ids, methods, strict=True):
        kind = row.get("type", "agent")
        if kind == "terminal":
            yield (
                "wire.auth-terminal",
                "" if terminal else f"{id!r} is for a terminal, which the client did not announce",
            )
        if version == 2:
            names = [entry.get("name") for entry in objects(row.get("env"))]
            fits = kind in ("agent", "terminal") or str(kind).startswith("_")
            problem = "" if fits else f"{id!r} has the type {kind!r}"
            yield "wire.auth-types", problem or (f"{id!r}: {names}" if len(set(names)) < len(names) else "")


def permission(params: Object, version: int) -> Iterator[Seen]:
    rows = objects(params.get("options"))
    ids = [row.get("optionId") for row in rows]
    fits = rows and all(row.get("optionId") and row.get("name") and row.get("kind") for row in rows)
    words = "" if fits else f"a permission request with the options {params.get('options')}"
    yield "wire.options", words or (f"two options have one id: {ids}" if len(set(ids)) < len(ids) else "")
    subject = obj(params.get("subject"))
    if version == 2 and subject.get("type") == "command":
        whole = isinstance(subject.get("command"), str) and os.path.isabs(str(subject.get("cwd")))
        yield "wire.command-subject", "" if whole else f"{subject}"


def elicitation(params: Object) -> Iterator[Seen]:
    """A form asks for no secret; an address is one of HTTPS, and carries nothing that opens a door."""
    if params.get("mode") == "form":
        fields = obj(obj(params.get("requestedSchema")).get("properties"))
        secret = [name for name, row in fields.items() if SECRET.search(f"{name} {obj(row).get('title', '')}")]
        yield "wire.secrets", f"a form asks for {', '.join(secret)}" if secret else ""
    elif params.get("mode") == "url":
        url = urlsplit(str(params.get("url")))
        local = url.hostname in ("localhost", "127.0.0.1", "::1")
        if url.scheme != "https" and not (url.scheme == "http" and local):
            yield "wire.secrets", f"{params.get('url')} is no address of HTTPS"
        elif url.username or url.password or re.search(r"(?:^|&)(?:password|api_?key|access_token)=", url.query):
            yield "wire.secrets", "an address carries what opens a door"
        else:
            yield "wire.secrets", ""


def diffs(content: Json) -> Iterator[Seen]:
    """Of version 2: the changes say the paths, and those of a patch are absolute and bear no prefix."""
    for diff in objects(content):
        if diff.get("type") != "diff":
            continue
        changed = {
            path for row in objects(diff.get("changes")) for path in (row.get("path"), row.get("oldPath")) if path
        }
        patch = obj(diff.get("patch"))
        words = "" if changed else "a diff without a change"
        if patch.get("format") == "git_patch":
            named = [match["path"].strip('"') for match in PATCH_PATH.finditer(str(patch.get("text")))]
            wrong = [path for path in named if path != "/dev/null" and path not in changed]
            words = words or (f"its patch names {wrong[0]!r}, its changes {sorted(map(str, changed))}" if wrong else "")
        yield "wire.diffs", words
