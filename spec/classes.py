"""Definitions of the schema → classes and aliases of a generated module."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

from expressions import Schema, alternatives, expression, is_enum, pascal, properties, snake, target


@dataclass
class Arm:
    """One arm of a union: its class, and the arms below it if it is a union itself."""

    label: str
    cls: str
    below: Union | None = None


@dataclass
class Union:
    """The arms of a definition and how they are told apart."""

    tag: str | None
    arms: list[Arm]
    exclusive: bool = False
    declared: bool = False

    def rule(self) -> str:
        parts = [json.dumps(snake(self.tag))] if self.tag else []
        parts += [f"{name}=True" for name in ("exclusive", "declared") if getattr(self, name)]
        return f"Arms({', '.join(parts)})"


@dataclass
class Module:
    """The text of a generated module, definition by definition, each after what it needs."""

    definitions: dict[str, Schema]
    blocks: list[str] = field(default_factory=list[str])
    done: set[str] = field(default_factory=set[str])
    names: set[str] = field(default_factory=set[str])
    unions: dict[str, Union] = field(default_factory=dict[str, Union])
    unstable: set[str] = field(default_factory=set[str])

    def build(self) -> None:
        self.names = set(self.definitions)
        for name in self.definitions:
            self.define(name)

    def define(self, name: str) -> None:
        if name in self.done:
            return
        self.done.add(name)
        schema = self.definitions[name]
        for needed in references(schema):
            self.define(needed)
        if schema.get("x-unstable"):
            self.unstable.add(name)
        if is_enum(schema):
            self.alias(name, expression(schema))
        elif alternatives(schema) and all(is_object(arm) for arm in alternatives(schema)):
            self.define_union(name, schema)
        elif schema.get("type") == "object":
            self.write_class(name, self.bases(schema), schema)
        elif "x-method" in schema and target(schema):
            self.write_class(name, [target(schema) or ""], {})
        elif "x-method" in schema:
            self.blocks.append(f"class {name}(Free):\n    pass")
        else:
            self.alias(name, expression(schema))

    def alias(self, name: str, value: str) -> None:
        self.blocks.append(f"{name}: TypeAlias = {value}")

    def bases(self, schema: Schema) -> list[str]:
        return ["WithMeta" if properties(schema).meta else "Wire"]

    def write_class(
        self, name: str, bases: list[str], schema: Schema, tags: dict[str, str] | None = None, extra: str = ""
    ) -> None:
        lines = [f"class {name}({', '.join(bases)}):"]
        if tags:
            names = ", ".join(json.dumps(snake(tag)) for tag in tags)
            lines.append(f"    __tags__ = ({names},)")
            lines += [f"    {snake(tag)}: Literal[{value}] = {value}" for tag, value in tags.items()]
        lines += [line.line() for line in properties(schema).lines]
        if extra:
            lines.append(extra)
        self.blocks.append("\n".join(lines if len(lines) > 1 else [*lines, "    pass"]))

    # Unions --------------------------------------------------------------------------------------------------

    def define_union(self, name: str, schema: Schema) -> None:
        """A sealed class if the definition has fields or a method of its own, otherwise an alias."""
        sealed = "properties" in schema or "x-method" in schema
        if sealed:
            meta = properties(schema).meta
            self.write_class(name, ["Sealed", *(["WithMeta"] if meta else [])], schema)
        self.unions[name] = self.write_arms(name, schema, name if sealed else None)
        if sealed:
            self.seal(name, self.unions[name])
            return
        members = [arm.cls for arm in self.unions[name].arms]
        value = members[0]
        if len(members) > 1:
            value = f"Annotated[{' | '.join(members)}, {self.unions[name].rule()}]"
        self.alias(name, value)

    def seal(self, name: str, union: Union) -> None:
        self.blocks.append(f"{name}.seal({', '.join([union.rule(), *(arm.cls for arm in union.arms)])})")

    def write_arms(self, owner: str, schema: Schema, base: str | None) -> Union:
        arms = alternatives(schema)
        tag = next((key for arm in arms for key in tags_of(arm)), None)
        declared = any("not" in arm for arm in arms)
        union = Union(tag, [], "oneOf" in schema and tag is None, declared)
        inherited: Schema = schema.get("properties", {}).get(tag, {}) if tag else {}
        for arm in sorted(arms, key=lambda arm: "not" in arm):
            union.arms.append(self.write_arm(owner, arm, base, tag, inherited))
        if tag and not declared:
            closing: Schema = {"properties": {tag: {"type": "string"}}, "required": [tag], "not": {}}
            union.arms.append(self.write_arm(owner, closing, base, tag, {}))
        return union

    def write_arm(self, owner: str, arm: Schema, base: str | None, tag: str | None, inherited: Schema) -> Arm:
        ref = target(arm) if "$ref" in arm or "allOf" in arm else None
        tags = tags_of(arm)
        label = "Unknown" if "not" in arm else pascal(next(iter(tags.values()), None) or arm["title"])
        if ref and not tags and not base and ref not in self.unions:
            return Arm(label, ref)
        name = self.free_name(owner, label, "not" in arm)
        if arm.get("x-unstable"):
            self.unstable.add(name)
        own = {**arm, "properties": {**arm.get("properties", {})}}
        if tag in own["properties"]:
            if tags:
                del own["properties"][tag]
            else:
                own["properties"][tag] = {**inherited, **arm["properties"][tag]}
                if "anyOf" in own["properties"][tag] or arm["properties"][tag].get("type") != "null":
                    own["properties"][tag] = arm["properties"][tag]
        below = self.unions.get(ref or "")
        nested = alternatives({k: v for k, v in arm.items() if k in ("anyOf", "oneOf")})
        bases = [base] if base else []
        if "not" in arm:
            bases.insert(0, "Unknown")
        if ref and (not below or is_sealed(self.definitions[ref])):
            bases.append(ref)
        if below or nested:
            bases = [b for b in bases if b not in ("Wire",)] + ([] if base or ref in bases else ["Sealed"])
            if not any(b == "Sealed" or is_sealed(self.definitions.get(b, {})) or b == base for b in bases):
                bases.append("Sealed")
        if properties(own).meta:
            bases.append("WithMeta")
        quoted = {key: json.dumps(value) for key, value in tags.items()}
        self.write_class(name, bases or ["Wire"], own, quoted)
        result = Arm(label, name)
        if nested:
            result.below = self.write_arms(name, {k: arm[k] for k in ("anyOf", "oneOf") if k in arm}, name)
            self.seal(name, result.below)
        elif below:
            result.below = self.copy_arms(name, below)
            self.seal(name, result.below)
        return result

    def copy_arms(self, owner: str, below: Union) -> Union:
        """The arms of `below` again, as subclasses of `owner` too."""
        copied = Union(below.tag, [], below.exclusive, below.declared)
        for arm in below.arms:
            unknown = arm is below.arms[-1] and below.tag is not None
            name = self.free_name(owner, arm.label, unknown)
            if arm.cls in self.unstable:
                self.unstable.add(name)
            self.write_class(name, [arm.cls, owner, *(["Unknown"] if unknown else [])], {})
            copy = Arm(arm.label, name)
            if arm.below:
                copy.below = self.copy_arms(name, arm.below)
                self.seal(name, copy.below)
            copied.arms.append(copy)
        return copied

    def free_name(self, owner: str, label: str, unknown: bool) -> str:
        second = f"Other{owner}" if unknown else f"{label}{owner}Arm"
        for name in (f"{label}{owner}", second):
            if name not in self.names:
                self.names.add(name)
                return name
        raise ValueError(f"no name for the arm {label} of {owner}")


def tags_of(arm: Schema) -> dict[str, str]:
    return {key: value["const"] for key, value in arm.get("properties", {}).items() if "const" in value}


def is_sealed(schema: Schema) -> bool:
    return bool(alternatives(schema)) and ("properties" in schema or "x-method" in schema) and not is_enum(schema)


def is_object(arm: Schema) -> bool:
    return arm.get("type") == "object" or (target(arm) is not None and "$ref" not in arm and "title" in arm)


def references(node: Any) -> list[str]:
    """The definitions that a schema mentions, in order."""
    if isinstance(node, list):
        return [name for item in cast("list[Any]", node) for name in references(item)]
    if not isinstance(node, dict):
        return []
    schema = cast("Schema", node)
    found = [target(schema) or ""] if "$ref" in schema else []
    below = [item for key, item in schema.items() if key not in ("default", "not")]
    return found + [name for item in below for name in references(item)]
