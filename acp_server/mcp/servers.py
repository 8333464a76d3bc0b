"""The MCP servers of one session, and the session's tools with theirs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..action import Action
from ..model import ModelInfo, ToolSpec
from ..turn.calls import Tools
from ..turn.conversation import result_limit
from ..wording import visible
from .carrier import Carrier
from .finding import FIND, find
from .link import Link
from .offer import Offer
from .tool import McpTool, named

PATIENCE = 20.0
"""Seconds that a turn waits for servers that are starting."""
SILENCE = 1.0
"""Seconds of those after which the user is told what the turn waits for."""
MOST_SERVERS = 32
"""Servers of one session."""
SHARE = 0.2
"""Of the model's context, what the servers' tools may take to be told of."""


class Servers:
    """They belong to the session from `start` to `stop`, and never hold it up for longer than `PATIENCE`."""

    def __init__(self, offers: Sequence[Offer], cwd: str, carrier: Carrier | None = None) -> None:
        self._links = [Link(offer, cwd, carrier) for offer in offers[:MOST_SERVERS]]
        self._left_out = offers[MOST_SERVERS:]
        self._told: set[Link] = set()
        self._group: TaskGroup | None = None

    def start(self, group: TaskGroup) -> None:
        self._group = group
        for link in self._links:
            link.start(group)

    def stop(self) -> None:
        for link in self._links:
            link.stop()

    def take_over(self, others: Servers, group: TaskGroup) -> None:
        """Start in the place of others. A server that both have goes on; one on another connection cannot."""
        self._group = group
        running = {link.offer: link for link in others._links if link.offer.kind != "acp"}
        self._links = [running.pop(link.offer, link) for link in self._links]
        for link in others._links:
            if link not in self._links:
                link.stop()
        for link in self._links:
            if link not in others._links:
                link.start(group)

    async def tools(self, own: Tools, info: ModelInfo, waiting: Callable[[str], Awaitable[None]]) -> Tools:
        """The session's own tools and those of the servers that are there, for one turn.

        `waiting` hears the names of the servers that keep the turn waiting, once, after `SILENCE`.
        """
        if not self._links:
            return own
        assert self._group is not None
        silence = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            awaited = set(self._links)
            group.start_soon(self._tell_awaited, awaited, silence, waiting)
            async with anyio.create_task_group() as connecting:
                for link in self._links:
                    connecting.start_soon(self._await, link, awaited)
            silence.cancel()
        theirs: dict[str, McpTool] = {}
        taken = {FIND.name, *(spec.name for spec in own.specs)}
        for link in self._links:
            for tool in link.tools:
                found = named(link, tool, {*theirs, *taken})
                theirs[found.spec.name] = found
        return _Together(own, theirs, info)

    async def _await(self, link: Link, awaited: set[Link]) -> None:
        """Wait until a server is ready, or cannot be used, or has taken too long."""
        assert self._group is not None
        await link.refresh(self._group)
        with anyio.move_on_after(PATIENCE):
            await link.settled.wait()
        awaited.discard(link)

    async def _tell_awaited(
        self, awaited: set[Link], silence: anyio.CancelScope, waiting: Callable[[str], Awaitable[None]]
    ) -> None:
        with silence:
            await anyio.sleep(SILENCE)
        if not silence.cancel_called:  # and what is told then is told to the end
            await waiting(", ".join(link.name for link in self._links if link in awaited))

    def problems(self) -> list[str]:
        """What the user has not been told yet: which servers cannot be used, and why."""
        failed = [link for link in self._links if link.problem is not None and link not in self._told]
        self._told.update(failed)
        left_out, self._left_out = self._left_out, ()
        return [
            *(f"{link.name}: {link.problem}" for link in failed),
            *(f"{visible(offer.name[:80])}: only {MOST_SERVERS} servers are used" for offer in left_out),
        ]

    def __repr__(self) -> str:
        return f"<Servers {self._links!r}>"


class _Together:
    """Our tools first, in their order, and the servers' behind them; those that do not fit are there to be found."""

    def __init__(self, own: Tools, theirs: Mapping[str, McpTool], info: ModelInfo) -> None:
        self._own = own
        self._theirs = theirs
        self._limit = result_limit(info)
        room = SHARE * info.context_size * info.bytes_per_token
        shown: list[ToolSpec] = []
        for tool in theirs.values():
            room -= _size(tool.spec)
            if room < 0:
                break
            shown.append(tool.spec)
        self._hidden = [tool.spec for tool in theirs.values()][len(shown) :]
        self.specs: Sequence[ToolSpec] = (*own.specs, *shown, *([FIND] if self._hidden else []))

    async def prepare(self, name: str, arguments: Any) -> Action:
        if name == FIND.name and self._hidden:
            return find(self._hidden, arguments, self._limit)
        tool = self._theirs.get(name)
        return await self._own.prepare(name, arguments) if tool is None else tool.prepare(arguments, self._limit)


def _size(spec: ToolSpec) -> int:
    return len(spec.name) + len(spec.description.encode()) + len(json.dumps(spec.parameters))
