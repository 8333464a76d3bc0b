"""The agent as a whole: what it is made of, and a conversation with one client."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version

import anyio

from acp.connection import Connection, Transport

from .model import ModelBackend, ModelError, Sampling
from .permissions import Policy
from .sessions import Settings
from .surface_v1 import SurfaceV1
from .turn import MAX_STEPS

log = logging.getLogger(__name__)


class Agent:
    """What an agent is made of. One agent can serve any number of connections, which share its model.

    `policy` says what goes without asking: `ask` nothing, `edits` edits in the workspace, `all` everything
    but protected paths. The agent does not close the model.
    """

    def __init__(
        self,
        model: ModelBackend,
        *,
        policy: Policy = "ask",
        sampling: Sampling | None = None,
        max_steps: int = MAX_STEPS,
        name: str = "acp-laguna",
        title: str = "Laguna",
    ) -> None:
        self.model = model
        self.settings = Settings(policy, sampling or Sampling(), max_steps)
        self.name = name
        self.title = title
        self.version = _version()

    async def warm_up(self) -> None:
        """Load the model ahead of the first prompt. A failure is logged; the prompt will report it."""
        try:
            info = await self.model.ready()
            log.info("model %s is ready, %d tokens of context", info.name, info.context_size)
        except ModelError as error:
            log.warning("the model is not ready: %s", error)

    def __repr__(self) -> str:
        return f"<Agent {self.name} with {self.model!r}>"


async def serve(agent: Agent, transport: Transport) -> None:
    """Talk to one client until it goes away. Then every turn is cancelled and every child process killed.

    Cancelling `serve` does the same.
    """
    # The group outlives the connection: what a cancelled turn had to leave behind finishes its cleanup here.
    async with anyio.create_task_group() as group:
        surface = SurfaceV1(agent, group)
        try:
            async with Connection(transport, surface.handlers, name="agent") as connection:
                surface.connection = connection
                await connection.wait_closed()
        finally:
            group.cancel_scope.cancel()


def _version() -> str:
    try:
        return version("acp-laguna")
    except PackageNotFoundError:
        return "0"
