"""The scripted model does what its prompt says, and the documentation lists all it can do."""

from __future__ import annotations

import re

import anyio
import pytest

from acp_server import scripted
from acp_server.model import (
    Assistant,
    Message,
    ModelBackend,
    ModelError,
    Part,
    Sampling,
    Stop,
    Text,
    Thought,
    ToolResult,
    ToolUse,
    User,
)
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _steps(prompt: str, limit: int = 10) -> list[list[Part]]:
    """Every step of a prompt's script, each tool answering `ok`."""
    model = ScriptedBackend()
    conversation: list[Message] = [User(prompt)]
    steps: list[list[Part]] = []
    for _ in range(limit):
        parts = [part async for part in model.generate(conversation, [], Sampling())]
        steps.append(parts)
        uses = tuple(p for p in parts if isinstance(p, ToolUse))
        conversation.append(Assistant(tool_uses=uses))
        conversation += [ToolResult(use.id, use.name, "ok") for use in uses]
        if not uses:
            break
    return steps


def _said(parts: list[Part]) -> str:
    return "".join(p.text for p in parts if isinstance(p, Text))


def _calls(parts: list[Part]) -> list[tuple[str, dict[str, object]]]:
    return [(p.name, dict(p.arguments)) for p in parts if isinstance(p, ToolUse)]


async def test_it_is_a_model_backend() -> None:
    model = ScriptedBackend()
    assert isinstance(model, ModelBackend)
    assert (await model.ready()).name == "scripted"
    await model.aclose()


async def test_say_and_think_and_count_speak_in_chunks() -> None:
    [parts] = await _steps("think hm\nsay well well\ncount 3")
    assert Thought("hm") in parts
    assert _said(parts) == "well well1 2 3 "
    assert isinstance(parts[-1], Stop)
    assert parts[-1].reason == "end_turn"


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("read a.py", ("read", {"path": "a.py"})),
        ("list", ("list_directory", {"path": "."})),
        ("glob *.py", ("glob", {"pattern": "*.py"})),
        ("grep a b", ("grep", {"pattern": "a b"})),
        ("edit a.py 'x y' z", ("edit", {"path": "a.py", "old_string": "x y", "new_string": "z"})),
        (r"write a.py one\ntwo", ("write", {"path": "a.py", "content": "one\ntwo"})),
        ("run make test", ("shell", {"cmd": "make test"})),
        ('call read {"path": "b"}', ("read", {"path": "b"})),
        ("unknown-tool", ("teleport", {"to": "the moon"})),
    ],
)
async def test_a_command_is_one_call_and_then_it_is_done(line: str, call: tuple[str, object]) -> None:
    first, last = await _steps(line)
    assert _calls(first) == [call]
    assert isinstance(first[-1], Stop)
    assert first[-1].reason == "tool_use"
    assert _said(last) == "Done."


async def test_each_line_with_a_call_is_a_step_and_ids_are_unique() -> None:
    steps = await _steps("say first\nread a\nparallel b c\nsay bye")
    assert [_calls(parts) for parts in steps] == [
        [("read", {"path": "a"})],
        [("read", {"path": "b"}), ("read", {"path": "c"})],
        [],
    ]
    assert [_said(parts) for parts in steps] == ["first", "", "bye"]
    ids = [p.id for parts in steps for p in parts if isinstance(p, ToolUse)]
    assert len(set(ids)) == 3


async def test_loop_never_ends() -> None:
    steps = await _steps("loop", limit=20)
    assert len(steps) == 20


async def test_a_bad_call_has_a_problem() -> None:
    first, _ = await _steps("bad-call")
    assert [p.problem for p in first if isinstance(p, ToolUse)] == ["the call has no closing tag; write it again"]


async def test_fail_and_crash_raise() -> None:
    with pytest.raises(ModelError):
        await _steps("fail")
    with pytest.raises(RuntimeError):
        await _steps("crash")


@pytest.mark.parametrize(("line", "reason"), [("long", "max_tokens"), ("refuse", "refusal"), ("empty", "end_turn")])
async def test_it_stops_as_told(line: str, reason: str) -> None:
    [parts] = await _steps(line)
    assert isinstance(parts[-1], Stop)
    assert parts[-1].reason == reason
    assert bool(_said(parts)) == (line != "empty")


@pytest.mark.parametrize("line", ["hang", "slow"])
async def test_hang_and_slow_last_until_they_are_cancelled(line: str) -> None:
    with anyio.move_on_after(0.1) as scope:
        await _steps(line)
    assert scope.cancelled_caught


async def test_the_documentation_lists_every_command() -> None:
    documented = set(re.findall(r"[a-z-]+", scripted.__doc__ or ""))
    assert {*scripted._SPEECH, *scripted._CALLS, "slow"} <= documented
