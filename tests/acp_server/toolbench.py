"""A toolbox over a real directory, for the tests of the tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyio.abc import TaskGroup

from acp.updates import ToolContent, Update
from acp_server.action import Action, Outcome, ToolProblem
from acp_server.terminals.background import Background
from acp_server.terminals.terminals import Terminals
from acp_server.tools import Toolbox
from acp_server.workspace.workspace import Overlay, Workspace


class Bench:
    """Makes calls. `reports` is what was shown while they ran, `told` what of their terminals."""

    def __init__(
        self, root: Path, *, overlay: Overlay | None = None, limit: int = 32_768, group: TaskGroup | None = None
    ) -> None:
        self.root = root
        self.terminals = Terminals(self.tell)
        background = None if group is None else Background(self.terminals, group, self.listed)
        self._background = background
        self.box = Toolbox(Workspace(root, overlay=overlay), self.terminals, background, result_limit=limit)
        self._calls = 0
        self.reports: list[tuple[ToolContent, ...]] = []
        self.told: list[Update] = []
        self.kept: list[Update] = []

    async def report(self, content: tuple[ToolContent, ...]) -> None:
        self.reports.append(content)

    async def tell(self, update: Update, kept: Update) -> None:
        self.told.append(update)
        self.kept.append(kept)

    async def listed(self, id: str) -> None:
        """One more command runs in the background."""

    @property
    def background(self) -> Background:
        assert self._background is not None
        return self._background

    async def prepare(self, name: str, **arguments: Any) -> Action:
        return await self.box.prepare(name, arguments)

    async def outcome(self, name: str, **arguments: Any) -> Outcome:
        action = await self.prepare(name, **arguments)
        if action.terminal is not None:
            self._calls += 1
            await action.terminal.announce(f"t{self._calls}")
        return await action.run(self.report)

    async def call(self, name: str, **arguments: Any) -> str:
        """What the model is told."""
        try:
            return (await self.outcome(name, **arguments)).text
        except ToolProblem as problem:
            return f"error: {problem}"
