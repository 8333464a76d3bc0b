"""What models write instead of the arguments they were told of, and the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toolbench import Bench

from acp.updates import PlanEntry
from acp_server.action import ToolProblem
from acp_server.tools.todo import parse

pytestmark = pytest.mark.anyio


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "f").write_text("a\nb\nc\n")
    return Bench(tmp_path)


async def test_the_tools_come_in_the_order_the_model_was_trained_on(bench: Bench) -> None:
    assert [spec.name for spec in bench.box.specs] == (
        [
            "read",
            "list_directory",
            "glob",
            "grep",
            "edit",
            "write",
            "shell",
            "todo_action",
            "shell_status",
            "shell_tail",
            "shell_kill",
        ]
    )
    for spec in bench.box.specs:
        assert spec.parameters["type"] == "object"
        assert set(spec.parameters["required"]) <= set(spec.parameters["properties"])


@pytest.mark.parametrize("name", ["file_path", "filePath", "filename", "file"])
async def test_an_argument_by_another_common_name_is_taken(bench: Bench, name: str) -> None:
    assert (await bench.call("read", **{name: "f"})).startswith("1\ta")
    assert (await bench.call("read_file", **{name: "f"})).startswith("1\ta")


async def test_edits_in_other_dialects_are_understood(bench: Bench) -> None:
    await bench.call("read", path="f")
    assert (await bench.call("edit", file_path="f", old_str="a", new_str="x")).startswith("edited f")
    assert (await bench.call("edit", path="f", oldString="x", newString="y", replaceAll="true")).startswith("edited")
    assert await bench.call("bash", command="echo hi") == "exit_code: 0\nhi"


@pytest.mark.parametrize(("value", "line"), [("2", "2\tb"), (2.0, "2\tb"), (" 3 ", "3\tc")])
async def test_a_number_in_other_clothes_is_a_number(bench: Bench, value: Any, line: str) -> None:
    assert (await bench.call("read", path="f", offset=value, limit="1")).startswith(line)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "missing argument path"),
        ({"path": None}, "missing argument path"),
        ({"path": ["f"]}, 'argument path must be a string, not ["f"]'),
        ({"path": "f", "offset": "two"}, 'argument offset must be an integer, not "two"'),
        ({"path": "f", "offset": 1.5}, "argument offset must be an integer, not 1.5"),
        ({"path": "f", "offset": True}, "argument offset must be an integer, not true"),
        ({"path": "f", "limit": 0}, "argument limit must be at least 1, not 0"),
    ],
)
async def test_an_argument_that_cannot_be_used_is_named(bench: Bench, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ToolProblem) as refused:
        await bench.box.prepare("read", arguments)
    assert str(refused.value) == problem


async def test_null_stands_for_an_optional_argument_left_out(bench: Bench) -> None:
    assert await bench.call("read", path="f", offset=None, limit=None) == "1\ta\n2\tb\n3\tc"


async def test_an_unknown_argument_is_dropped_and_the_model_told(bench: Bench) -> None:
    assert (await bench.call("read", path="f", encoding="utf-8", limit=9)).endswith("3\tc\n[ignored: encoding]")


async def test_an_unknown_tool_is_told_which_there_are(bench: Bench) -> None:
    assert await bench.call("fly") == (
        "error: unknown tool fly; the tools are read, list_directory, glob, grep, edit, write, shell, todo_action, "
        "shell_status, shell_tail, shell_kill"
    )


async def test_a_plan_is_shown_and_answered_with_ok(bench: Bench) -> None:
    action = await bench.prepare("todo_action", todos="[x] look\n- [~] change\n2. [ ] test\n\njust words")
    assert action.plan == (
        PlanEntry("look", status="completed"),
        PlanEntry("change", status="in_progress"),
        PlanEntry("test", status="pending"),
        PlanEntry("just words", status="pending"),
    )
    assert (await action.run(bench.report)).text == "ok"
    assert action.permission is None


def test_a_plan_may_be_a_list() -> None:
    assert parse([{"content": "a", "status": "in_progress"}, "[x] b", {"text": "c", "status": "?"}]) == (
        PlanEntry("a", status="in_progress"),
        PlanEntry("b", status="completed"),
        PlanEntry("c", status="pending"),
    )
    for wrong in (5, {"a": 1}, [5], [{}], ["x"] * 101):
        with pytest.raises(ToolProblem):
            parse(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(todos=JSON)
def test_a_plan_is_understood_or_refused_whatever_it_is(todos: Any) -> None:
    try:
        entries = parse(todos)
    except ToolProblem:
        return
    for entry in entries:
        assert entry.content.encode()


@pytest.mark.parametrize(
    "tool", ["read", "list_directory", "glob", "grep", "edit", "write", "shell", "todo_action", "shell_status"]
)
async def test_any_arguments_are_prepared_or_refused_in_words(bench: Bench, tool: str) -> None:
    for value in (None, True, -1, 10**30, 1e400, float("nan"), "", "\0", "\ud800", [], {}, ["x"], "x" * 10_000):
        names = ("path", "pattern", "content", "old_string", "new_string", "cmd", "todos", "offset", "timeout_s", "x")
        try:
            action = await bench.box.prepare(tool, dict.fromkeys(names, value))
        except ToolProblem as problem:
            said = str(problem)
        else:
            said = action.title
            assert len(said) <= 256
        assert said.encode()
