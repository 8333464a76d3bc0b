"""Facts of the generated models, read off the classes: the other side of `schema_facts`."""

from __future__ import annotations

from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel
from schema_facts import Facts, any_of, drop_none, simplest

from acp.methods import Method
from acp.unions import Arms, Sealed, Unknown
from acp.wire import AnyNumber, Empty, Format, NullIsEmpty, Omit, Open, Unstable, Wire, WithMeta, camel


class ModelFacts:
    """Facts of a generated module, the stable part of it or the whole."""

    def __init__(self, module: ModuleType, definitions: set[str], *, stable: bool) -> None:
        self.module, self.names, self.stable = module, definitions, stable
        self.unstable: frozenset[str] = module.UNSTABLE_NAMES
        self.hints: dict[type, dict[str, Any]] = {}

    def all(self) -> dict[str, Facts]:
        names = {name for name in self.names if hasattr(self.module, name)}
        return {name: self.definition(name) for name in names if not self.hidden(name)}

    def hidden(self, name: str) -> bool:
        return self.stable and name in self.unstable

    def methods(self) -> set[tuple[str, str, str]]:
        sides: dict[str, str] = {"both": "protocol"}
        found: set[tuple[str, str, str]] = set()
        method: Method[Any, Any]
        for method in self.module.METHODS:
            if method.stable or not self.stable:
                types = [method.params] if method.result is None else [method.params, method.result]
                found |= {(method.name, sides.get(method.side, method.side), t.__name__) for t in types}
        return found

    def definition(self, name: str) -> Facts:
        found = getattr(self.module, name)
        if not isinstance(found, type) or found.__name__ != name or not issubclass(found, BaseModel):
            return self.value(found)
        if not issubclass(found, Wire):
            return {"properties": {}}
        facts: Facts = {"properties": self.properties(found)}
        bases = [base.__name__ for base in found.__bases__ if base.__name__ in self.names]
        if bases:
            facts["is"] = bases[0]
            facts["properties"] = {}
        if issubclass(found, Sealed) and (arms := vars(found).get("__arms__")):
            facts["union"] = self.union(arms, found.__union__)
        return facts

    def properties(self, cls: type[Wire], names: set[str] | None = None) -> Facts:
        """The facts of a class's fields, or of those named; a tag is a fact of the arm, not of these."""
        hints = self.hints.setdefault(cls, get_type_hints(cls, include_extras=True))
        found: Facts = {}
        for name, field in cls.model_fields.items():
            marks = marks_of(hints[name])
            if (names is None or name in names) and not (self.stable and has(marks, Unstable)):
                found[camel(name)] = self.property(hints[name], field, marks)
        return found

    def property(self, hint: Any, field: Any, marks: list[Any]) -> Facts:
        value = self.value(hint)
        omit = next((mark for mark in marks if isinstance(mark, Omit)), None)
        if omit and not omit.nullable:
            value = any_of([item for item in value.get("any_of", [value]) if item != {"null": True}])
        facts: Facts = {"value": value, "required": field.is_required()}
        if not field.is_required():
            facts["default"] = self.plain(field.get_default(call_default_factory=True))
        if omit or has(marks, Empty):
            facts["default-on-error"] = True
        if has(marks, NullIsEmpty):
            facts["default-on-null"] = True
        if self.skips(hint):
            facts["skip-invalid-items"] = True
        return facts

    def skips(self, hint: Any) -> bool:
        if get_origin(hint) is list:
            return has(marks_of(get_args(hint)[0]), Omit)
        parts = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
        return any(self.skips(part) for part in parts if get_origin(hint) in (Annotated, Union, UnionType))

    def plain(self, value: Any) -> Any:
        """A default as JSON, with the defaults below it."""
        if not isinstance(value, Wire):
            return value
        fields = type(value).model_fields
        hints = get_type_hints(type(value), include_extras=True)
        shown = [n for n in fields if not (self.stable and has(marks_of(hints[n]), Unstable))]
        found = {camel(name): self.plain(getattr(value, name)) for name in shown}
        return drop_none(found)

    def value(self, hint: Any) -> Facts:
        marks = marks_of(hint)
        base = bare(hint)
        if any(isinstance(mark, Arms) for mark in marks):
            rule = next(mark for mark in marks if isinstance(mark, Arms))
            return simplest(self.union(get_args(base), rule))
        if has(marks, Open):
            literal = next(part for part in get_args(base) if get_origin(part) is Literal)
            return {"enum": sorted(get_args(literal), key=str), "open": True}
        if get_origin(base) in (Union, UnionType):
            parts = [part for part in get_args(base) if not self.hidden(getattr(part, "__name__", ""))]
            return any_of([self.value(part) for part in parts])
        return self.of_type(base, marks)

    def of_type(self, base: Any, marks: list[Any]) -> Facts:
        least = next((mark.min_length for mark in marks if isinstance(mark, MinLen)), None)
        lows: list[Any] = [mark.ge for mark in marks if isinstance(mark, Ge)]
        highs: list[Any] = [mark.le for mark in marks if isinstance(mark, Le)]
        if get_origin(base) is Literal:
            return {"enum": sorted(get_args(base), key=str), "open": False}
        if get_origin(base) is list:
            return drop_none({"array": self.value(get_args(base)[0]), "least": least})
        if get_origin(base) is dict:
            return {"map": self.value(get_args(base)[1])}
        if base is Any:
            return {"any": True}
        if base is str:
            name = next((mark.name for mark in marks if isinstance(mark, Format)), None)
            return drop_none({"string": True, "least": least, "format": name})
        if base is int:
            return {"integer": [max(lows), min(highs)]}
        if base is float and has(marks, AnyNumber):
            return drop_none({"number": True, "low": max(lows, default=None), "high": min(highs, default=None)})
        plain: dict[Any, Facts] = {bool: {"boolean": True}, NoneType: {"null": True}, None: {"null": True}}
        return plain.get(base) or {"ref": base.__name__}

    def union(self, arms: tuple[type[Wire], ...], rule: Arms) -> Facts:
        found: Facts = {}
        for arm in arms:
            if self.hidden(arm.__name__) or (Unknown in arm.__bases__ and not rule.declared):
                continue
            found[self.arm_key(arm, rule.tag)] = self.arm(arm, rule)
        return {"tag": camel(rule.tag) if rule.tag else None, "exclusive": rule.exclusive, "arms": found}

    def arm_key(self, arm: type[Wire], tag: str | None) -> str:
        if Unknown in arm.__bases__ and tag:
            return "(open)"
        if values := self.tag_values(arm, tag):
            return values[0]
        return "(bare) " + (self.definition_of(arm) or ",".join(sorted(map(camel, own_fields(arm)))))

    def tag_values(self, arm: type[Wire], tag: str | None) -> tuple[str, ...]:
        annotation = arm.model_fields[tag].annotation if tag in arm.model_fields else None
        return get_args(annotation) if get_origin(annotation) is Literal else ()

    def definition_of(self, arm: type[Wire]) -> str | None:
        """The definition that an arm is, beside the union's own base."""
        if arm.__name__ in self.names:
            return arm.__name__
        sealed = [base for base in arm.__bases__ if arm in base.__dict__.get("__arms__", ())]
        found = [base for base in arm.__bases__ if base not in (*sealed, Unknown, WithMeta, Sealed, Wire)]
        named = [base.__name__ for base in found if base.__name__ in self.names]
        return named[0] if named else next((self.definition_of(base) for base in found), None)

    def arm(self, arm: type[Wire], rule: Arms) -> Facts:
        tagged = bool(self.tag_values(arm, rule.tag)) or Unknown in arm.__bases__
        own = own_fields(arm) - ({rule.tag} if tagged else set()) if arm.__name__ not in self.names else set()
        below = arm.__dict__.get("__arms__", ())
        labels = self.union(below, arm.__union__)["arms"] if issubclass(arm, Sealed) and below else {}
        properties = self.properties(arm, own)
        return {"is": self.definition_of(arm), "properties": properties, "below": sorted(labels)}


def own_fields(cls: type[Wire]) -> set[str]:
    """The fields that a class declares itself; of an arm that only repeats another, those of the other."""
    found = {name for name in vars(cls).get("__annotations__", {}) if name in cls.model_fields}
    if WithMeta in cls.__bases__:
        found.add("meta")
    first = cls.__bases__[0]
    repeats = Sealed in first.__mro__[1:] and cls not in vars(first).get("__arms__", ())
    return found or (own_fields(first) if repeats else set())


def marks_of(hint: Any) -> list[Any]:
    if get_origin(hint) is not Annotated:
        return []
    inner, *marks = get_args(hint)
    return [*marks_of(inner), *marks]


def bare(hint: Any) -> Any:
    return bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def has(marks: list[Any], kind: type) -> bool:
    return any(isinstance(mark, kind) for mark in marks)
