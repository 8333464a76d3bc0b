"""Unions on the wire: which arm a JSON object is.

A union is either an alias, `Annotated[TextContentBlock | … | UnknownContentBlock, Arms("type")]`, or a sealed class:
a base with the common fields, whose subclasses are the arms and which decodes into one of them. The arm is found
once, by its tag; arms without a tag are told apart by the keys they require.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast, get_args, get_origin

from pydantic import GetCoreSchemaHandler, RootModel
from pydantic_core import CoreSchema, core_schema

from .wire import ARM, Json, Wire, camel


class Unknown(Wire):
    """An arm that we do not know, kept whole."""

    @property
    def raw(self) -> dict[str, Json]:
        """The object as it is on the wire."""
        return self.encode()


@dataclass(frozen=True, slots=True)
class Arms:
    """How the arms of a union are told apart.

    `tag` is the attribute that names the arm, None if there is no tag. `exclusive`: exactly one arm without a tag
    may fit (the schema says oneOf). `declared` is False where the schema does not foresee unknown arms.
    """

    tag: str | None = None
    exclusive: bool = False
    declared: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self.schema(get_args(source), handler)

    def schema(self, arms: Sequence[type[Wire]], handler: GetCoreSchemaHandler) -> CoreSchema:
        choose = _Choose(self, arms)
        built = {ARM + arm.__name__: handler.generate_schema(arm) for arm in arms}
        choices: dict[str, CoreSchema] = {}
        for name, first in built.items():
            others = [(built[other], ARM + other) for other in choose.after(name)]
            choices[name] = (
                core_schema.union_schema([(first, name), *others], mode="left_to_right") if others else first
            )
        return core_schema.tagged_union_schema(
            choices,  # pyright: ignore[reportArgumentType] (invariant in a type that it only reads)
            choose.arm_of,
            custom_error_type="union_arm",
            custom_error_message=choose.message(),
        )


def tag_values(arm: type[Wire], tag: str | None) -> tuple[str, ...]:
    """The values of the tag that mean `arm`; empty if it has no tag."""
    field = arm.model_fields.get(tag) if tag else None
    if field is None or get_origin(field.annotation) is not Literal:
        return ()
    return get_args(field.annotation)


class _Choose:
    """The discriminator of one union: JSON object or model → the name of its arm."""

    __slots__ = ("_arms", "_bare", "_key", "_named", "_rule", "_unknown")

    def __init__(self, rule: Arms, arms: Sequence[type[Wire]]) -> None:
        self._rule = rule
        self._key = camel(rule.tag) if rule.tag else ""
        self._arms: dict[type, str | None] = {arm: ARM + arm.__name__ for arm in arms}
        self._named: dict[str, str] = {}
        self._bare: list[tuple[str, frozenset[str]]] = []
        self._unknown: str | None = None
        for arm in arms:
            name = ARM + arm.__name__
            if Unknown in arm.__bases__:
                self._unknown = name
            elif values := tag_values(arm, rule.tag):
                self._named.update(dict.fromkeys(values, name))
            else:
                self._bare.append((name, required_keys(arm)))

    def after(self, name: str) -> list[str]:
        """The arms to try where the arm of that name does not fit: those that another tag, or none, may mean too."""
        bare = [other for other, _ in self._bare]
        if self._rule.exclusive or name == self._unknown:
            return []
        last = [self._unknown] if name in bare and self._unknown else []
        return [other for other in bare if other != name] + last

    def arm_of(self, value: Any) -> str | None:
        if not isinstance(value, dict):
            return self._arm_of_model(type(cast("object", value)))
        given = cast("dict[str, Json]", value)
        tag = given.get(self._key)
        if isinstance(tag, str):
            if tag in self._named:
                return self._named[tag]
            if self._rule.declared:
                return self._unknown
        fitting = [name for name, required in self._bare if required <= given.keys()]
        if fitting:
            return None if self._rule.exclusive and len(fitting) > 1 else fitting[0]
        if isinstance(tag, str) and self._unknown:
            return self._unknown
        return self._bare[0][0] if self._bare else None

    def _arm_of_model(self, cls: type) -> str | None:
        """The arm that a model is, or is a subclass of."""
        if cls not in self._arms:
            self._arms[cls] = next((self._arms[base] for base in cls.__mro__[1:] if base in self._arms), None)
        return self._arms[cls]

    def message(self) -> str:
        if self._key:
            return f"Input should be an object with a known '{self._key}'"
        return "Input should be an object that fits exactly one of the alternatives"


def required_keys(arm: type[Wire]) -> frozenset[str]:
    """The keys that an arm requires on the wire."""
    return frozenset(camel(name) for name, field in arm.model_fields.items() if field.is_required())


class Sealed(Wire):
    """A base whose subclasses are the arms of a union; decoding it gives one of them."""

    __arms__: ClassVar[tuple[type[Wire], ...]] = ()
    __union__: ClassVar[Arms] = Arms()

    @classmethod
    def seal(cls, union: Arms, *arms: type[Self]) -> None:
        """Name the arms, after they are defined."""
        cls.__arms__, cls.__union__ = arms, union

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if arms := cls.__dict__.get("__arms__"):
            return cls.__union__.schema(arms, handler)
        return handler(source)


class Free(RootModel[Any]):
    """Any JSON value, where the schema says nothing about a method's params or result."""

    @classmethod
    def decode(cls, value: Json) -> Self:
        return cls.model_validate(value)

    def encode(self) -> Json:
        return self.root
