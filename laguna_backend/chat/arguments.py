"""A call's arguments as JSON text that grows while the model writes the call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from acp_server.model import Arguments, ToolSpec
from acp_server.spelled.call import CALL_ENDS, CLOSE, NAME, OPEN, property_schema
from acp_server.spelled.coercion import coerce, types_of

KEY_OPEN, KEY_CLOSE = "<arg_key>", "</arg_key>"
SPACE = re.compile(r"\s*")


def arguments_json(arguments: Arguments, problem: str | None) -> str:
    """As JSON. Of a call that went wrong the end is missing, so that nobody makes it: whoever reads it tells the model
    that its arguments are no JSON."""
    text = json.dumps(dict(arguments), ensure_ascii=False)
    return text if problem is None else text.removesuffix("}")


class ArgumentStream:
    """Follows the inside of one call as `acp_server.spelled.call` will read it when it is whole.

    Given is only what holds however the call goes on: texts as they come, but for what may be the tag that ends them,
    and values of other types when they are whole. What is left is given by `finish`; all of it together is
    `arguments_json` of the call. Only of a call that is cut off within a text is it more: that text, without an end.
    """

    def __init__(self, spec: ToolSpec, at: int) -> None:
        self.spec, self.at = spec, at  # `at`: up to where the call is read; at first, the end of the tool's name
        self.searched = at  # before it no tag begins that is looked for
        self.sent: list[str] = []
        self.keys = set[str]()
        self.key: str | None = None  # of the value that is being written
        self.streams = self.repeated = False  # that value: a text that is given as it comes; one that does not count
        self.closed_once = False  # a closing tag has come that may have been the value's end, or part of it
        self.begins = at
        self.step: Callable[[str], str | None] | None = self._key if NAME.fullmatch(spec.name) else None

    def feed(self, body: str) -> str:
        """More of the JSON. `body` is the call's text from its beginning, longer than before."""
        given = list[str]()
        while self.step and (text := self.step(body)) is not None:
            given.append(text)
        self.sent += given
        return "".join(given)

    def finish(self, arguments: Arguments, problem: str | None) -> str:
        """The rest of the JSON, when the call has been read."""
        whole, sent = arguments_json(arguments, problem), "".join(self.sent)
        return whole[len(sent) :] if whole.startswith(sent) else ""

    def _key(self, body: str) -> str | None:
        begin = _after_space(body, self.at)
        if not body.startswith(KEY_OPEN, begin):
            if not KEY_OPEN.startswith(body[begin : begin + len(KEY_OPEN)]):
                self.step = None  # no key: the arguments are over, or are written in another way
            return None
        close = body.find(KEY_CLOSE, max(self.searched, begin + len(KEY_OPEN)))
        if close < 0:
            self.searched = max(self.searched, len(body) - len(KEY_CLOSE))
            return None
        value = _after_space(body, close + len(KEY_CLOSE))
        if not body.startswith(OPEN, value):
            if OPEN.startswith(body[value : value + len(OPEN)]):
                return None
            self.at = self.searched = value  # a key without a value
            return ""
        self.key = body[begin + len(KEY_OPEN) : close].strip()
        self.repeated, self.closed_once = self.key in self.keys, False
        self.keys.add(self.key)
        self.streams = types_of(property_schema(self.spec, self.key), self.spec.parameters) == {"string"}
        self.at = self.searched = self.begins = value + len(OPEN)
        self.step = self._value
        return self._named() + '"' if self.streams and not self.repeated else ""

    def _value(self, body: str) -> str | None:
        close = body.find(CLOSE, self.searched)
        if close < 0:
            self.searched = max(self.searched, len(body) - len(CLOSE) + 1)
            return None if self.closed_once else self._text(body, len(body) - _begun(body, CLOSE)) or None
        follows = _after_space(body, close + len(CLOSE))
        if body.startswith((KEY_OPEN, CALL_ENDS), follows):
            text = self._text(body, close) + self._end(body, close)
            self.at = self.searched = close + len(CLOSE)
            self.step = self._key
            return text
        rest = body[follows : follows + len(CALL_ENDS)]
        if KEY_OPEN.startswith(rest) or CALL_ENDS.startswith(rest):
            return self._text(body, close) or None
        # It belongs to the value if another one comes, and is its end if none does.
        self.searched, self.closed_once = close + 1, True
        return self._text(body, close)

    def _text(self, body: str, end: int) -> str:
        """More of a value that is a text."""
        begin, self.at = self.at, max(self.at, end)
        return _escaped(body[begin:end]) if self.streams and not self.repeated else ""

    def _end(self, body: str, end: int) -> str:
        if self.repeated:
            return ""
        if self.streams:
            return '"'
        assert self.key is not None
        value, _ = coerce(body[self.begins : end], property_schema(self.spec, self.key), self.spec.parameters)
        return self._named() + _dumped(value)

    def _named(self) -> str:
        return ("{" if len(self.keys) == 1 else ", ") + _dumped(self.key) + ": "


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    return _dumped(text)[1:-1]


def _after_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    assert found is not None
    return found.end()


def _begun(text: str, tag: str) -> int:
    """Length of the text's tail that may yet become the tag."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
