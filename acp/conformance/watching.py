"""What is judged of every conversation, whatever it is about. Here: what goes for either side, message by message."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import cast

from .schema_check import known, problems, side, unknown_members
from .walking import Json, Object, key, members, obj

Seen = tuple[str, str]
"""A check and what is wrong with what was seen; nothing if it is as it should be."""
Key = tuple[str, Json]
NULLABLE = {
    *("fs/write_text_file", "terminal/release", "terminal/kill"),
    *("session/load", "authenticate", "session/set_mode"),
}
"""Version 1's documents show these answered with null, the schema has an object; either is let pass."""


class Watch(ABC):
    """Looks at all that passes between the checker and the side under test.

    `version` is the conversation's once initialize is answered. `faults` are what was wrong, `judged` the checks that
    had something to look at. `excused` counts texts of ours that are no messages, each of which may be answered once
    under the null id.
    """

    them = "agent"

    def __init__(self, version: int) -> None:
        self.version = version
        self.faults: list[Seen] = []
        self.judged: set[str] = set()
        self.excused = 0
        self.asked: dict[Key, Object] = {}
        """Our requests that are not answered yet."""
        self.open: dict[Key, Object] = {}
        """Their requests that are not answered yet."""

    def see(self, seen: Iterator[Seen]) -> None:
        for id, words in seen:
            self.judged.add(id)
            if words:
                self.faults.append((id, words))

    # What the checker says ---------------------------------------------------------------------------------

    def sent(self, message: Object) -> None:
        """The checker said this message."""
        if "method" in message:
            if "id" in message:
                self.asked[key(message["id"])] = message
            self.we_say(message["method"], message)
        else:
            asked = self.open.pop(key(message.get("id")), None)
            if asked is not None:
                self.we_answer(asked, message)

    @abstractmethod
    def we_say(self, method: str, message: Object) -> None:
        """Take note of a request or notification of ours."""

    @abstractmethod
    def we_answer(self, asked: Object, message: Object) -> None:
        """Take note of our answer."""

    # What the side under test says -------------------------------------------------------------------------

    def heard(self, text: bytes) -> Object | None:
        """It said this: the message, or None and a fault if it is none."""
        self.judged |= {"wire.utf8", "wire.purity", "wire.envelope"}
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            self.faults.append(("wire.utf8", f"{error}: {text[:200]!r}"))
            return None
        try:
            message: Json = json.loads(decoded)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or cast("Object", message).get("jsonrpc") != "2.0":
            self.faults.append(("wire.purity", f"no message: {decoded[:200]}"))
            return None
        message = cast("Object", message)
        self.see(self._judge(message))
        return message

    def _judge(self, message: Object) -> Iterator[Seen]:
        for path, name, value in members({name: part for name, part in message.items() if name != "error"}):
            if name == "_meta":
                yield "wire.meta", "" if isinstance(value, dict | None) else f"{path} is {value!r}"
        if "method" not in message:
            yield from self._answer(message)
        elif not isinstance(message["method"], str) or "result" in message or "error" in message:
            yield "wire.envelope", f"{message}"
        else:
            yield from self._call(message["method"], message)

    def _call(self, method: str, message: Object) -> Iterator[Seen]:
        kind, params = "Request" if "id" in message else "Notification", message.get("params")
        version = self.version_of(method, params)
        if kind == "Request":
            id: Json = message["id"]
            fits = isinstance(id, str | int) and not isinstance(id, bool) and key(id) not in self.open
            yield "wire.ids", "" if fits else f"{method} has the id {id!r}"
            self.open[key(id)] = message
        if known(version, method, kind):
            theirs = side(version, method, kind) in (self.for_whom(), "protocol")
            yield "wire.names", "" if theirs else f"{method} is not for a checker that is no {self.them}"
        else:
            fits = method.startswith(("_", "$/") if kind == "Notification" else "_")
            yield "wire.names", "" if fits else f"{method} is no {kind.lower()} of version {version}"
        yield from self._fits(version, method, kind, params, method)
        yield from self.they_say(method, message)

    def _fits(self, version: int, method: str, kind: str, value: Json, what: str) -> Iterator[Seen]:
        yield "wire.schema", ""
        yield from (("wire.schema", f"{what}: {words}") for words in problems(version, method, kind, value))
        unknown = self.unknown(version, method, kind, value)
        yield "wire.members", f"{what}: {', '.join(unknown)}" if unknown else ""

    def _answer(self, message: Object) -> Iterator[Seen]:
        error: Json = message.get("error")
        if "id" not in message or ("result" in message) == ("error" in message):
            yield "wire.envelope", f"{message}"
        elif "error" in message:
            code, words = obj(error).get("code"), obj(error).get("message")
            if type(code) is not int or not isinstance(words, str):
                yield "wire.envelope", f"{error}"
            else:
                yield "wire.error-line", f"{words[:200]!r}" if len(words.splitlines()) > 1 else ""
        asked = self.asked.pop(key(message.get("id")), None)
        if asked is None and message.get("id") is None and "error" in message and self.excused > 0:
            self.excused -= 1  # a null id answers what had none to repeat
            return
        yield "wire.unasked", "" if asked else f"an answer to {message.get('id')!r}"
        if asked is None:
            return
        if "result" in message and not (
            message["result"] is None and self.version == 1 and asked["method"] in NULLABLE
        ):
            version = self.answered_in(asked, message["result"])
            words = f"the answer to {asked['method']}"
            yield from self._fits(version, asked["method"], "Response", message["result"], words)
        yield from self.they_answer(asked, message)

    # What the sides differ in ------------------------------------------------------------------------------

    @abstractmethod
    def for_whom(self) -> str:
        """Whose methods the side under test may call."""

    def version_of(self, method: str, params: Json) -> int:
        """The version of the protocol that a message is in."""
        return self.version

    def answered_in(self, asked: Object, result: Json) -> int:
        """The version of the protocol that a result is in."""
        return self.version

    def unknown(self, version: int, method: str, kind: str, value: Json) -> list[str]:
        """Members of a message that the schema does not name."""
        return unknown_members(version, method, kind, value)

    @abstractmethod
    def they_say(self, method: str, message: Object) -> Iterator[Seen]:
        """Judge a request or a notification."""

    @abstractmethod
    def they_answer(self, asked: Object, message: Object) -> Iterator[Seen]:
        """Judge an answer to one of our requests."""
