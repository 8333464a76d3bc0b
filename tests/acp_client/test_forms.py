"""Forms and pages at a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from test_asking import Terminal

from acp.elicitation import Choice, Field, Value, parse_schema, problems
from acp_client.cli.forms import read_value

PROGRAM = """\
import sys, anyio
from acp.json_text import loads
from acp_client.host.elicitation import parse_request
from acp_client.cli.forms import TerminalForms
opened = []
async def browse(url): opened.append(url)
forms = TerminalForms(browse=browse if "browse" in sys.argv else None)
request = parse_request(loads(sys.argv[1]), agent="Lagu\\x1bna")
print("=", anyio.run(forms, request, backend=sys.argv[2]), opened)
"""


@contextmanager
def asked(raw: dict[str, Any], backend: str = "asyncio", *more: str) -> Generator[Terminal]:
    from acp.json_text import dumps

    pid, fd = pty.fork()
    if pid == 0:
        command = [sys.executable, "-c", PROGRAM, dumps(raw).decode(), backend, *more]
        os.execve(sys.executable, command, {**os.environ, "TERM": "dumb"})
    try:
        yield Terminal(pid, fd)
    finally:
        os.close(fd)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def form(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    schema = {"properties": properties, "required": list(required)}
    return {"mode": "form", "message": "Which\x1b[2J one?", "sessionId": "s1", "requestedSchema": schema}


PAGE = {"mode": "url", "message": "Log in", "url": "https://\u0430.example/x", "elicitationId": "e1", "requestId": 1}


def answer(user: Terminal) -> str:
    user.until("= ")
    shown = user.until("\r\n")
    assert user.ends() == 0
    return shown


def fill(user: Terminal, *lines: str) -> list[str]:
    """Answer prompt after prompt; what was shown before each."""
    shown: list[str] = []
    for line in lines:
        shown.append(user.until("> "))
        user.type(line + "\n")
    return shown


def test_a_form_is_asked_field_by_field_and_sent_when_the_user_has_seen_it(anyio_backend: str) -> None:
    raw = form(
        ("name", "colour"),
        name={"type": "string", "title": "The name", "description": "Of the thing", "minLength": 2},
        count={"type": "integer", "maximum": 9, "default": 3},
        colour={"type": "string", "oneOf": [{"const": "r", "title": "Red"}, {"const": "b", "title": "Blue"}]},
        tags={"type": "array", "items": {"type": "string", "enum": ["x", "y", "z"]}},
        sure={"type": "boolean"},
    )
    with asked(raw, anyio_backend) as user:
        shown = fill(user, "c", "cave", "", "2", "1, z", "", "s")
        assert "Lagu\\x1bna asks: Which\\x1b[2J one?" in shown[0]
        assert "The name\r\n  Of the thing\r\n  length at least 2\r\n" in shown[0]
        assert "The name must have a length of at least 2" in shown[1]
        assert "now 3; /empty for nothing" in shown[2]
        assert "1  Red" in shown[3]
        for line in ("The name: cave", "count: 3", "colour: Blue", "tags: x, z", "sure: (nothing)"):
            assert f"  {line}\r\n" in shown[6]
        assert answer(user).startswith(
            "Accepted(content={'name': 'cave', 'count': 3, 'colour': 'b', 'tags': ['x', 'z']})"
        )


def test_what_was_entered_can_be_edited_before_it_is_sent() -> None:
    with asked(form(a={"type": "string"}, b={"type": "string", "default": "old"})) as user:
        shown = fill(user, "one", "", "what", "e", "", "/empty", "s")
        assert "now one; /empty for nothing" in shown[4]
        assert "now old" in shown[5]
        assert answer(user).startswith("Accepted(content={'a': 'one'})")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("/no\n", "Declined()"), ("/quit\n", "Dismissed()"), ("\x04", "Dismissed()")],
    ids=["no", "quit", "end of input"],
)
def test_a_form_can_be_declined_or_left_at_every_line(keys: str, expected: str) -> None:
    raw = form(a={"type": "string"})
    with asked(raw) as user:
        user.until("> ")
        user.type(keys)
        assert answer(user).startswith(expected)
    with asked(raw) as user:
        fill(user, "x")
        user.until("> ")
        user.type(keys)
        assert answer(user).startswith(expected)


def test_after_the_form_no_is_said_by_a_letter_too() -> None:
    with asked(form()) as user:
        fill(user, "n")
        assert answer(user).startswith("Declined()")


def test_a_page_is_shown_whole_and_opened_only_after_consent() -> None:
    with asked(PAGE, "asyncio", "browse") as user:
        (shown,) = fill(user, "y")
        assert "asks you to visit a page: Log in" in shown
        assert "  https://xn--80a.example/x\r\n  host: xn--80a.example\r\n  Careful: " in shown
        assert answer(user) == "Accepted(content={}) ['https://xn--80a.example/x']"
    with asked(PAGE, "asyncio", "browse") as user:
        fill(user, "n")
        assert answer(user) == "Declined() []"


def test_without_a_browser_the_user_opens_the_page() -> None:
    with asked(PAGE) as user:
        (shown,) = fill(user, "y")
        assert "yes, I open it myself" in shown
        assert answer(user) == "Accepted(content={}) []"


def test_where_nobody_can_be_asked_requests_are_dismissed() -> None:
    from acp.json_text import dumps

    command = [sys.executable, "-c", PROGRAM, dumps(form()).decode(), "asyncio"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True)
    assert (ran.stdout, ran.stderr) == ("= Dismissed() []\n", "")


CHOICES = (Choice("2", "Two"), Choice("a b", "Both"))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        (Field("x", "integer"), " +7 ", 7),
        (Field("x", "number"), "7", 7),
        (Field("x", "number"), ".5e1", 5.0),
        (Field("x", "boolean"), "No", False),
        (Field("x", "string"), " kept ", " kept "),
        (Field("x", "string", format="date"), " 2024-01-01 ", "2024-01-01"),
        (Field("x", "string"), "  ", None),
        (Field("x", "string", required=True), "/empty", ""),
        (Field("x", "string", choices=CHOICES), "1", "2"),
        (Field("x", "string", choices=CHOICES), "2", "2"),  # a value is never taken for a number
        (Field("x", "array", choices=CHOICES), "a b , 1,1", ["a b", "2"]),
        (Field("x", "array", required=True), "", []),
        (Field("x", "array"), "", None),
    ],
    ids=repr,
)
def test_a_line_means_a_value(field: Field, text: str, value: Value | None) -> None:
    assert read_value(field, text) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (Field("x", "integer"), "1.5"),
        (Field("x", "integer"), "1_000"),
        (Field("x", "integer"), "\u0661"),
        (Field("x", "number"), "nan"),
        (Field("x", "number"), "1e999"),
        (Field("x", "boolean"), "maybe"),
        (Field("x", "string", required=True), ""),
        (Field("x", "string", required=True, least=1), "/empty"),
        (Field("x", "integer", required=True), "/empty"),
        (Field("x", "string", choices=CHOICES), "3"),
        (Field("x", "array", choices=CHOICES), "1,,2"),
        (Field("x", "array", required=True, least=1, choices=CHOICES), ""),
    ],
    ids=repr,
)
def test_a_line_that_does_not_fit_is_refused(field: Field, text: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|is)"):
        read_value(field, text)


def test_what_there_is_stays_when_nothing_is_typed() -> None:
    fields = parse_schema(form(x={"type": "integer", "default": 3})["requestedSchema"])
    assert read_value(fields[0], "", 3) == 3
    assert problems(fields, {"x": 3}) == []
