"""Puts an agent's forms and links to the user at the terminal, a line at a time."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from typing import TextIO

import anyio

from acp.elicitation import Field, Value, faults

from ..host.elicitation import Accepted, Answer, Declined, Dismissed, FormRequest, Request, UrlRequest
from .console import BOLD, DIM, RED, Console
from .keyboard import forget_typed, has_terminal, read_line
from .visible import visible_line

_YES, _NO = ("y", "yes", "true"), ("n", "no", "false")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)

DECLINE, DISMISS, EMPTY = "/no", "/quit", "/empty"
"""Typed instead of a value: no to the whole form; no answer to it; nothing, where there is a default."""


class _Enough(Exception):
    """The user ends the form before it is filled in."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class TerminalForms:
    """An `Elicit` for a terminal; where there is none, requests are dismissed. One request at a time.

    A form is asked field by field, shown whole, and sent when the user says so. A page is opened by `browse`, or by
    the user where that is None, and only after they agreed. `one_at_a_time` is shared with whoever else asks.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        err: TextIO | None = None,
        browse: Callable[[str], Awaitable[object]] | None = None,
        one_at_a_time: anyio.Lock | None = None,
    ) -> None:
        self._console = console if console is not None and console.isatty() else Console(err or sys.stderr)
        self._browse = browse
        self._one_at_a_time = one_at_a_time or anyio.Lock()

    async def __call__(self, request: Request) -> Answer:
        if not has_terminal():
            return Dismissed()
        async with self._one_at_a_time:
            answered = False
            try:
                answer = await (self._form(request) if isinstance(request, FormRequest) else self._page(request))
                answered = True
            except _Enough as enough:
                answer, answered = enough.answer, True
            finally:
                if not answered:
                    self._console.line("")
            return answer

    # Forms -------------------------------------------------------------------------------------------

    async def _form(self, request: FormRequest) -> Answer:
        self._introduce("asks", request)
        for text in filter(None, (request.title, request.description)):
            self._console.line(f"  {visible_line(text)}")
        self._console.line("  The agent and its model read what you enter: no passwords, no keys.", DIM)
        self._console.line(f"  {DECLINE} says no, {DISMISS} leaves without an answer.", DIM)
        content = request.defaults
        while True:
            for field in request.fields:
                value = await self._field(field, content.pop(field.name, None))
                if value is not None:
                    content[field.name] = value
            for field in request.fields:
                self._console.line(f"  {visible_line(field.label)}: {_shown(field, content.get(field.name))}")
            match await self._choose({"s": "send this", "e": "edit it", "n": "say no", "q": "leave without an answer"}):
                case "s":
                    return Accepted(content)
                case "e":
                    continue
                case key:
                    return _end(key)

    async def _field(self, field: Field, value: Value | None) -> Value | None:
        """A value that fits, or None to leave it out. `value` is what there is already."""
        need = "" if field.required else " (optional)"
        self._console.line(f"{visible_line(field.label)}{need}", BOLD)
        for text in filter(None, (field.description, rules(field))):
            self._console.line(f"  {visible_line(text)}", DIM)
        for number, choice in enumerate(field.choices, 1):
            words = " – ".join(filter(None, (choice.title or choice.value, choice.description)))
            self._console.line(f"  {number}  {visible_line(words)}")
        if value is not None:
            self._console.line(f"  now {_shown(field, value)}; {EMPTY} for nothing", DIM)
        while True:
            try:
                read = read_value(field, (await self._line()).removesuffix("\n"), value)
            except ValueError as error:
                self._console.line(f"  {visible_line(field.label)} {visible_line(str(error))}", RED)
                continue
            return read

    # Pages -------------------------------------------------------------------------------------------

    async def _page(self, request: UrlRequest) -> Answer:
        self._introduce("asks you to visit a page", request)
        link = request.link
        self._console.line(f"  {visible_line(link.url)}")
        self._console.line(f"  host: {visible_line(link.host)}", BOLD)
        for warning in link.warnings:
            self._console.line(f"  Careful: {visible_line(warning)}", RED)
        yes = "open it in the browser" if self._browse else "yes, I open it myself"
        key = await self._choose({"y": yes, "n": "say no", "q": "leave without an answer"})
        if key != "y":
            return _end(key)
        if self._browse is not None:
            await self._browse(link.url)
        return Accepted()

    # Lines -------------------------------------------------------------------------------------------

    def _introduce(self, what: str, request: Request) -> None:
        self._console.line(f"? {visible_line(request.agent or 'The agent')} {what}: {visible_line(request.message)}")

    async def _choose(self, keys: dict[str, str]) -> str:
        for key, words in keys.items():
            self._console.line(f"  {key}  {words}")
        while True:
            word = (await self._line()).strip()
            if word in keys:
                return word

    async def _line(self) -> str:
        """What the user types. Raises _Enough when that ends the request, as the end of input does."""
        forget_typed()
        self._console.prompt("> ")
        line = await read_line()
        word = DISMISS if line is None else line.strip()
        if word in (DECLINE, DISMISS):
            raise _Enough(Declined() if word == DECLINE else Dismissed())
        return line or ""


def _end(key: str) -> Answer:
    return Declined() if key == "n" else Dismissed()


def read_value(field: Field, text: str, value: Value | None = None) -> Value | None:
    """What a line means for a field that has `value` so far; None leaves the field out.

    Raises ValueError, the end of a sentence that begins with the field's name.
    """
    if not text and value is not None:
        return value
    if not text.strip() or text.strip() == EMPTY:
        if not field.required:
            return None
        nothing: Value = list[str]() if field.kind == "array" else ""
        if (field.kind == "string" and not text.strip()) or faults(field, nothing):
            raise ValueError("is required")
        return nothing
    read = _read(field, text)
    if wrong := faults(field, read):
        raise ValueError(", ".join(wrong))
    return read


def _read(field: Field, text: str) -> Value:
    word = text.strip()
    match field.kind:
        case "boolean" if word.lower() in (*_YES, *_NO):
            return word.lower() in _YES
        case "integer" if _INTEGER.fullmatch(word):
            return int(word)
        case "number" if _NUMBER.fullmatch(word):
            return int(word) if _INTEGER.fullmatch(word) else float(word)
        case "string" if field.choices:
            return _chosen(field, word)
        case "array":
            return list(dict.fromkeys(_chosen(field, part.strip()) for part in word.split(",")))
        case _:
            return word if field.format else text  # fits a string, and nothing else


def _chosen(field: Field, word: str) -> str:
    """A choice by its value, or by its number in the list."""
    values = [choice.value for choice in field.choices]
    if word not in values and _INTEGER.fullmatch(word) and 0 < int(word) <= len(values):
        return values[int(word) - 1]
    return word


def rules(field: Field) -> str:
    """What a value must be, in words."""
    size = {"string": "length ", "array": "of them "}.get(field.kind, "")
    rules: list[str] = []
    if field.kind == "array":
        rules.append("any of these, by number, with commas between")
    elif field.choices:
        rules.append("one of these, by number")
    elif field.kind != "string":
        rules.append({"integer": "a whole number", "number": "a number", "boolean": "y or n"}[field.kind])
    if field.least is not None:
        rules.append(f"{size}at least {field.least}")
    if field.most is not None:
        rules.append(f"{size}at most {field.most}")
    if field.format is not None:
        rules.append({"email": "an e-mail address", "uri": "a URI"}.get(field.format, f"a {field.format}"))
    if field.pattern is not None:
        rules.append(f"matching {field.pattern}")
    return ", ".join(rules)


def _shown(field: Field, value: Value | None) -> str:
    """A value as the user knows it."""
    if value is None:
        return "(nothing)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    titles = {choice.value: choice.title or choice.value for choice in field.choices}
    words = [titles.get(item, item) for item in (value if isinstance(value, list) else [str(value)])]
    return visible_line(", ".join(words)) or "(empty)"
