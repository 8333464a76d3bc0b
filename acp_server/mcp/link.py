"""One MCP server of one session: connected to, listed, called, and let go of."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ..action import ToolProblem
from ..wording import visible
from .carrier import Carrier
from .offer import Offer

if TYPE_CHECKING:
    from mcp.client import Client
    from mcp_types import CallToolResult, Tool

log = logging.getLogger(__name__)

START = 60.0
"""Seconds a server gets to start and list its tools; the first start of a packaged one may have to fetch it."""
LISTING = 5.0
"""Seconds it gets at the beginning of a turn to say which tools it has now."""
CALL = 600.0
"""Seconds a call may take."""
LAST_WORDS = 1.0
"""Seconds that a server which broke off gets to be seen to have ended."""
MOST_TOOLS = 1000
"""Tools of one server."""
MOST_PAGES = 100
LONGEST_REASON = 500
"""Characters of what is said of a failure."""


class Progress(Protocol):
    """Hears how far a call has come."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


class Link:
    """The connection to a server. `tools` is empty until it is ready, and after it has gone."""

    def __init__(self, offer: Offer, cwd: str, carrier: Carrier | None) -> None:
        self.offer = offer
        self.tools: Sequence[Tool] = ()
        self.problem: str | None = None
        """Why it cannot be used, in words for the user; None while it may yet be."""
        self.settled = anyio.Event()
        """Set when it is ready or has failed."""
        self._cwd = cwd
        self._carrier = carrier
        self._client: Client | None = None
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._last_words = ""

    def start(self, group: TaskGroup) -> None:
        """Connect, in the background."""
        self._scope.cancel()
        self.settled, self._over = anyio.Event(), anyio.Event()
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + START)
        group.start_soon(self._run, self._scope, self.settled, self._over)

    def stop(self) -> None:
        """Let go of the server; its process gets a moment to end by itself."""
        self._scope.cancel()

    async def refresh(self, group: TaskGroup) -> None:
        """Learn which tools it has now; connect again to one that was lost. One that does not answer is left as it is.

        `settled` is to be waited for.
        """
        if not self.settled.is_set() or self.problem is not None:
            return
        if (client := self._client) is not None:
            with anyio.move_on_after(LISTING):
                try:
                    self.tools = await _listed(client)
                except Exception as error:
                    log.info("MCP server %r is connected to again: %s", self.offer.name, self._reason(error))
                else:
                    return
            if self._client is client and not self._over.is_set():
                return
        self.start(group)

    async def call(self, name: str, arguments: dict[str, Any], progress: Progress) -> CallToolResult:
        """Call a tool by the name that the server has for it. Raises ToolProblem."""
        client, over = self._client, self._over
        if client is None:
            raise ToolProblem(f"the MCP server {self.name} is not running")
        try:
            return await client.call_tool(name, arguments, read_timeout_seconds=CALL, progress_callback=progress)
        except Exception as error:  # the package raises its own, pydantic's and httpx2's
            if _is_broken_off(error):
                with anyio.move_on_after(LAST_WORDS):
                    await over.wait()
            raise ToolProblem(f"the MCP server {self.name} failed: {self._last_words or self._reason(error)}") from None

    @property
    def name(self) -> str:
        """What it is called, fit to be shown."""
        return visible(self.offer.name[:80])

    async def _run(self, scope: anyio.CancelScope, settled: anyio.Event, over: anyio.Event) -> None:
        problem: str | None = None
        self._last_words = ""
        try:
            with scope:
                reach = await anyio.to_thread.run_sync(importlib.import_module, f"{__package__}.transports")
                async with reach.client_of(self.offer, self._cwd, self._carrier) as client:
                    self.tools = await _listed(client)
                    scope.deadline, self._client = math.inf, client
                    settled.set()
                    log.info("MCP server %r has %d tools", self.offer.name, len(self.tools))
                    await anyio.sleep_forever()
            problem = f"it was not ready within {START:.0f} seconds"
        except Exception as error:
            problem = self._reason(error)
            log.warning("MCP server %r: %s", self.offer.name, problem)
        finally:
            if self._scope is scope:  # nobody has connected again meanwhile
                self._client, self.tools = None, ()
                if settled.is_set():
                    self._last_words = problem or ""
                else:
                    self.problem = problem
            settled.set()
            over.set()

    def _reason(self, error: BaseException) -> str:
        """The innermost single cause, on one line: task groups wrap what went wrong."""
        while isinstance(error, BaseExceptionGroup):
            error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        match error:
            case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in ("mcp", "mcp_types", "httpx2"):
                return "install acp-laguna[mcp] to use MCP servers"
            case FileNotFoundError(filename=str(name)):
                return f"there is no command {visible(name[:200])}"
            case _:
                # First the secrets, for what is cut could be the half of one.
                words = " ".join(self.offer.without_secrets(str(error)).split())
                return visible(words[:LONGEST_REASON]) or type(error).__name__

    def __repr__(self) -> str:
        return f"<Link to {self.offer!r}, {len(self.tools)} tools>"


def _is_broken_off(error: Exception) -> bool:
    """Whether a request failed because the server has gone."""
    from mcp.shared.exceptions import MCPError
    from mcp_types import CONNECTION_CLOSED

    return isinstance(error, MCPError) and error.error.code == CONNECTION_CLOSED


async def _listed(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MOST_TOOLS:
            break
    if len(tools) > MOST_TOOLS:
        log.warning("only the first %d of an MCP server's tools are used", MOST_TOOLS)
    return tools[:MOST_TOOLS]
