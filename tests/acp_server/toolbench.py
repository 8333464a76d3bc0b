"""A toolbox over a real directory, for the tests of the tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acp.updates import ToolContent
from acp_server.action import Action, Outcome, ToolProblem
from acp_server.tools import Toolbox
from acp_server.workspace.workspace import Overlay, Workspace


class Bench:
    """Makes calls. `reports` is what was shown while they ran."""

    def __init__(self, root: Path, *, overlay: Overlay | None = None, limit: int = 32_768) -> None:
        self.root = root
        self.box = Toolbox(Workspace(root, overlay=overlay), result_limit=limit)
        self.reports: list[tuple[ToolContent, ...]] = []

    async def report(self, content: tuple[ToolContent, ...]) -> None:
        self.reports.append(content)

    async def prepare(self, name: str, **arguments: Any) -> Action:
        return await self.box.prepare(name, arguments)

    async def outcome(self, name: str, **arguments: Any) -> Outcome:
        return await (await self.prepare(name, **arguments)).run(self.report)

    async def call(self, name: str, **arguments: Any) -> str:
        """What the model is told."""
        try:
            return (await self.outcome(name, **arguments)).text
        except ToolProblem as problem:
            return f"error: {problem}"
