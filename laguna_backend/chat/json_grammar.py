"""JSON of a schema, byte by byte: a stack of what is being written, the innermost last.

`ways` tells of a stack which bytes may come and what it is then; the empty one is a whole value, and nothing follows.
White space may stand where JSON has it, but for before and after the whole. A key is written once, and what is declared
for it holds however it is spelled. No text reads as the end of the argument (`acp_server.spelled.call`), and none has
half of a surrogate pair. A text that is bounded is spelled as `json.dumps` has it, but that characters of ASCII may be
escaped that need not be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

from acp_server.spelled.call import CALL_ENDS, CLOSE

from .characters import ANY, Characters, Range, but, in_bytes
from .digits import Decimal, Whole, first
from .json_schema import MOST_NODES, Array, Node, Object

SPACE = b" \t\r\n"
LONGEST_SPACE = 32
DEEPEST = 64
"""Arrays and objects inside one another; from there on the flattest way is taken."""
NOT_PLAIN = bytes(range(0x20)) + b'"\\'
SPACES = b" \t\n\v\f\r\x1c\x1d\x1e\x1f"
IN_A_TEXT = bytes(byte for byte in range(0x20, 0x100) if byte not in b'"\\')
HEX = b"0123456789abcdefABCDEF"
ENDS = tuple((CLOSE + after).encode() for after in ("<arg_key>", CALL_ENDS))
"""What ends an argument; between the two tags there may be white space."""
CLOSED = CLOSE.encode()

ESCAPED = {chr(code): f"u{code:04x}" for code in range(0x80)} | dict(zip('"\\/\b\f\n\r\t', '"\\/bfnrt', strict=True))
"""How characters of a bounded text are written after a backslash."""


# What is being written -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """A value has to begin."""

    node: Node


@dataclass(frozen=True, slots=True)
class Rest:
    """These bytes have to come."""

    text: bytes


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these has to come."""

    texts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class InText:
    """Within a text. `tag`: how far it spells what would end the argument; `escape`: what was written of one."""

    tag: bytes = b""
    escape: bytes = b""


@dataclass(frozen=True, slots=True)
class InBounded:
    """Within a text that may not be any: `due` has to come first, the rest of a character's bytes."""

    characters: Characters
    tag: bytes = b""
    due: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class InKey:
    """Within a key that is not declared; `text` is what was written of it, None where no declared one begins so.

    It is spelled as JSON is written, so that no declared key can be spelled in another way.
    """

    text: bytes | None = b""
    tag: bytes = b""
    escape: bytes = b""


@dataclass(frozen=True, slots=True)
class Known:
    """Within a declared key: the rest of it."""

    rest: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class InArray:
    array: Array
    items: int = 0
    """Counted as far as it matters."""
    begun: bool = False


@dataclass(frozen=True, slots=True)
class InObject:
    """`at`: "begin" before the first key, "key" after a comma, "colon" after a key, and "value" after a value."""

    object: Object
    used: frozenset[bytes] = frozenset()
    at: str = "begin"
    value: Node | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """White space was written, so much of it."""

    size: int


Stack = tuple[
    "Due | Rest | OneOf | Whole | Decimal | InText | InBounded | InKey | Known | InArray | InObject | Space", ...
]
Moves = Iterator[tuple[bytes, Stack]]


def complete(stack: Stack) -> bool:
    """Whether the value may end here."""
    return not stack or (len(stack) == 1 and isinstance(stack[0], Whole | Decimal) and stack[0].complete)


def ways(stack: Stack) -> Moves:
    size = 0
    if stack and isinstance(stack[-1], Space):
        size, stack = stack[-1].size, stack[:-1]
    if not stack:
        return
    below, top = stack[:-1], stack[-1]
    if size < LONGEST_SPACE and isinstance(top, Due | InArray | InObject):
        yield SPACE, (*stack, Space(size + 1))
    match top:
        case Due(node):
            yield from starts(node, below)
        case Rest(text):
            yield text[:1], (*below, Rest(text[1:])) if text[1:] else below
        case OneOf(texts):
            for byte in sorted({text[0] for text in texts}):
                rest = tuple(text[1:] for text in texts if text[0] == byte)
                yield bytes([byte]), (*below, OneOf(rest)) if any(rest) else below
        case Whole() | Decimal():
            for some, more in top.next():
                yield some, (*below, more)
            if top.complete:
                yield from ways(below)
        case InText(tag, escape):
            for some, now, escaped in spelling(tag, escape, anyhow=True):
                yield some, (*below, InText(now, escaped))
            if not escape:
                yield b'"', below
        case InBounded(characters):
            if characters.complete and not top.due:
                yield b'"', below
            for some, now in bounded(top, json=True):
                yield some, (*below, now)
            for ranges, after in () if top.due else characters.next():
                if texts := escapable(ranges):
                    yield b"\\", (*below, InBounded(after), OneOf(texts))
        case InArray(array, items, begun):
            yield from in_array(below, array, items, begun)
        case InObject():
            yield from in_object(below, top)
        case Known(text, key):
            yield from known(below, text, key)
        case InKey():
            yield from in_key(below, top)
        case Space():
            pass


def starts(node: Node, below: Stack, *, texts: bool = True) -> Moves:
    """A value's first bytes. Deep down only the flattest values there are. `texts`: whether it may be one."""
    highest = node.height if is_deep(below) else MOST_NODES
    for one in node.all:
        for text in one.literals if texts else (text for text in one.literals if text[:1] != b'"'):
            yield text[:1], (*below, Rest(text[1:])) if text[1:] else below
        if one.text and texts:
            yield b'"', (*below, InText() if one.text == ANY else InBounded(one.text))
        if one.number:
            for some, begun in first(one.number):
                yield some, (*below, begun)
        if one.array and one.array.height <= highest:
            yield b"[", (*below, InArray(one.array))
        if one.object and one.object.height <= highest:
            yield b"{", (*below, InObject(one.object))


def is_deep(stack: Stack) -> bool:
    return len(stack) >= DEEPEST and sum(isinstance(frame, InArray | InObject) for frame in stack) >= DEEPEST


def in_array(below: Stack, array: Array, items: int, begun: bool) -> Moves:
    if items >= array.least:
        yield b"]", below
    if items < array.most and array.items.height < inf and (items < array.least or not is_deep(below)):
        counted = min(items + 1, array.least) if array.most == inf else items + 1
        now = (*below, InArray(array, counted, True))
        if begun:
            yield b",", (*now, Due(array.items))
        else:
            yield from starts(array.items, now)


def in_object(below: Stack, top: InObject) -> Moves:
    object, used = top.object, top.used
    if top.at == "colon":
        assert top.value is not None
        yield b":", (*below, replace(top, at="value", value=None), Due(top.value))
        return
    if top.at != "key" and object.required <= used:
        yield b"}", below
    keys = [
        key
        for key, node in object.values.items()
        if key not in used and node.height < inf and (key in object.required or not is_deep(below))
    ]
    more = object.more is not None and object.more.height < inf and not is_deep(below)
    if top.at == "value":
        if keys or more:
            yield b",", (*below, replace(top, at="key"))
        return
    for key in keys:
        yield b'"', (*below, top, Known(key[1:], key))
    if more:
        yield b'"', (*below, top, InKey())


def known(below: Stack, text: bytes, key: bytes) -> Moves:
    if text[1:]:
        yield text[:1], (*below, Known(text[1:], key))
        return
    *rest, holder = below
    assert isinstance(holder, InObject)
    now = replace(holder, at="colon", used=holder.used | {key}, value=holder.object.values[key])
    yield text, (*rest, now)


def in_key(below: Stack, top: InKey) -> Moves:
    *rest, holder = below
    assert isinstance(holder, InObject)
    declared = holder.object.values
    for some, tag, escape in spelling(top.tag, top.escape, anyhow=False):
        if top.text is None:
            yield some, (*below, InKey(None, tag, escape))
            continue
        for byte in some:
            text = top.text + bytes([byte])
            begins = any(key[1:].startswith(text) for key in declared)
            yield bytes([byte]), (*below, InKey(text if begins else None, tag, escape))
    if not top.escape and (top.text is None or b'"' + top.text + b'"' not in declared):
        yield b'"', (*rest, replace(holder, at="colon", value=holder.object.more))


def bounded(top: InBounded, *, json: bool) -> Iterator[tuple[bytes, InBounded]]:
    """Within a bounded text: bytes of characters that may come, as they are. In JSON some may not."""
    if top.due:
        (low, high), *due = top.due
        for some, tag in tags(top.tag, bytes(range(low, high + 1))):
            yield some, replace(top, tag=tag, due=tuple(due))
        return
    for ranges, now in top.characters.next():
        for (low, high), *due in in_bytes(but(ranges, NOT_PLAIN) if json else ranges):
            for some, tag in tags(top.tag, bytes(range(low, high + 1))):
                yield some, InBounded(now, tag, tuple(due))


@lru_cache(maxsize=1024)
def escapable(ranges: tuple[Range, ...]) -> tuple[bytes, ...]:
    """The characters in the ranges that can be escaped, as they are after the backslash."""
    return tuple(
        text.encode() for char, text in ESCAPED.items() if any(low <= ord(char) <= high for low, high in ranges)
    )


def spelling(tag: bytes, escape: bytes, *, anyhow: bool) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Within quotes: bytes that may come, the tag that they spell then, and the escape. `anyhow`: with escapes that
    nothing needs."""
    if escape:
        for byte in escapes(escape, anyhow):
            now = escape + bytes([byte])
            yield bytes([byte]), b"", b"" if len(now) == 6 or now[1:2] != b"u" else now
        return
    yield b"\\", b"", b"\\"
    yield from ((some, now, b"") for some, now in tags(tag, IN_A_TEXT))


@lru_cache(maxsize=1024)
def tags(tag: bytes, some: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Which of these bytes may come after so much of a tag, and what they spell then. None may end the argument."""
    found: dict[bytes, list[int]] = {}
    for byte in some:
        found.setdefault(tagged(tag, byte), []).append(byte)
    return tuple((bytes(some), now) for now, some in found.items() if now not in ENDS)


def tagged(tag: bytes, byte: int) -> bytes:
    """How far a text spells what ends an argument, with one more byte. Any byte of another alphabet may be a space."""
    if tag == CLOSED and (byte in SPACES or byte >= 0x80):
        return tag
    now = tag + bytes([byte])
    while now and not any(end.startswith(now) for end in ENDS):
        now = now[1:]
    return now


def escapes(written: bytes, anyhow: bool) -> bytes:
    """What may follow in an escape. Not `anyhow`: as `json.dumps` writes them."""
    match len(written):
        case 1:
            return b'"\\bfnrtu' + (b"/" if anyhow else b"")
        case 2:
            return HEX if anyhow else b"0"
        case 3:
            if anyhow:
                return b"01234567" if written[2:3] in b"dD" else HEX
            return b"0"
        case 4:
            return HEX if anyhow else b"01"
        case _:
            return HEX if anyhow else b"0123456789abcdef" if written[4:5] == b"1" else b"01234567bef"
