"""The facts of the official ACP schema files, without their sentences.

    python spec/condense.py OFFICIAL_DIR

reads `OFFICIAL_DIR/{v1,v2}/schema.json` and `schema.unstable.json` and writes `spec/v1/schema.json` and
`spec/v2/schema.json`: names, types, required, bounds, formats, constants, union arms, defaults and `x-` keys.

One file holds both schemas of a version. The unstable one is a superset, so the file is the unstable one in which
everything that the stable one lacks is marked `x-unstable`; a default that differs keeps the stable value as
`x-stable-default`. `project` takes either of the two out again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, cast

Schema = dict[str, Any]
UNSTABLE = "x-unstable"
STABLE_DEFAULT = "x-stable-default"
NAMED = ("properties", "$defs", "patternProperties")
"""Keywords whose keys are names of the protocol and not keywords."""


def strip(node: Any, names: bool = False) -> Any:
    """`node` without prose: no `description`, and no `title` but that of a union arm or of the whole file."""
    if isinstance(node, list):
        return [strip(item) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    items = cast("Schema", node).items()
    if names:
        return {key: strip(value) for key, value in items}
    return {
        key: value if key in ("default", "const", "enum") else strip(value, key in NAMED)
        for key, value in items
        if key != "description"
    }


def identity(node: Any) -> str:
    """What makes an element of a list the same element in both schemas: its name, its tag or its target."""
    if not isinstance(node, dict):
        return json.dumps(node)
    schema = cast("Schema", node)
    if "title" in schema:
        return f"title {schema['title']}"
    tags = {k: v["const"] for k, v in schema.get("properties", {}).items() if "const" in v}
    for key, value in (("tags", tags), ("const", schema.get("const")), ("$ref", schema.get("$ref"))):
        if value:
            return f"{key} {json.dumps(value, sort_keys=True)}"
    return "nested" if "anyOf" in schema else json.dumps(schema, sort_keys=True)


def merge(stable: Any, unstable: Any, where: str = "") -> Any:
    """The unstable schema with a mark on everything that the stable one lacks."""
    if isinstance(stable, dict) and isinstance(unstable, dict):
        old, new = cast("Schema", stable), cast("Schema", unstable)
        if old.keys() - new.keys():
            raise ValueError(f"{where}: only in the stable schema: {sorted(old.keys() - new.keys())}")
        merged: Schema = {}
        for key, value in new.items():
            if key not in old:
                merged[key] = mark(value, f"{where}/{key}")
            elif key == "default" and old[key] != value:
                merged[key], merged[STABLE_DEFAULT] = value, old[key]
            else:
                merged[key] = merge(old[key], value, f"{where}/{key}")
        return merged
    if isinstance(stable, list) and isinstance(unstable, list):
        known = {identity(item): item for item in cast("list[Any]", stable)}
        both = [
            merge(known.pop(identity(item)), item, f"{where}[{index}]")
            if identity(item) in known
            else mark(item, f"{where}[{index}]")
            for index, item in enumerate(cast("list[Any]", unstable))
        ]
        if known:
            raise ValueError(f"{where}: only in the stable schema: {sorted(known)}")
        return both
    if stable != unstable:
        raise ValueError(f"{where}: the two schemas disagree: {stable!r} and {unstable!r}")
    return unstable


def mark(node: Any, where: str) -> Schema:
    if not isinstance(node, dict):
        raise ValueError(f"{where}: only a schema can be marked as unstable")
    return {UNSTABLE: True, **cast("Schema", node)}


def project(node: Any, *, stable: bool) -> Any:
    """The stable or the unstable schema out of the condensed one."""
    if isinstance(node, list):
        kept = [item for item in cast("list[Any]", node) if not (stable and is_unstable(item))]
        return [project(item, stable=stable) for item in kept]
    if not isinstance(node, dict):
        return node
    schema = cast("Schema", node)
    out: Schema = {}
    for key, value in schema.items():
        if key in (UNSTABLE, STABLE_DEFAULT) or (stable and is_unstable(value)):
            continue
        default = key == "default"
        out[key] = value if default else project(value, stable=stable)
        if default and stable:
            out[key] = schema.get(STABLE_DEFAULT, value)
    return out


def is_unstable(node: Any) -> bool:
    return isinstance(node, dict) and bool(cast("Schema", node).get(UNSTABLE))


def condense(folder: Path) -> tuple[Schema, dict[str, str]]:
    """The condensed schema of one version, and the sha256 of the two official files it was made of."""
    texts = {name: (folder / name).read_bytes() for name in ("schema.json", "schema.unstable.json")}
    stable, unstable = (strip(json.loads(text)) for text in texts.values())
    return merge(stable, unstable), {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python spec/condense.py OFFICIAL_DIR", file=sys.stderr)
        return 2
    for version in ("v1", "v2"):
        schema, sums = condense(Path(arguments[0]) / version)
        target = Path(__file__).parent / version / "schema.json"
        target.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{target.relative_to(Path(__file__).parent)}: {len(schema['$defs'])} definitions")
        for name, digest in sums.items():
            print(f"  {version}/{name} sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
