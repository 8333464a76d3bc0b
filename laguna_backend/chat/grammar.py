"""What may be written in a tool call: the grammar of Laguna's calls, made from the tools that are offered.

A call names an offered tool, gives arguments that the tool has, none twice, and does not end before the required ones
are there. Values that are no texts are JSON of their schema (`json_schema`, `json_grammar`); a text is as it is, one of
some, of some length or free. It may spell any tag: it ends where `</arg_value>` is followed by what may follow it, as
the parser has it (`acp_server.spelled.call`), so a model that writes calls as it was taught writes the same ones under
the grammar.

An automaton over bytes. A `State` is the set of places where the text may be; `after` is where one more byte leads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, cast

from acp_server.model import ToolSpec
from acp_server.spelled.coercion import coerce, types_of

from .characters import ANY, Characters, Length
from .json_grammar import SPACE, InBounded, InText, OneOf, Stack, bounded, complete, starts, ways
from .json_schema import END, Node, SchemaError, read_schema

KEY, KEY_ENDS, VALUE, VALUE_ENDS = b"<arg_key>", b"</arg_key>", b"<arg_value>", b"</arg_value>"


@dataclass(frozen=True, slots=True)
class Value:
    """What may be written for an argument: one of some texts, a bounded text, or JSON. None of them: any text."""

    texts: tuple[bytes, ...] = ()
    bounded: tuple[Characters, ...] = ()
    json: Node | None = None


FREE = Value()


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
    """A tool's arguments, and which must be there."""

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
class Bounded:
    """Within a value that is a text and may not be any."""

    call: Call
    text: InBounded


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


Place = Fixed | Free | Bounded | FreeKey | Json | JsonDue | End
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
NO_CALL = Call(-1)
NOWHERE: State = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """Where each byte leads from one state: `kinds[byte]` is a place in `states`, the first of which is nowhere."""

    kinds: bytes
    states: tuple[State, ...]


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
        self.row = lru_cache(maxsize=4096)(self._row)

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
                value = self.tools[call.tool].values.get(key, FREE)
                if value == FREE:
                    yield Free(call)
                for text in value.texts:
                    yield from self.fixed(text + VALUE_ENDS, Done(call))
                for characters in value.bounded:
                    yield Bounded(call, InBounded(characters))
                if value.json:
                    yield JsonDue(call, value.json)

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

    def may_end(self, state: State) -> bool:
        """Whether the tag that ends the call may come."""
        return any(
            isinstance(place, End)
            or (isinstance(place, Free) and place.may_end and self.tools[place.call.tool].required <= place.call.used)
            for place in state
        )

    def after(self, state: State, byte: int) -> State:
        """Where one more byte leads; the empty state if it may not come."""
        row = self.row(state)
        return row.states[row.kinds[byte]]

    def bytes_after(self, state: State) -> bytes:
        """The bytes that may come next."""
        return bytes(byte for byte, kind in enumerate(self.row(state).kinds) if kind)

    def _row(self, state: State) -> Row:
        groups = [(some, frozenset(places)) for place in state for some, places in self.ways(place)]
        found: dict[int, tuple[int, ...]] = {}
        for number, (some, _) in enumerate(groups):
            for byte in some:
                found[byte] = (*found.get(byte, ()), number)
        kinds, states = bytearray(256), {NOWHERE: 0}
        known: dict[tuple[int, ...], int] = {}
        for byte, numbers in found.items():
            if numbers not in known:
                after = NOWHERE.union(*(groups[number][1] for number in numbers))
                known[numbers] = states.setdefault(after, len(states))
            kinds[byte] = known[numbers]
        return Row(bytes(kinds), tuple(states))

    def ways(self, place: Place) -> Iterator[tuple[bytes, Iterator[Place]]]:
        """Bytes that may come next, and where the text may be after any of them."""
        match place:
            case Fixed(text, then):
                yield text[:1], self.fixed(text[1:], then)
            case Free(call, closing):
                for now, some in _closings(closing):
                    yield some, self.freely(call, now)
            case Bounded(call, text):
                for some, now in bounded(text, json=False):
                    yield some, iter([Bounded(call, now)])
                if text.characters.complete and not text.due:
                    yield VALUE_ENDS[:1], iter([Fixed(VALUE_ENDS[1:], Done(call))])
            case JsonDue(call, node):
                for some, stack in starts(node, (), texts=False):
                    yield some, iter([Json(call, stack)])
            case Json(call, stack):
                for some, longer in ways(stack):
                    yield some, iter([Json(call, longer)])
                if complete(stack):
                    yield VALUE_ENDS[:1], iter([Fixed(VALUE_ENDS[1:], Done(call))])
            case FreeKey(call, _, closing):
                for byte in place.next():
                    if closing + 1 == len(KEY_ENDS):
                        yield bytes([byte]), self.fixed(self.keyed + VALUE, Valued(call, b""))
                    else:
                        now = closing + 1 if closing or byte == KEY_ENDS[0] else 0
                        yield bytes([byte]), iter([FreeKey(call, True, now)])
            case End():
                pass

    def freely(self, call: Call, closing: int | None) -> Iterator[Place]:
        keys = list(self.expanded(Keyed(call))) if closing is None else []
        yield from keys or [Free(call, closing or 0)]  # no key is left: then it was no end


def text_in(place: Place) -> tuple[Place, Place] | None:
    """Of a place within a text: that text by itself, as it is wherever it stands, and the place that comes after it."""
    match place:
        case Json(call, (*below, InText() | InBounded() as text)):
            return Json(NO_CALL, (text,)), Json(call, tuple(below))
        case Json(call, (*below, InBounded() as text, OneOf() as escape)):
            return Json(NO_CALL, (text, escape)), Json(call, tuple(below))
        case Bounded(call, text):
            return Bounded(NO_CALL, text), Fixed(VALUE_ENDS[1:], Done(call))
        case _:
            return None


def length_of(text: Place) -> Length | None:
    """How long a text by itself may become; None where it may be of any length, or is bounded otherwise."""
    match text:
        case Json(_, (InBounded(Length() as length), *_)) | Bounded(_, InBounded(Length() as length)):
            return length
        case _:
            return None


def of_any_length(text: Place) -> Place:
    """The same without bounds of its length, if those are all it has."""
    match text:
        case Json(call, (InBounded(Length()) as top, *more)):
            return Json(call, (replace(top, characters=ANY), *more))
        case Bounded(call, InBounded(Length()) as top):
            return Bounded(call, replace(top, characters=ANY))
        case _:
            return text


def is_between_characters(text: Place) -> bool:
    """Whether what comes next in a text by itself is another character, from its first byte on."""
    match text:
        case Json(_, (InBounded(due=()),)) | Bounded(_, InBounded(due=())):
            return True
        case _:
            return False


@cache
def _closings(closing: int) -> tuple[tuple[int | None, bytes], ...]:
    """Of every byte how much of what ends a text has come with it."""
    found: dict[int | None, list[int]] = {}
    for byte in range(256):
        found.setdefault(_closed(closing, byte), []).append(byte)
    return tuple((now, bytes(some)) for now, some in found.items())


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
    """How a value is written: what the template's `tojson` writes, and texts as they are, without quotes.

    What may be a text of any length may be anything; and whatever else can be a value beside a bounded text is free
    too, since the text might read as that.
    """
    try:
        node = read_schema(schema, root)
    except SchemaError:
        return FREE
    literals = [json.loads(text) for one in node.all for text in one.literals]
    texts = list(dict.fromkeys(choice for choice in literals if isinstance(choice, str)))
    lengths = tuple(one.text for one in node.all if one.text)
    more = any(one.number or one.array or one.object for one in node.all)
    others = more or any(choice is not None and not isinstance(choice, str) for choice in literals)
    fields = cast("Mapping[str, Any]", schema) if isinstance(schema, Mapping) else {}
    if lengths and (ANY in lengths or others or "string" not in types_of(fields, root)):
        return FREE
    for text in texts:
        value, problem = coerce(text, fields, root)
        if problem or END.search(text.encode()) or not any(same(value, choice) for choice in literals):
            return FREE  # it would not be read as what it is
    json_too = more or len(texts) < len(literals)
    return Value(tuple(text.encode() for text in texts), lengths, node if json_too else None)


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
