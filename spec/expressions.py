"""JSON schema → the Python type that a generated model declares for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

Schema = dict[str, Any]
INTEGERS = {"int32": "Int32", "int64": "Int64", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64"}
RANGES = {"Int32": None, "Int64": None, "UInt16": (0, 2**16 - 1), "UInt32": (0, None), "UInt64": (0, None)}
META = {"type": ["object", "null"], "x-deserialize-default-on-error": True, "additionalProperties": True}


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match[1].lower(), name).lstrip("_")


def pascal(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", text))


def target(schema: Schema) -> str | None:
    """The definition that a schema points to, if it does nothing else."""
    if "allOf" in schema:
        (schema,) = schema["allOf"]
    return cast("str", schema["$ref"]).rpartition("/")[2] if "$ref" in schema else None


def annotated(base: str, marks: list[str]) -> str:
    return f"Annotated[{base}, {', '.join(marks)}]" if marks else base


def alternatives(schema: Schema) -> list[Schema]:
    return schema.get("oneOf") or schema.get("anyOf") or []


def is_enum(schema: Schema) -> bool:
    """Whether a schema lists constants; an alternative without one makes the enumeration open."""
    arms = alternatives(schema)
    return any("const" in arm for arm in arms) and all(arm.get("type") in ("string", "integer") for arm in arms)


def expression(schema: Schema, *, skip: bool = False) -> str:
    """The type of a value; null is part of it where the schema allows null."""
    if name := target(schema):
        return name
    if is_enum(schema):
        return enum(schema)
    if arms := alternatives(schema):
        return either([expression(arm) for arm in arms])
    kinds = schema.get("type", [])
    if isinstance(kinds, list):
        if not kinds:
            return "Any"
        plain = [expression({**schema, "type": kind}, skip=skip) for kind in cast("list[str]", kinds)]
        return union(plain)
    return of_kind(kinds, schema, skip)


def either(members: list[str]) -> str:
    """One of several types, as one mark says once."""
    inner = [re.sub(r"^Annotated\[(.*), EITHER\]$", r"\1", member) for member in members]
    several = inner != members or len(set(inner) - {"None"}) > 1
    return annotated(union(inner), ["EITHER"] if several else [])


def union(members: list[str]) -> str:
    unique = list(dict.fromkeys(members))
    return " | ".join([member for member in unique if member != "None"] + ["None"] * ("None" in unique))


def enum(schema: Schema) -> str:
    arms = alternatives(schema)
    values = [arm["const"] for arm in arms if "const" in arm]
    literal = f"Literal[{', '.join(json.dumps(value) for value in values)}]"
    if len(values) == len(arms):
        return literal
    kind = "int" if arms[0]["type"] == "integer" else "str"
    return f"Annotated[{literal} | {kind}, Open({'int' if kind == 'int' else ''})]"


def of_kind(kind: str, schema: Schema, skip: bool) -> str:
    marks: list[str] = []
    if (least := schema.get("minLength", schema.get("minItems"))) is not None:
        marks.append(f"MinLen({least})")
    match kind:
        case "null":
            return "None"
        case "boolean":
            return "Bool"
        case "string":
            if "const" in schema:
                return f"Literal[{json.dumps(schema['const'])}]"
            if "enum" in schema:
                return f"Literal[{', '.join(json.dumps(value) for value in schema['enum'])}]"
            if form := schema.get("format", schema.get("contentEncoding")):
                marks.append(f"Format({json.dumps(form)})")
            return annotated("str", marks)
        case "integer":
            name = INTEGERS[schema["format"]]
            least, most = RANGES[name] or (None, None)
            return annotated(name, bounds(schema, least, most))
        case "number":
            return annotated("Number", bounds(schema, None, None))
        case "array":
            item = expression(schema["items"])
            return annotated(f"list[{annotated(item, ['SKIP'] if skip else [])}]", marks)
        case "object":
            extra = schema.get("additionalProperties", True)
            return f"dict[str, {'Any' if extra is True else expression(extra)}]"
        case _:
            raise ValueError(f"no type for {kind}")


def bounds(schema: Schema, least: int | None, most: int | None) -> list[str]:
    """The bounds that the named number type does not have already."""
    found = [("Ge", schema.get("minimum"), least), ("Le", schema.get("maximum"), most)]
    return [f"{mark}({value})" for mark, value, known in found if value is not None and value != known]


@dataclass
class Property:
    """One attribute of a generated class."""

    name: str
    annotation: str
    default: str = ""

    def line(self) -> str:
        return f"    {self.name}: {self.annotation}{' = ' + self.default if self.default else ''}"


@dataclass
class Properties:
    """The attributes of one class; `_meta`, the same everywhere, comes from a base class."""

    lines: list[Property] = field(default_factory=list[Property])
    meta: bool = False


def properties(schema: Schema) -> Properties:
    out = Properties()
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        if key == "_meta" and {k: v for k, v in value.items() if k != "x-unstable"} == META:
            out.meta = True
        else:
            out.lines.append(attribute(key, value, key in required))
    out.lines.sort(key=lambda line: bool(line.default))
    return out


def attribute(key: str, schema: Schema, required: bool) -> Property:
    on_error = schema.get("x-deserialize-default-on-error", False)
    base = expression(schema, skip=schema.get("x-deserialize-skip-invalid-items", False))
    default, nullable = ("", True) if required else initial(schema, base)
    marks: list[str] = []
    if not required and default == "None" and not nullable:
        if not on_error:
            raise ValueError(f"{key}: neither required nor nullable, and without a default")
        base += " | None"
    if on_error:
        marks.append("EMPTY" if required else "OMIT" if nullable else "OMIT_NULL")
    if schema.get("x-deserialize-default-on-null"):
        marks.append("NULL_IS_EMPTY_LIST" if schema["type"] == "array" else "NULL_IS_EMPTY_DICT")
    if schema.get("x-unstable"):
        marks.append("UNSTABLE")
    return Property(snake(key), annotated(base, marks), default)


def initial(schema: Schema, base: str) -> tuple[str, bool]:
    """What an omitted field reads, and whether that is a value that the field could have on the wire."""
    plain = re.sub(r"Annotated\[(.*), (SKIP|MinLen\(1\))\]", r"\1", base)
    if "default" in schema:
        value = schema["default"]
        if isinstance(value, bool | str):
            return (repr(value) if isinstance(value, bool) else json.dumps(value)), True
        return f"Field(default_factory={plain})", True
    if base.removesuffix(", EITHER]").endswith(("None", "Any")):
        return "None", True
    if schema.get("type") in ("array", "object"):
        return f"Field(default_factory={plain})", True
    return "None", False
