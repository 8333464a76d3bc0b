"""The agent as a whole: what it is made of, and a conversation with one client."""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

import anyio

from acp.connection import Connection, Transport
from acp.errors import ConnectionClosed, RequestError
from acp.unstable import Unstable, opened
from acp.updates import Json

from .auth import Auth, WithAccounts
from .commands import Template
from .endpoint import TOO_EARLY, Endpoint
from .model import ModelBackend, ModelError, Sampling
from .permissions import Policy
from .providers import Providers
from .session import Settings
from .shelter import Shelter
from .storage.memory import MemoryStore
from .storage.owned_store import OwnedStore
from .storage.store import Store
from .turn.parts import MAX_STEPS

log = logging.getLogger(__name__)


class Agent:
    """What an agent is made of. One agent can serve any number of connections, which share its model and sessions.

    `policy` says what goes without asking: `ask` nothing, `edits` edits in the workspace, `all` everything but
    protected paths. `others` are models that a session may change to, by the name that users see. `store` keeps the
    sessions; without one they last as long as the agent. `unstable` opens what the protocol may still change, by name.
    The agent does not close its models. Raises ValueError for an unstable part that it cannot have.
    """

    def __init__(
        self,
        model: ModelBackend,
        *,
        model_name: str = "default",
        others: Mapping[str, ModelBackend] | None = None,
        policy: Policy = "ask",
        sampling: Sampling | None = None,
        max_steps: int = MAX_STEPS,
        store: Store | None = None,
        auth: Auth | None = None,
        providers: Providers | None = None,
        commands: Sequence[Template] = (),
        unstable: Iterable[Unstable] = (),
        name: str = "acp-laguna",
        title: str = "Laguna",
    ) -> None:
        self.model = model
        self.models: Mapping[str, ModelBackend] = {model_name: model, **(others or {})}
        self.settings = Settings(policy, sampling or Sampling(), max_steps)
        self.store: Store = store or MemoryStore()
        self.auth = auth
        self.providers = providers
        self.commands = tuple(commands)
        self.name = name
        self.title = title
        self.version = _version()
        self.principal = ""
        self.shelter: Shelter | None = None
        self._unstable = opened(unstable)
        if "subagents" in self._unstable:
            raise ValueError("there are no subagents to open: this agent makes none")
        self._auth_watchers: set[Callable[[], Awaitable[None]]] = set()

    def opens(self, name: Unstable) -> bool:
        """Whether an unstable part was opened, and is there."""
        return name in self._unstable and (name != "providers" or self.providers is not None)

    async def warm_up(self) -> None:
        """Load the model ahead of the first prompt. A failure is logged; the prompt will report it."""
        try:
            info = await self.model.ready()
            log.info("model %s is ready, %d tokens of context", info.name, info.context_size)
        except ModelError as error:
            log.warning("the model is not ready: %s", error)

    # Who is there ----------------------------------------------------------------------------------

    @property
    def auth_state(self) -> str:
        if self.auth is None:
            return "not_required"
        return "authenticated" if self.auth.logged_in else "unauthenticated"

    def check_login(self) -> None:
        """Raise RequestError -32000 when somebody has to log in first."""
        if self.auth is not None and not self.auth.logged_in:
            raise RequestError.auth_required()

    @property
    def accounts(self) -> Sequence[Mapping[str, Json]]:
        """The accounts there are, for the user's eyes, as `auth/status` says them."""
        return self.auth.accounts if isinstance(self.auth, WithAccounts) else ()

    async def log_in(self, method_id: str) -> None:
        assert self.auth is not None
        if all(method.id != method_id for method in self.auth.methods):
            raise RequestError.invalid_params(f"There is no way to log in called {method_id!r}.")
        before = self.auth_state
        await self.auth.login(method_id)
        await self._tell_auth(before)

    async def log_out(self) -> None:
        assert self.auth is not None
        before = self.auth_state
        await self.auth.logout()
        await self._tell_auth(before)

    @contextmanager
    def telling_auth(self, tell: Callable[[], Awaitable[None]]) -> Generator[None]:
        """Have somebody told, in the block, when who is logged in has changed."""
        self._auth_watchers.add(tell)
        try:
            yield
        finally:
            self._auth_watchers.discard(tell)

    async def _tell_auth(self, before: str) -> None:
        if self.auth_state != before:
            for tell in tuple(self._auth_watchers):
                with suppress(ConnectionClosed):
                    await tell()

    def alone(self) -> Agent:
        """This agent as the one user of its machine sees it: all of it, and of the sessions those of no principal."""
        seen = copy.copy(self)
        seen.store = OwnedStore(self.store, "")
        return seen

    def belonging_to(self, principal: str, shelter: Shelter | None = None) -> Agent:
        """This agent as one principal sees it: the same models, and of the sessions its own.

        With a shelter, sessions outlive a connection that is lost.
        """
        seen = copy.copy(self)
        seen.principal, seen.shelter = principal, shelter
        seen.store = OwnedStore(self.store, principal)
        seen.providers = None  # where the model is belongs to nobody among several
        return seen

    def __repr__(self) -> str:
        return f"<Agent {self.name} with {self.model!r}>"


async def serve(
    agent: Agent,
    transport: Transport,
    *,
    leaving: anyio.Event | None = None,
    was_lost: Callable[[], bool] = lambda: False,
) -> None:
    """Talk to one client until it goes away. Then every turn is cancelled and every child process killed.

    Cancelling `serve` does the same. When `leaving` is set it ends once no turn runs and every answer is sent.
    When the client `was_lost`, its sessions wait for it in the agent's shelter, if that has one.
    """
    # The group outlives the connection: what a cancelled turn had to leave behind finishes its cleanup here.
    async with anyio.create_task_group() as group:
        endpoint = Endpoint(agent, group if agent.shelter is None else agent.shelter.group)
        lost = False
        try:
            async with Connection(
                transport, endpoint.handlers, name="agent", calls=(), otherwise=TOO_EARLY
            ) as connection:
                endpoint.connection = connection
                if leaving is not None:
                    group.start_soon(_leave, endpoint, connection, leaving)
                with agent.telling_auth(endpoint.auth_changed):
                    await connection.wait_closed()
                lost = was_lost() and not (leaving is not None and leaving.is_set())
        finally:
            with anyio.CancelScope(shield=True):
                await endpoint.aclose(lost=lost)
            group.cancel_scope.cancel()


async def _leave(endpoint: Endpoint, connection: Connection, leaving: anyio.Event) -> None:
    await leaving.wait()
    await endpoint.wait_idle()
    await connection.wait_answered()
    await connection.aclose()


def _version() -> str:
    try:
        return version("acp-laguna")
    except PackageNotFoundError:
        return "0"
