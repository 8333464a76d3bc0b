"""A JSON schema as what `json_grammar` needs of it: the kinds of values that there may be at each place.

Kept to are types, `enum` and `const`, `properties`, `required`, `additionalProperties`, `items`, `minItems`,
`maxItems`, `minLength`, `maxLength`, `anyOf` and `oneOf` (any of them, where nothing stands beside them), an `allOf` of
one, `nullable`, `$ref` within the schema, which may lead in a circle, and `minimum`, `maximum` and their exclusive
twins: of whole numbers as they are, of others whether they may be below zero. Other words narrow a value more than is
kept to here; the tool looks at those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Any, cast

from acp_server.spelled.coercion import listed, resolve, type_of

from .characters import ANY, Characters, Length

MOST_NODES = 4096
DEEPEST_SCHEMA = 64
END = re.compile(rb"</arg_value>\s*(?:<arg_key>|</tool_call>)")
"""What no text can have in it, since it would be read as the end of the argument."""
TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")


class SchemaError(ValueError):
    """No grammar can be made of the schema: it is too large, or no value fits it."""


@dataclass(eq=False, slots=True)
class Node:
    """What may stand at one place: each field is one kind of value. Compared by identity."""

    literals: tuple[bytes, ...] = ()
    text: Characters | None = None
    number: Number | None = None
    array: Array | None = None
    object: Object | None = None
    branches: tuple[Node, ...] = ()
    all: tuple[Node, ...] = ()
    """Itself and what can be reached by branches, without what has no values."""
    height: float = inf
    """How many arrays and objects the flattest value has inside one another; inf: there is none."""


@dataclass(frozen=True, slots=True)
class Number:
    """No less than `least` and no more than `most`, if it is `whole`; of others only the sign is kept to."""

    whole: bool
    least: float = -inf
    most: float = inf


@dataclass(eq=False, slots=True)
class Array:
    items: Node
    least: int
    most: float

    @property
    def height(self) -> float:
        if self.least > self.most:
            return inf
        return 1 + (self.items.height if self.least else 0)


@dataclass(eq=False, slots=True)
class Object:
    """`values` by key, which is spelled as JSON with both quotes; `more`: what any other key has."""

    values: Mapping[bytes, Node]
    required: frozenset[bytes]
    more: Node | None

    @property
    def height(self) -> float:
        return 1 + max((self.values[key].height for key in self.required), default=0)


def spelled(value: Any) -> bytes:
    """JSON as the templates' `tojson` has it."""
    return json.dumps(value, ensure_ascii=False).encode()


def read_schema(schema: Any, root: Mapping[str, Any]) -> Node:
    """The schema's node. `root` is where references lead from. Raises SchemaError."""
    reader = _Reader(root)
    node = reader.read(schema, 0)
    reader.measure()
    if node.height == inf:
        raise SchemaError("no value fits the schema")
    return node


class _Reader:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.nodes: list[Node] = []
        self.referred: dict[str, Node] = {}
        self.anything: Node | None = None

    def new(self) -> Node:
        if len(self.nodes) >= MOST_NODES:
            raise SchemaError(f"the schema has more than {MOST_NODES} parts")
        self.nodes.append(Node())
        return self.nodes[-1]

    def any(self) -> Node:
        if self.anything is None:
            self.anything = self.new()
            self.fill(self.anything, set(TYPES), {}, 0)
        return self.anything

    def read(self, schema: Any, depth: int) -> Node:
        if depth > DEEPEST_SCHEMA:
            raise SchemaError("the schema is nested too deep")
        if schema is False:
            return self.new()
        fields = cast("Mapping[str, Any]", schema) if isinstance(schema, Mapping) else {}
        reference = fields.get("$ref")
        if isinstance(reference, str):
            if reference not in self.referred:
                node = self.referred[reference] = self.new()
                node.branches = (self.read(resolve(reference, self.root), depth + 1),)
            return self.referred[reference]
        branches = [*listed(fields.get("anyOf")), *listed(fields.get("oneOf"))]
        if branches and not fields.keys() & {"type", "properties", "items", "enum", "const"}:
            node = self.new()
            node.branches = tuple(self.read(branch, depth + 1) for branch in branches)
            self.or_null(node, fields)
            return node
        if "allOf" in fields and "type" not in fields and len(parts := listed(fields["allOf"])) == 1:
            return self.read(parts[0], depth + 1)
        types = {kind for kind in types_in(fields) if kind in TYPES}
        if not types and not fields.keys() & {"properties", "items", "enum", "const"}:
            return self.any()
        node = self.new()
        self.fill(node, types or set(TYPES), fields, depth)
        self.or_null(node, fields)
        return node

    def fill(self, node: Node, types: set[str], fields: Mapping[str, Any], depth: int) -> None:
        if "const" in fields or listed(fields.get("enum")):
            choices = [fields["const"]] if "const" in fields else listed(fields["enum"])
            fitting = [choice for choice in choices if fits(type_of(choice), types)]
            node.literals = tuple(dict.fromkeys(text for text in map(spelled, fitting) if not END.search(text)))
            return
        words = {"boolean": (b"true", b"false"), "null": (b"null",)}
        node.literals = tuple(word for kind in types & words.keys() for word in words[kind])
        if "string" in types:
            node.text = text_of(fields)
        if types & {"integer", "number"}:
            node.number = number_of(fields, whole="number" not in types)
        if "array" in types:
            items = self.any() if "prefixItems" in fields else self.read(fields.get("items", True), depth + 1)
            node.array = Array(items, count(fields.get("minItems"), 0), count(fields.get("maxItems"), inf))
        if "object" in types:
            node.object = self.object(fields, depth)

    def object(self, fields: Mapping[str, Any], depth: int) -> Object:
        raw: Any = fields.get("properties")
        properties = cast("Mapping[str, Any]", raw) if isinstance(raw, Mapping) else {}
        values = {spelled(key): self.read(schema, depth + 1) for key, schema in properties.items()}
        values |= {key: self.new() for key in values if END.search(key)}
        more = True if fields.get("patternProperties") else fields.get("additionalProperties", True)
        other = None if more is False else self.read(more, depth + 1)
        required = [spelled(key) for key in listed(fields.get("required")) if isinstance(key, str)]
        for key in required:
            if key not in values:
                values[key] = other or self.new()
        return Object(values, frozenset(required), other)

    def or_null(self, node: Node, fields: Mapping[str, Any]) -> None:
        if fields.get("nullable") is True and b"null" not in node.literals:
            node.literals = (*node.literals, b"null")

    def measure(self) -> None:
        """Find every node's height: from nothing is known to nothing changes."""
        changed = True
        while changed:
            changed = False
            for node in self.nodes:
                found = height(node)
                changed, node.height = changed or found < node.height, found
        for node in self.nodes:
            reached = [node]
            for one in reached:
                reached += [branch for branch in one.branches if branch not in reached and branch.height < inf]
            node.all = tuple(reached)


def height(node: Node) -> float:
    found = [branch.height for branch in node.branches]
    if node.literals or node.text or node.number:
        found.append(0)
    found += [kind.height for kind in (node.array, node.object) if kind]
    return min(found, default=inf)


def text_of(fields: Mapping[str, Any]) -> Characters | None:
    """None: no text is as short and as long as it would have to be."""
    length = Length(count(fields.get("minLength"), 0), count(fields.get("maxLength"), inf))
    return None if length.least > length.most else ANY if length == ANY else length


def number_of(fields: Mapping[str, Any], *, whole: bool) -> Number | None:
    """None: there is none between the bounds."""
    least, most = (bound(fields, word) for word in ("minimum", "maximum"))
    above, below = (bound(fields, word) for word in ("exclusiveMinimum", "exclusiveMaximum"))
    if whole:
        least = max(whole_from(least), whole_from(above, beyond=True))
        most = min(-whole_from(-most), -whole_from(-below, beyond=True))
    else:
        least, most = max(least, above), min(most, below)
    return None if least > most else Number(whole, least, most)


def bound(fields: Mapping[str, Any], word: str) -> float:
    """A bound that is told, or the one that bounds nothing. A whole one stays as exact as it is."""
    value = fields.get(word)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf:
        return value
    return -inf if "inimum" in word else inf


def whole_from(least: float, *, beyond: bool = False) -> float:
    """The first whole number from there, or beyond."""
    return least if abs(least) == inf else floor(least) + 1 if beyond else ceil(least)


def types_in(fields: Mapping[str, Any]) -> list[Any]:
    declared = fields.get("type")
    if declared is None:  # as the words that are there would have it
        return [kind for word, kind in (("properties", "object"), ("items", "array")) if word in fields]
    return [declared] if isinstance(declared, str) else listed(declared)


def fits(kind: str, types: set[str]) -> bool:
    return kind in types or (kind == "integer" and "number" in types)


def count(value: Any, default: float) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
