"""The tools of one session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..action import Action, Outcome, Report, ToolProblem
from ..model import ToolSpec
from ..terminals.background import Background
from ..terminals.terminals import Terminals
from ..wording import visible
from ..workspace.workspace import Workspace
from .arguments import fit
from .background import SHELL_KILL, SHELL_STATUS, SHELL_TAIL
from .edit import EDIT
from .glob import GLOB
from .grep import GREP
from .list_directory import LIST_DIRECTORY
from .read import READ
from .shell import SHELL
from .spec import Context, Tool
from .todo import TODO
from .write import WRITE

TOOLS: tuple[Tool, ...] = (
    READ, LIST_DIRECTORY, GLOB, GREP, EDIT, WRITE, SHELL, TODO, SHELL_STATUS, SHELL_TAIL, SHELL_KILL,
)  # fmt: skip
"""In the order the model is told of them."""

_ALIASES = {
    "read_file": "read",
    "write_file": "write",
    "create_file": "write",
    "edit_file": "edit",
    "str_replace": "edit",
    "ls": "list_directory",
    "list_dir": "list_directory",
    "search": "grep",
    "bash": "shell",
    "run_shell_command": "shell",
    "todo_write": "todo_action",
    "todo": "todo_action",
}


class Toolbox:
    """Prepares calls. `result_limit` bounds one result, in characters; it may change between calls."""

    def __init__(
        self,
        workspace: Workspace,
        terminals: Terminals | None = None,
        background: Background | None = None,
        *,
        result_limit: int = 32_768,
    ) -> None:
        self._context = Context(workspace, terminals or Terminals(), result_limit, background)
        self._tools = {tool.name: tool for tool in TOOLS}
        self.specs: tuple[ToolSpec, ...] = tuple(tool.spec for tool in TOOLS)

    @property
    def workspace(self) -> Workspace:
        return self._context.workspace

    @property
    def result_limit(self) -> int:
        return self._context.limit

    @result_limit.setter
    def result_limit(self, limit: int) -> None:
        self._context.limit = limit

    async def prepare(self, name: str, arguments: Mapping[str, Any]) -> Action:
        """What the call would do. Changes nothing. Raises `ToolProblem`."""
        tool = self._tools.get(_ALIASES.get(name, name))
        if tool is None:
            raise ToolProblem(f"unknown tool {visible(name[:80])}; the tools are {', '.join(self._tools)}")
        fitting, dropped = fit(tool, arguments)
        action = await tool.prepare(self._context, fitting)
        return _noting(action, f"[ignored: {', '.join(dropped)}]") if dropped else action


def _noting(action: Action, note: str) -> Action:
    async def run(report: Report) -> Outcome:
        outcome = await action.run(report)
        return replace(outcome, text=f"{outcome.text}\n{note}")

    return replace(action, run=run)
