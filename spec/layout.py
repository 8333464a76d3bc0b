"""Lays generated code out as the project's formatter would, and imports only what it uses."""

from __future__ import annotations

import re

WIDTH = 120
WIRE = (
    "EITHER",
    "EMPTY",
    "NULL_IS_EMPTY_DICT",
    "NULL_IS_EMPTY_LIST",
    "OMIT",
    "OMIT_NULL",
    "SKIP",
    "UNSTABLE",
    "Bool",
    "Format",
    "Int32",
    "Int64",
    "Number",
    "Open",
    "UInt16",
    "UInt32",
    "UInt64",
    "Wire",
    "WithMeta",
)


def tidy(header: str, blocks: list[str]) -> str:
    """The module's text: header, the names of `acp.wire` that the blocks use, the blocks."""
    words = set(re.findall(r"\w+", "\n".join(blocks)))
    header = re.sub(r"(?m)^from (\S+) import (?!\()(.*)$", lambda m: keep(m[1], m[2], words), header)
    imports = "".join(f"    {name},\n" for name in WIRE if name in words)
    body = ""
    for block, before in zip(blocks, ["", *blocks], strict=False):
        spaced = block.startswith("class") or before.startswith("class")
        body += ("\n\n" if spaced else "") + "\n".join(map(wrap, block.splitlines())) + "\n"
    return f"{header}{imports})\n\n{body}"


def keep(module: str, names: str, words: set[str]) -> str:
    return f"from {module} import {', '.join(n for n in names.split(', ') if n in words)}"


def wrap(line: str) -> str:
    """One statement, broken at its brackets if it is too long: at the last pair, or at the first if it must be."""
    if len(line) <= WIDTH:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    before, equals, value = line.partition(" = ")
    if len(split(value, " | ")) > 1:
        return f"{before}{equals}(\n{contents(indent + '    ', value)}\n{indent})"
    groups = brackets(line)
    fitting = [(start, end) for start, end in groups if start < WIDTH and len(line) - end < WIDTH]
    if not fitting:
        before, _, rest = line.partition(": ")
        union, equals, default = rest.partition(" = ")
        return f"{before}: (\n{contents(indent + '    ', union)}\n{indent}){equals}{default}"
    start, end = fitting[-1]
    head, inner, tail = line[: start + 1], line[start + 1 : end], line[end:]
    return f"{head}\n{contents(indent + '    ', inner)}\n{indent}{tail}"


def contents(indent: str, inner: str, after: str = "") -> str:
    """What stands between two brackets: on one line if it fits, otherwise an item or an alternative a line."""
    if len(indent + inner + after) <= WIDTH:
        return indent + inner + after
    items = split(inner, ", ")
    if len(items) == 1 and inner.startswith("["):
        return f"{indent}[\n{contents(indent + '    ', inner[1:-1])}\n{indent}]{after}"
    if len(items) == 1:
        return "\n".join(indent + ("| " if at else "") + part for at, part in enumerate(split(inner, " | "))) + after
    return "\n".join(contents(indent, item, ",") for item in items)


def brackets(line: str) -> list[tuple[int, int]]:
    """The outermost pairs of brackets."""
    found: list[tuple[int, int]] = []
    depth = start = 0
    for at, char in enumerate(line):
        if char in "([":
            start = at if depth == 0 else start
            depth += 1
        elif char in ")]":
            depth -= 1
            if depth == 0:
                found.append((start, at))
    return found


def split(text: str, separator: str) -> list[str]:
    """`text` at every separator outside brackets."""
    parts, depth, begin = [""][:0], 0, 0
    for at, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if depth == 0 and text.startswith(separator, at):
            parts.append(text[begin:at])
            begin = at + len(separator)
    return [*parts, text[begin:]]
