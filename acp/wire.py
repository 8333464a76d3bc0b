"""What the generated models of `acp.v1.schema` and `acp.v2.schema` are made of.

- Omitted, null and a value are three things. A field that was given is in `model_fields_set`; the others read their
  default and are not sent: `encode` leaves out what is unset, never what is None.
- What we do not know survives: unknown fields are kept beside the known ones, and a union arm that the schema does
  not name is decoded into the union's `Unknown…` class (see `acp.unions`), in v1 too.
- The schema's leniencies are marks on a field: `OMIT` and `EMPTY` (x-deserialize-default-on-error), `SKIP`
  (x-deserialize-skip-invalid-items) and `NULL_IS_EMPTY` (x-deserialize-default-on-null).
- `_meta` is the attribute `meta`; the other names are the schema's in snake_case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, Strict, ValidationError
from pydantic_core import CoreSchema, core_schema

from .json_text import Json as Json
from .json_text import dumps as dumps
from .json_text import loads as loads


def camel(name: str) -> str:
    """The wire's name of an attribute."""
    if name == "meta":
        return "_meta"
    head, *tail = name.split("_")
    return head + "".join([part.capitalize() for part in tail])


# Marks on fields ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Omit:
    """A value that does not fit counts as omitted; in a list, the item is left out."""

    nullable: bool = True
    """Whether null is a value of the field; if it is not, it counts as omitted too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        if not self.nullable:
            inner = core_schema.no_info_before_validator_function(_refuse_null, inner)
        return core_schema.with_default_schema(inner, on_error="omit")


@dataclass(frozen=True, slots=True)
class Empty:
    """A value that does not fit counts as an empty list, though the field itself is required."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_empty_on_error, handler(source))


@dataclass(frozen=True, slots=True)
class NullIsEmpty:
    """Null counts as the empty list or object."""

    make: Callable[[], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        make = self.make
        return core_schema.no_info_before_validator_function(
            lambda value: make() if value is None else value, handler(source)
        )


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise ValueError("null is no value here")
    return value


def _empty_on_error(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return []


@dataclass(frozen=True, slots=True)
class Either:
    """One of several types without a tag: a value that fits none is one error, at the value's place."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        union = cast("dict[str, Any]", schema["schema"] if schema["type"] == "nullable" else schema)
        if union["type"] == "union":
            union |= {"custom_error_type": "either", "custom_error_message": "Input fits none of the alternatives"}
        return schema


@dataclass(frozen=True, slots=True)
class Format:
    """The schema's `format` or `contentEncoding`, for the reader: as in JSON Schema, it refuses nothing."""

    name: str


@dataclass(frozen=True, slots=True)
class Open:
    """An enumeration that later versions and extensions may add to: any value of the base type fits."""

    base: type = str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(Int32) if self.base is int else core_schema.str_schema()


@dataclass(frozen=True, slots=True)
class Unstable:
    """The field is in the unstable schema only."""


OMIT = Omit()
OMIT_NULL = Omit(nullable=False)
SKIP = Omit()
EMPTY = Empty()
EITHER = Either()
NULL_IS_EMPTY_LIST = NullIsEmpty(list)
NULL_IS_EMPTY_DICT = NullIsEmpty(dict)
UNSTABLE = Unstable()


# Numbers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Integer:
    """A JSON number without a fraction: 1 and 1.0 are the same, true is not a number."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        strict = core_schema.int_schema(strict=True)
        return core_schema.no_info_before_validator_function(_whole, strict)


@dataclass(frozen=True, slots=True)
class AnyNumber:
    """A JSON number, kept as it came: an integer stays one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_number)


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _number(value: Any) -> Any:
    if type(value) in (int, float):
        return value
    raise ValueError("Input should be a valid number")


Bool = Annotated[bool, Strict()]
Number = Annotated[float, AnyNumber()]
Int32 = Annotated[int, Integer(), Ge(-(2**31)), Le(2**31 - 1)]
Int64 = Annotated[int, Integer(), Ge(-(2**63)), Le(2**63 - 1)]
UInt16 = Annotated[int, Integer(), Ge(0), Le(2**16 - 1)]
UInt32 = Annotated[int, Integer(), Ge(0), Le(2**32 - 1)]
UInt64 = Annotated[int, Integer(), Ge(0), Le(2**64 - 1)]


# Models --------------------------------------------------------------------------------------------------


class Wire(BaseModel):
    """An object on the wire."""

    model_config = ConfigDict(
        alias_generator=camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="allow",
        defer_build=True,
        protected_namespaces=(),
    )

    def model_post_init(self, context: Any, /) -> None:
        """Count tags as given, and no field whose attribute is merely spelled like an unknown key on the wire."""
        if tags := self.__tags__:
            self.__pydantic_fields_set__.update(tags)
        if extra := self.__pydantic_extra__:
            fields = self.__pydantic_fields__
            for name in extra.keys() & fields.keys():
                if self.__dict__.get(name) == fields[name].get_default(call_default_factory=True):
                    self.__pydantic_fields_set__.discard(name)

    __tags__: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The default of a field whose value did not fit and was dropped (`OMIT`)."""
            field = type(self).__pydantic_fields__.get(name)
            if field is None or field.is_required():
                return super().__getattr__(name)
            value = self.__dict__[name] = field.get_default(call_default_factory=True)
            return value

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """A tag comes first on the wire, and is sent though nobody set it."""
        super().__pydantic_init_subclass__(**kwargs)
        if any(base.__dict__.get("__tags__") for base in cls.__mro__):
            tags = [tag for base in cls.__mro__[::-1] for tag in base.__dict__.get("__tags__", ())]
            cls.__tags__ = tuple(dict.fromkeys(tags))
            fields = cls.__pydantic_fields__
            first = {name: fields[name] for name in cls.__tags__}
            cls.__pydantic_fields__ = first | fields

    @classmethod
    def decode(cls, value: Json) -> Self:
        """The model of a JSON value. Raises `pydantic.ValidationError`; see `pointers`."""
        return cls.model_validate(value, by_alias=True, by_name=False)

    def encode(self) -> dict[str, Json]:
        """The JSON value of this model, with what was omitted left out."""
        return self.__pydantic_serializer__.to_python(self, by_alias=True, exclude_unset=True, warnings="none")

    def given(self, name: str) -> bool:
        """Whether the field was given, be it as null."""
        return name in self.model_fields_set


class WithMeta(Wire):
    """An object on the wire with `_meta`, the place for what the protocol does not define."""

    meta: Annotated[dict[str, Any] | None, OMIT] = None


def pointers(error: ValidationError) -> list[dict[str, str]]:
    """Where and why a value does not fit: JSON pointers and messages, without the values themselves."""
    found: dict[str, str] = {}
    for line in error.errors(include_url=False, include_context=False, include_input=False):
        steps = [str(step) for step in line["loc"]]
        if any(step.startswith(ARM + ARM) for step in steps):
            continue
        steps = [step for step in steps if not step.startswith(ARM)]
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
        found.setdefault(pointer, line["msg"])
    return [{"pointer": pointer, "message": message} for pointer, message in found.items()]


ARM = "\u2192"
"""Begins the steps of an error's location that name a union's arm and no key of the JSON value; twice if the arm
was tried only because the likely one did not fit."""
