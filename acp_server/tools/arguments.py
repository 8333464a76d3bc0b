"""From what a model wrote to the arguments a tool wants: renamed, converted without loss, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..action import ToolProblem
from ..wording import visible
from .spec import Parameter, Tool

_ALIASES = {
    "path": ("file_path", "filePath", "filename", "file", "filepath", "directory", "dir", "dir_path"),
    "cmd": ("command", "script"),
    "old_string": ("old_str", "old_text", "oldString", "old"),
    "new_string": ("new_str", "new_text", "newString", "new"),
    "content": ("contents", "text", "file_text", "file_content"),
    "replace_all": ("replaceAll",),
    "pattern": ("query", "regex"),
    "ignore_case": ("ignoreCase", "case_insensitive"),
    "glob": ("include", "glob_pattern"),
    "timeout_s": ("timeout", "timeout_seconds"),
    "todos": ("todo", "plan", "items"),
    "shell_id": ("id", "shell", "bash_id", "task_id"),
    "background": ("run_in_background", "is_background"),
    "offset": ("start_line", "line"),
    "limit": ("max_lines", "num_lines"),
}
_WORDS = {"true": True, "false": False, "True": True, "False": False, "1": True, "0": False}


def fit(tool: Tool, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The arguments by name, every parameter present, and the names that were dropped.

    Raises `ToolProblem` when one is missing or cannot be used.
    """
    left = dict(given)
    arguments: dict[str, Any] = {}
    for parameter in tool.parameters:
        value = _take(parameter.name, left, tool)
        if value is None and parameter.required:
            raise ToolProblem(f"missing argument {parameter.name}")
        arguments[parameter.name] = parameter.default if value is None else _convert(parameter, value)
    return arguments, [visible(str(name))[:40] for name in left]


def _take(name: str, left: dict[str, Any], tool: Tool) -> Any:
    """The argument out of `left`, under its own name or one that models are known to use for it."""
    if name in left:
        return left.pop(name)
    declared = {parameter.name for parameter in tool.parameters}
    for alias in _ALIASES.get(name, ()):
        if alias in left and alias not in declared:
            return left.pop(alias)
    return None


def _convert(parameter: Parameter, value: Any) -> Any:
    match parameter.type:
        case "string":
            return _string(parameter, value)
        case "integer":
            return _integer(parameter, value)
        case "boolean":
            return _boolean(parameter, value)
        case "list":
            return value


def _string(parameter: Parameter, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return json.dumps(value)
    raise _wrong(parameter, "a string", value)


def _boolean(parameter: Parameter, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip() if isinstance(value, str) else str(value)
    if word in _WORDS:
        return _WORDS[word]
    raise _wrong(parameter, "true or false", value)


def _integer(parameter: Parameter, value: Any) -> int:
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and len(value) < 20:
        try:
            number = int(value)
        except ValueError:
            number = None
    if number is None:
        raise _wrong(parameter, "an integer", value)
    if parameter.least is not None and number < parameter.least:
        raise ToolProblem(f"argument {parameter.name} must be at least {parameter.least}, not {number}")
    return number if parameter.most is None else min(number, parameter.most)


def _wrong(parameter: Parameter, wanted: str, value: Any) -> ToolProblem:
    said = json.dumps(value, default=str)[:60]
    return ToolProblem(f"argument {parameter.name} must be {wanted}, not {said}")
