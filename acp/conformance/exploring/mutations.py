"""Lines that a peer might send by mistake or malice, made from good ones; and what may be answered to a line.

`expected` is an opinion of its own: it reads JSON-RPC 2.0 and the transport rules with the standard library's parser,
and knows nothing of `acp.peer`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

Json = Any

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
DEEPEST = 200
"""Levels of nesting that every reader takes; of more, some do not."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What may come back: nothing, an error under the null id, or one answer under the request's own id.

    `kind` may be "either" where readers rightly differ, on nesting that is deep say.
    """

    kind: Literal["nothing", "refusal", "answer", "either"]
    codes: frozenset[int] = frozenset()
    id: Json = None
    method: str = ""


def expected(line: bytes) -> Expectation:
    """What a line may be answered with."""
    try:
        message = _parsed(line)
    except RecursionError:
        return Expectation("either")
    except ValueError:
        return Expectation("refusal", frozenset({PARSE_ERROR}))
    if _depth(message) > DEEPEST:
        return Expectation("either")
    if isinstance(message, dict) and _is_either(cast("dict[str, Json]", message)):
        return Expectation("either")
    if not isinstance(message, dict) or not _is_envelope(cast("dict[str, Json]", message)):
        return Expectation("refusal", frozenset({INVALID_REQUEST}))
    given = cast("dict[str, Json]", message)
    if "method" not in given or "id" not in given:
        return Expectation("nothing")
    return Expectation("answer", id=given["id"], method=given["method"])


def _parsed(line: bytes) -> Json:
    text = line.decode("utf-8")

    def refuse(constant: str) -> Json:
        raise ValueError(f"{constant} is no JSON")

    def pairs(items: list[tuple[str, Json]]) -> dict[str, Json]:
        _encodable(items)  # what a repeated key hides has to be text all the same
        return dict(items)

    value = json.loads(text, parse_constant=refuse, object_pairs_hook=pairs)
    _encodable(value)
    if any(isinstance(item, float) and item in (float("inf"), float("-inf")) for item in _items(value)):
        raise ValueError("a number is too large")
    return value


def _encodable(value: Json) -> None:
    """Raise UnicodeEncodeError for a lone surrogate, which no UTF-8 can hold."""
    for item in _items(value):
        if isinstance(item, str):
            item.encode("utf-8")


def _items(value: Json) -> Iterator[Json]:
    """The value, and all that is in it, keys too."""
    pending: list[Json] = [value]
    while pending:
        item = pending.pop()
        yield item
        if isinstance(item, dict):
            pending += [part for pair in cast("dict[str, Json]", item).items() for part in pair]
        elif isinstance(item, list | tuple):
            pending += cast("list[Json]", item)


def _depth(value: Json) -> int:
    deepest, pending = 0, [(value, 1)]
    while pending:
        item, depth = pending.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            pending += [(part, depth + 1) for part in cast("dict[str, Json]", item).values()]
        elif isinstance(item, list):
            pending += [(part, depth + 1) for part in cast("list[Json]", item)]
    return deepest


def _is_either(message: dict[str, Json]) -> bool:
    """An answer with a result and an error, one of them null: some readers take the other, and some report it."""
    both = "method" not in message and {"result", "error"} <= message.keys()
    return both and (message["result"] is None) != (message["error"] is None)


def _is_envelope(message: dict[str, Json]) -> bool:
    if message.get("jsonrpc") != "2.0" or type(message.get("id")) not in (int, str, type(None)):
        return False
    if "method" in message:
        return isinstance(message["method"], str) and isinstance(message.get("params"), dict | list | None)
    if "id" not in message or ("result" in message) == ("error" in message):
        return False
    match message.get("error", {"code": 0, "message": ""}):
        case {"code": code, "message": str()}:
            return type(code) is int
        case _:
            return False


# Mutations -------------------------------------------------------------------------------------------------------


def mutated(rng: random.Random, lines: Sequence[bytes]) -> Iterator[bytes]:
    """Lines without end, each made from one of `lines` by one to three mutations. None has a newline in it."""
    while True:
        line = rng.choice(lines)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            line = rng.choice(_MUTATIONS)(rng, line)
        if line := line.replace(b"\n", b" ").strip(b" \t\r"):
            yield line


ODD: Sequence[Json] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**30, -(2**70), "", "x", "\0", "\u2028", "ä" * 50, [], {}, [[]],
    {"_meta": 3}, {"jsonrpc": "2.0"}, "__proto__", "session/update", ["a", 1, None],
)  # fmt: skip


def _flip(rng: random.Random, line: bytes) -> bytes:
    data = bytearray(line)
    for _ in range(rng.randint(1, 3)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _cut(rng: random.Random, line: bytes) -> bytes:
    return line[: rng.randrange(len(line) + 1)]


def _splice(rng: random.Random, line: bytes) -> bytes:
    at = rng.randrange(len(line) + 1)
    return line[:at] + rng.choice(_SPLINTERS) + line[at:]


_SPLINTERS = (
    b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00", b"\r", b"NaN", b"-Infinity", b"1e400", b"\\ud800", b"{", b"]",
    b",", b'"', b"9" * 400, b"9" * 5000, b"[" * 300, b'{"a":' * 250, b"//", b"'", b"\xc3", b"0x1f", b"+1", b"01",
)  # fmt: skip


def _changed(rng: random.Random, line: bytes, change: Callable[[dict[str, Json]], Json]) -> bytes:
    """The line with its message changed, if it is one."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(message, dict):
        return line
    return json.dumps(change(cast("dict[str, Json]", message)), ensure_ascii=rng.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def _lose(rng: random.Random, line: bytes) -> bytes:
    def change(message: dict[str, Json]) -> Json:
        holder = _somewhere(rng, message)
        if holder:
            del holder[rng.choice(list(holder))]
        return message

    return _changed(rng, line, change)


def _swap(rng: random.Random, line: bytes) -> bytes:
    def change(message: dict[str, Json]) -> Json:
        holder = _somewhere(rng, message)
        if holder:
            holder[rng.choice(list(holder))] = rng.choice(ODD)
        return message

    return _changed(rng, line, change)


_NAMES = ("id", "method", "params", "result", "error", "_meta", "extra", "sessionId", "type", "__class__")
_METHODS = ("", "_x/y", "$/progress", "$/cancel_request", "rpc.x", "session/none", "a" * 300)


def _add(rng: random.Random, line: bytes) -> bytes:
    def change(message: dict[str, Json]) -> Json:
        name = rng.choice(
            ("id", "method", "params", "result", "error", "_meta", "extra", "sessionId", "type", "__class__")
        )
        _somewhere(rng, message)[name] = rng.choice(ODD)
        return message

    return _changed(rng, line, change)


def _rename(rng: random.Random, line: bytes) -> bytes:
    def change(message: dict[str, Json]) -> Json:
        message["method"] = rng.choice(
            ("", "_x/y", "$/progress", "$/cancel_request", "rpc.x", "session/none", "a" * 300)
        )
        return message

    return _changed(rng, line, change)


def _array(rng: random.Random, line: bytes) -> bytes:
    return b"[" + b",".join([line] * rng.randrange(3)) + b"]"


def _twice(rng: random.Random, line: bytes) -> bytes:
    return line + rng.choice((b"", b" ", b",")) + line


def _repeat_key(rng: random.Random, line: bytes) -> bytes:
    return line.replace(b'"id":', b'"id":' + rng.choice((b"7", b"null", b'"q"', b"{}")) + b',"id":', 1)


def _somewhere(rng: random.Random, message: dict[str, Json]) -> dict[str, Json]:
    """One of the objects in the message, itself among them."""
    return rng.choice([cast("dict[str, Json]", item) for item in _items(message) if isinstance(item, dict)])


_MUTATIONS: Sequence[Callable[[random.Random, bytes], bytes]] = (
    _flip, _cut, _splice, _lose, _lose, _swap, _swap, _swap, _add, _add, _rename, _array, _twice, _repeat_key,
)  # fmt: skip
