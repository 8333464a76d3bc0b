"""What may be written in a tool call: the grammar of Laguna's calls, made from the tools that are offered.

A call names an offered tool, gives arguments that the tool has, none twice, and does not end before the required ones
are there. Values that are no texts are JSON of their schema (`json_schema`, `json_grammar`); a text is free. It may
spell any tag: it ends where `</arg_value>` is followed by what may follow it, as the parser has it
(`acp_server.spelled.call`), so a model that writes calls as it was taught writes the same ones under the grammar.

An automaton over bytes. A `State` is the set of places where the text may be; `after` is where one more byte leads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

from acp_server.model import ToolSpec
from acp_server.spelled.coercion import types_of

from .json_grammar import SPACE, Digits, Stack, begin, complete, moves, steady
from .json_schema import Node, SchemaError, read_schema

KEY, KEY_ENDS, VALUE, VALUE_ENDS = b"<arg_key>", b"</arg_key>", b"<arg_value>", b"</arg_value>"

Type = Literal["text", "integer", "number"]
Value = Type | tuple[bytes, ...] | Node


@dataclass(frozen=True, slots=True)
class Spelling:
    """What a template puts between the pieces of a call: newlines, or nothing."""

    named: str
    keyed: str
    valued: str
    ended: str
    bare: str
    """Between the name and the end of a call without arguments."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool's arguments: the type of each, or the texts that it may be, or its schema; and which must be there."""

    name: bytes
    values: Mapping[bytes, Value]
    required: frozenset[bytes]
    open: bool
    """Whether arguments may have any names: where none are told."""


# Places in a call ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """Which tool is called, and which of its arguments were written."""

    tool: int
    used: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Fixed:
    """Text that has to come, and what comes after it."""

    text: bytes
    then: Then


@dataclass(frozen=True, slots=True)
class Free:
    """Within a value that is a text. `closing` counts the bytes that match what ends it.

    After `</arg_value>` white space may come, and the bytes of `<arg_key>` count on from there.
    """

    call: Call
    closing: int = 0

    @property
    def may_end(self) -> bool:
        return self.closing == len(VALUE_ENDS)


@dataclass(frozen=True, slots=True)
class FreeKey:
    """Within the name of an argument that may have any. `closing` counts the bytes of the tag that ends it."""

    call: Call
    begun: bool = False
    closing: int = 0

    def next(self) -> bytes:
        """The bytes that may come: of a name on one line, or of the tag, to which no name's `<` can belong."""
        if self.closing:
            return KEY_ENDS[self.closing : self.closing + 1]
        return IN_A_KEY + (KEY_ENDS[:1] if self.begun else b"")


@dataclass(frozen=True, slots=True)
class Json:
    """Within a value that is JSON."""

    call: Call
    stack: Stack


@dataclass(frozen=True, slots=True)
class JsonDue:
    """A value that is JSON has to begin."""

    call: Call
    node: Node


@dataclass(frozen=True, slots=True)
class End:
    """The tag that ends the call may come."""


Place = Fixed | Free | FreeKey | Json | JsonDue | End
State = frozenset[Place]


@dataclass(frozen=True, slots=True)
class Named:
    call: Call


@dataclass(frozen=True, slots=True)
class Keyed:
    """A key is to be written."""

    call: Call


@dataclass(frozen=True, slots=True)
class Valued:
    """A value is to be written."""

    call: Call
    key: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """A value was written."""

    call: Call


Then = Named | Keyed | Valued | Done | End

IN_A_KEY = bytes(byte for byte in range(0x20, 0x100) if byte not in (0x3C, 0x7F))


class Grammar:
    """Calls of these tools in that spelling. Immutable; `begin` is where every call begins."""

    def __init__(self, tools: Sequence[ToolSpec], spelling: Spelling) -> None:
        self.tools = tuple(tool_of(tool) for tool in tools)
        self.named = spelling.named.encode()
        self.bare = spelling.bare.encode()
        self.keyed, self.valued, self.ended = (
            text.encode() for text in (spelling.keyed, spelling.valued, spelling.ended)
        )
        self.begin: State = frozenset(
            place for index, tool in enumerate(self.tools) for place in self.fixed(tool.name, Named(Call(index)))
        )
        self.after = lru_cache(maxsize=4096)(self._after)

    def fixed(self, text: bytes, then: Then) -> Iterator[Place]:
        """A text and what comes after; with nothing left of it, what comes after."""
        if text:
            yield Fixed(text, then)
        else:
            yield from self.expanded(then)

    def expanded(self, then: Then) -> Iterator[Place]:
        match then:
            case End():
                yield then
            case Named(call):
                yield from self.next_or_end(call, self.named, self.bare)
            case Done(call):
                yield from self.next_or_end(call, self.valued, self.ended)
            case Keyed(call):
                tool = self.tools[call.tool]
                for key in tool.values:
                    if key not in call.used:
                        used = Call(call.tool, call.used | {key})
                        yield from self.fixed(key + KEY_ENDS + self.keyed + VALUE, Valued(used, key))
                if tool.open:
                    yield FreeKey(call)
            case Valued(call, key):
                match self.tools[call.tool].values.get(key, "text"):
                    case "text":
                        yield Free(call)
                    case "integer" | "number" as kind:
                        yield Json(call, (Digits(whole=kind == "integer"),))
                    case Node() as node:
                        yield JsonDue(call, node)
                    case texts:
                        for text in texts:
                            yield from self.fixed(text + VALUE_ENDS, Done(call))

    def next_or_end(self, call: Call, before_key: bytes, before_end: bytes) -> Iterator[Place]:
        tool = self.tools[call.tool]
        if tool.open or len(call.used) < len(tool.values):
            yield from self.fixed(before_key + KEY, Keyed(call))
        if tool.required <= call.used:
            yield from self.fixed(before_end, End())

    # What comes ------------------------------------------------------------------------------------------

    def is_free(self, state: State) -> bool:
        """Whether any text may come."""
        return any(isinstance(place, Free) for place in state)

    def is_steady(self, state: State) -> bool:
        """Whether any bytes that are not special to JSON's texts lead back to the state."""
        return bool(state) and all(isinstance(place, Json) and steady(place.stack) for place in state)

    def may_end(self, state: State) -> bool:
        """Whether the tag that ends the call may come."""
        return any(
            isinstance(place, End)
            or (isinstance(place, Free) and place.may_end and self.tools[place.call.tool].required <= place.call.used)
            for place in state
        )

    def bytes_after(self, state: State) -> bytes:
        """The bytes that may come next, of a state that is not free."""
        found = set[int]()
        for place in state:
            match place:
                case Fixed(text, _):
                    found.add(text[0])
                case JsonDue(_, node):
                    found.update(byte for byte, _ in begin(node))
                case Json(_, stack):
                    found.update(moves(stack))
                    found.update(VALUE_ENDS[:1] if complete(stack) else b"")
                case FreeKey():
                    found.update(place.next())
                case Free() | End():
                    pass
        return bytes(sorted(found))

    def _after(self, state: State, byte: int) -> State:
        """Where one more byte leads; the empty state if it may not come."""
        return frozenset(found for place in state for found in self.step(place, byte))

    def step(self, place: Place, byte: int) -> Iterator[Place]:
        match place:
            case Fixed(text, then):
                if text[0] == byte:
                    yield from self.fixed(text[1:], then)
            case Free(call, closing):
                now = _closed(closing, byte)
                keys = list(self.expanded(Keyed(call))) if now is None else []
                yield from keys or [Free(call, now or 0)]  # no key is left: then it was no end
            case JsonDue(call, node):
                yield from (Json(call, stack) for first, stack in begin(node) if first == byte)
            case Json(call, stack):
                yield from (Json(call, longer) for longer in moves(stack).get(byte, ()))
                if complete(stack) and byte == VALUE_ENDS[0]:
                    yield Fixed(VALUE_ENDS[1:], Done(call))
            case FreeKey(call, _, closing):
                if byte not in place.next():
                    return
                if closing + 1 == len(KEY_ENDS):
                    yield from self.fixed(self.keyed + VALUE, Valued(call, b""))
                else:
                    yield FreeKey(call, True, closing + 1 if closing or byte == KEY_ENDS[0] else 0)
            case End():
                pass


def _closed(closing: int, byte: int) -> int | None:
    """How much of what ends a text has come after one more byte; None: all of it, and a key has begun."""
    size = len(VALUE_ENDS)
    if closing == size and byte in SPACE:
        return size
    expected = VALUE_ENDS[closing] if closing < size else KEY[closing - size]
    if byte == expected:
        return None if closing + 1 == size + len(KEY) else closing + 1
    if closing == size + 1 and byte == VALUE_ENDS[1]:  # the `<` was of another `</arg_value>`
        return 2
    return 1 if byte == VALUE_ENDS[0] else 0


# Tools ---------------------------------------------------------------------------------------------------


def tool_of(spec: ToolSpec) -> Tool:
    """What a tool's schema says of its arguments; what it leaves open, or says in other ways, is free."""
    raw = cast("Any", spec.parameters.get("properties"))
    properties = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    more = not properties and spec.parameters.get("additionalProperties", True)
    required: Any = spec.parameters.get("required")
    return Tool(
        spec.name.encode(),
        {key.encode(): value_of(schema, spec.parameters) for key, schema in properties.items()},
        frozenset(key.encode() for key in cast("list[str]", required or ()) if key in properties),
        open=more is not False,
    )


def value_of(schema: Any, root: Mapping[str, Any]) -> Value:
    """How a value is written: what the template's `tojson` writes, and texts as they are. What may be a text may be
    anything, since a text has no quotes."""
    fields = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
    match fields:
        case {"enum": list(choices)} if choices:
            return tuple(_written(choice) for choice in cast("list[Any]", choices))
        case {"const": choice}:
            return (_written(choice),)
        case {"type": "boolean"}:
            return (b"true", b"false")
        case {"type": "null"}:
            return (b"null",)
        case {"type": "integer" | "number" as kind}:
            return kind
        case _:
            kinds = types_of(fields, root)
            return json_of(fields, root) if kinds and "string" not in kinds else "text"


def json_of(schema: Any, root: Mapping[str, Any]) -> Value:
    """The schema of a value that is no text; what no grammar can be made of is free."""
    try:
        node = read_schema(schema, root)
    except SchemaError:
        return "text"
    return "text" if any(one.text for one in node.all) else node


def _written(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
