"""Facts of a JSON schema, as `{definition: facts}` in a canonical form.

`model_facts` reads the same facts off the generated models, so that a test can say where the two differ. Neither
looks at the generator.
"""

from __future__ import annotations

import json
from typing import Any

Schema = dict[str, Any]
Facts = dict[str, Any]
ARMS = ("anyOf", "oneOf")
RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


def any_of(values: list[Facts]) -> Facts:
    """One canonical alternative of several, flattened and in a fixed order."""
    flat = [item for value in values for item in value.get("any_of", [value])]
    unique = {json.dumps(item, sort_keys=True): item for item in flat}
    return next(iter(unique.values())) if len(unique) == 1 else {"any_of": [unique[key] for key in sorted(unique)]}


def simplest(union: Facts) -> Facts:
    """A union whose arms are whole definitions, without a tag, is no more than its alternatives."""
    arms = union["arms"]
    if union["tag"] is None and all(arm["is"] and f"(bare) {arm['is']}" == key for key, arm in arms.items()):
        return any_of([{"ref": arm["is"]} for arm in arms.values()])
    return {"union": union}


class SchemaFacts:
    """Facts of a JSON schema."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = schema["$defs"]

    def all(self) -> dict[str, Facts]:
        return {name: self.definition(name) for name in self.definitions}

    def methods(self) -> set[tuple[str, str, str]]:
        marked = {name: schema for name, schema in self.definitions.items() if "x-method" in schema}
        return {(schema["x-method"], schema["x-side"], name) for name, schema in marked.items()}

    def definition(self, name: str) -> Facts:
        schema = self.definitions[name]
        facts: Facts = {}
        assert schema.get("additionalProperties", True) is True, name
        if self.is_class(name):
            facts["properties"] = self.properties(schema)
            if "allOf" in schema:
                facts["is"] = ref_of(schema)
            if self.is_union(schema):
                facts["union"] = self.union(schema)
            return facts
        return self.value(schema)

    def is_class(self, name: str) -> bool:
        schema = self.definitions[name]
        return schema.get("type") == "object" or "x-method" in schema

    def is_union(self, schema: Schema) -> bool:
        arms = arms_of(schema)
        named = [arm for arm in arms if arm.get("type") == "object" or ("title" in arm and "allOf" in arm)]
        return bool(arms) and len(named) == len(arms)

    def properties(self, schema: Schema) -> Facts:
        required = schema.get("required", [])
        return {k: self.property(v, k in required) for k, v in schema.get("properties", {}).items()}

    def property(self, schema: Schema, required: bool) -> Facts:
        value = self.value(schema)
        facts: Facts = {"value": value, "required": required}
        if not required:
            empty = {"array": [], "object": {}}
            kind = schema.get("type")
            implied = empty.get(kind) if isinstance(kind, str) else None
            facts["default"] = schema.get("default", implied)
        for rule in ("default-on-error", "skip-invalid-items", "default-on-null"):
            if schema.get(f"x-deserialize-{rule}"):
                facts[rule] = True
        return facts

    def value(self, schema: Schema) -> Facts:
        if name := ref_of(schema):
            return {"ref": name} if self.is_class(name) else self.value(self.definitions[name])
        arms = arms_of(schema)
        if any("const" in arm for arm in arms):
            return self.enum(arms)
        if self.is_union(schema) and not all(ref_of(arm) and not tags_of(arm) for arm in arms):
            return {"union": self.union(schema)}
        if arms:
            return any_of([self.value(arm) for arm in arms])
        kinds = schema.get("type")
        if kinds is None:
            return {"any": True}
        if isinstance(kinds, list):
            return any_of([self.value({**schema, "type": kind}) for kind in kinds])
        return self.of_kind(kinds, schema)

    def enum(self, arms: list[Schema]) -> Facts:
        values = sorted((arm["const"] for arm in arms if "const" in arm), key=str)
        return {"enum": values, "open": len(values) < len(arms)}

    def of_kind(self, kind: str, schema: Schema) -> Facts:
        match kind:
            case "string" if "enum" in schema:
                return {"enum": sorted(schema["enum"]), "open": False}
            case "string":
                name = schema.get("format") or schema.get("contentEncoding")
                return drop_none({"string": True, "least": schema.get("minLength"), "format": name})
            case "integer":
                low, high = RANGES[schema["format"]]
                return {"integer": [max(low, schema.get("minimum", low)), min(high, schema.get("maximum", high))]}
            case "number":
                return drop_none({"number": True, "low": schema.get("minimum"), "high": schema.get("maximum")})
            case "array":
                return drop_none({"array": self.value(schema["items"]), "least": schema.get("minItems")})
            case "object":
                extra = schema.get("additionalProperties", True)
                return {"map": {"any": True} if extra is True else self.value(extra)}
            case _:
                return {kind: True}

    def union(self, schema: Schema) -> Facts:
        arms = arms_of(schema)
        tag = next((key for arm in arms for key in tags_of(arm)), None)
        found: Facts = {}
        for arm in arms:
            tags = tags_of(arm)
            if "not" in arm:
                refused = [value for other in arm["not"]["anyOf"] for value in tags_of(other).values()]
                assert sorted(refused) == sorted(v for other in arms for v in tags_of(other).values())
            found[self.arm_key(arm, tag)] = self.arm(self.inherit(arm, schema), tag if tags or "not" in arm else None)
        return {"tag": tag, "exclusive": "oneOf" in schema and tag is None, "arms": found}

    def inherit(self, arm: Schema, schema: Schema) -> Schema:
        """The arm, with the leniencies of the fields that it narrows."""
        narrowed = {k: v for k, v in schema.get("properties", {}).items() if k in arm.get("properties", {})}
        rules = {k: {r: v[r] for r in v if r.startswith("x-deserialize")} for k, v in narrowed.items()}
        merged = {k: {**v, **rules.get(k, {})} for k, v in arm.get("properties", {}).items()}
        return {**arm, "properties": merged}

    def arm_key(self, arm: Schema, tag: str | None) -> str:
        if "not" in arm:
            return "(open)"
        return tags_of(arm).get(tag or "") or "(bare) " + (ref_of(arm) or ",".join(sorted(arm["properties"])))

    def arm(self, arm: Schema, tag: str | None) -> Facts:
        own = self.properties({**arm, "properties": {k: v for k, v in arm.get("properties", {}).items() if k != tag}})
        ref = ref_of(arm)
        below = arms_of(self.definitions[ref]) if ref else arms_of(arm)
        holder = self.definitions[ref] if ref else arm
        facts: Facts = {"is": ref if ref and self.is_class(ref) else None, "properties": own, "below": []}
        if below and self.is_union(holder):
            facts["below"] = sorted(self.union(holder)["arms"])
        return facts


def arms_of(schema: Schema) -> list[Schema]:
    return next((schema[key] for key in ARMS if key in schema), [])


def ref_of(schema: Schema) -> str | None:
    (schema,) = schema.get("allOf", [schema])
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else None


def tags_of(arm: Schema) -> dict[str, str]:
    return {key: value["const"] for key, value in arm.get("properties", {}).items() if "const" in value}


def drop_none(facts: Facts) -> Facts:
    return {key: value for key, value in facts.items() if value is not None}
