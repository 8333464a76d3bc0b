"""Breaks the long lines of generated code the way the project's formatter does, and lists the needed imports."""

from __future__ import annotations

import re

WIDTH = 110
WIRE = (
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


def tidy(header: str, body: str) -> str:
    words = set(re.findall(r"\w+", body))
    header = re.sub(r"(?m)^from (\S+) import (?!\()(.*)$", lambda m: keep(m[1], m[2], words), header)
    imports = "".join(f"    {name},\n" for name in WIRE if name in words)
    return header + imports + ")\n\n" + body


def keep(module: str, names: str, words: set[str]) -> str:
    return f"from {module} import {', '.join(n for n in names.split(', ') if n in words)}"
