"""Hypothesis strategies for JSON values, drawn from a JSON schema.

`Values(schema)` draws `valid` values of a definition, and `nearly_valid` ones with one thing changed (which may
still be valid: ask a validator). It knows the part of JSON Schema that the ACP schemas use, and not our models.
`within_formats` and `lenient` rewrite a schema for a validator: the first enforces the ranges that integer formats
name, the second allows what `x-deserialize-…` and unknown union arms forgive.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

from hypothesis import strategies as st

Json = Any
Schema = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=3,
)
SAMPLES = {
    "uri": st.sampled_from(["file:///a b", "https://example.org/?q=1#f", "urn:x:y"]),
    "date-time": st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+01:00"]),
    "regex": st.sampled_from(["a+", "^x$"]),
}
UNKNOWN = words.map(lambda word: f"x-{word}") | st.sampled_from(["session_id", "__class__", "self", "x_y"])
"""Names that no version of the protocol defines; some look like an implementation's own names."""
WRONG: list[Json] = [None, True, 0, -1, 2**65, 1.5, 1.0, "", "zzz", [], [None], {}, {"type": "zzz"}]


def _places(value: Json) -> Iterator[tuple[Any, Any]]:
    """Every container in `value` with each of its keys."""
    if isinstance(value, dict):
        members = list(cast("dict[Any, Json]", value).items())
    elif isinstance(value, list):
        members = list(enumerate(cast("list[Json]", value)))
    else:
        return
    for key, item in members:
        yield value, key
        yield from _places(item)


@st.composite
def _change_one(draw: Draw, values: st.SearchStrategy[Json]) -> Json:
    value = copy.deepcopy(draw(values))
    places = list(_places(value))
    if not places:
        return draw(st.sampled_from(WRONG))
    holder, key = draw(st.sampled_from(places))
    if isinstance(holder, dict) and draw(st.booleans()):
        del cast("dict[str, Json]", holder)[key]
    else:
        holder[key] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    return value


class Values:
    """Strategies for the definitions of one schema."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = schema["$defs"]
        self.made: dict[str, st.SearchStrategy[Json]] = {}

    def valid(self, name: str) -> st.SearchStrategy[Json]:
        """Values of the definition `name`."""
        return self.of({"$ref": f"#/$defs/{name}"})

    def nearly_valid(self, name: str) -> st.SearchStrategy[Json]:
        """Values of the definition with one thing changed: a value replaced, or a member left out."""
        return _change_one(self.valid(name))

    def of(self, schema: Schema) -> st.SearchStrategy[Json]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in self.made:
                self.made[name] = st.deferred(lambda: self.of(self.definitions[name]))
                self.made[name] = self.of(self.definitions[name])
            return self.made[name]
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if is_object(schema):
            return self.object(schema)
        arms = alternatives(schema) or schema.get("allOf", [])
        if arms:
            return st.one_of([self.of(arm) for arm in arms])
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return st.one_of([self.of({**schema, "type": kind}) for kind in cast("list[str]", kinds)])
        return self.of_kind(kinds, schema)

    def of_kind(self, kind: str | None, schema: Schema) -> st.SearchStrategy[Json]:
        low, high = RANGES.get(schema.get("format", ""), (None, None))
        low, high = schema.get("minimum", low), schema.get("maximum", high)
        match kind:
            case "null":
                return st.none()
            case "boolean":
                return st.booleans()
            case "integer":
                return st.integers(low, high)
            case "number":
                floats = st.floats(low, high, allow_nan=False, allow_infinity=False)
                return floats | st.integers(0, 1)
            case "string":
                least = schema.get("minLength", 0)
                return SAMPLES.get(schema.get("format", ""), words.filter(lambda word: len(word) >= least))
            case "array":
                least = schema.get("minItems", 0)
                return st.lists(self.of(schema["items"]), min_size=least, max_size=max(2, least))
            case "object":
                return self.object(schema)
            case _:
                return anything

    def object(self, schema: Schema) -> st.SearchStrategy[Json]:
        """Objects: own properties, those of every `allOf`, and those of one alternative, which comes last."""
        extra = schema.get("additionalProperties", True)
        if not schema.get("properties") and isinstance(extra, dict):
            return st.dictionaries(words, self.of(cast("Schema", extra)), max_size=2)
        own = self.members(schema)
        whole = [self.of(part) for part in schema.get("allOf", [])]
        arms = [(self.of(arm), set(arm.get("properties", {}))) for arm in alternatives(schema)]
        more = st.dictionaries(UNKNOWN, anything, max_size=1)

        @st.composite
        def build(draw: Draw) -> Json:
            value: dict[str, Json] = draw(more) if draw(st.integers(0, 3)) == 0 else {}
            for part in [*whole, own]:
                value |= draw(part)
            if arms:
                arm, names = draw(st.sampled_from(arms))
                value = {key: item for key, item in value.items() if key not in names} | draw(arm)
            return value

        return build()

    def members(self, schema: Schema) -> st.SearchStrategy[dict[str, Json]]:
        required = schema.get("required", [])
        properties = {key: self.of(value) for key, value in schema.get("properties", {}).items()}
        if "not" in schema:
            for arm in schema["not"]["anyOf"]:
                for key, constant in arm["properties"].items():
                    properties[key] = properties[key].filter(lambda word, taken=constant["const"]: word != taken)
        given = {key: value for key, value in properties.items() if key in required}
        return st.fixed_dictionaries(given, optional={k: v for k, v in properties.items() if k not in required})


def is_object(schema: Schema) -> bool:
    return schema.get("type") == "object" or ("properties" in schema and "type" not in schema)


def alternatives(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or []


# Schemas for a validator -------------------------------------------------------------------------------------


def within_formats(node: Any) -> Any:
    """The schema with the range of every integer format spelled out as `minimum` and `maximum`."""
    if isinstance(node, list):
        return [within_formats(item) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema = {key: within_formats(value) for key, value in cast("Schema", node).items()}
    if isinstance(form := schema.get("format"), str) and form in RANGES:
        low, high = RANGES[form]
        schema = {**schema, "minimum": schema.get("minimum", low), "maximum": schema.get("maximum", high)}
    return schema


def lenient(node: Any) -> Any:
    """The schema with everything allowed that a receiver forgives."""
    if isinstance(node, list):
        return [lenient(item) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema = cast("Schema", node)
    if schema.get("x-deserialize-default-on-error"):
        return {}
    relaxed: Schema = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            relaxed[key] = {name: lenient(member) for name, member in value.items()}
        else:
            relaxed[key] = value if key in ("not", "default", "const") else lenient(value)
    if schema.get("x-deserialize-skip-invalid-items"):
        relaxed.pop("items", None)
    if schema.get("x-deserialize-default-on-null"):
        relaxed = {"anyOf": [relaxed, {"type": "null"}]}
    forgiven = [name for name, value in _properties(schema).items() if value.get("x-deserialize-default-on-error")]
    for keyword in ("anyOf", "oneOf"):
        if keyword in relaxed:
            relaxed[keyword] = [_forgive(arm, forgiven) for arm in relaxed[keyword]]
            if arm := _unknown_arm(schema):
                relaxed[keyword].append(arm)
    return relaxed


def _properties(schema: Schema) -> dict[str, Schema]:
    return schema.get("properties", {})


def _forgive(arm: Schema, names: list[str]) -> Schema:
    """The alternative without its say on optional members that are forgiven anyway."""
    optional = [name for name in names if name in arm.get("properties", {}) and name not in arm.get("required", [])]
    kept = {name: value for name, value in arm.get("properties", {}).items() if name not in optional}
    return {**arm, "properties": kept} if optional else arm


def _unknown_arm(schema: Schema) -> Schema | None:
    """For a union of tagged objects that does not foresee unknown tags: the alternative that allows them."""
    arms = alternatives(schema)
    tags = [(name, value["const"]) for arm in arms for name, value in _properties(arm).items() if "const" in value]
    if not tags or any("not" in arm for arm in arms):
        return None
    tag = tags[0][0]
    return {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"type": "string", "not": {"enum": [value for _, value in tags]}}},
    }
