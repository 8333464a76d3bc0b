"""Sessions: a working directory, a history, and one turn at a time."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from acp.errors import ErrorCode, RequestError
from acp.updates import Update

from .calls import Ask
from .chunks import Emit
from .conversation import Conversation, result_limit
from .model import ModelBackend, Sampling
from .permissions import Permissions, Policy
from .prompt import system_prompt
from .turn import MAX_STEPS, Parts, Spent, Turn, TurnEnd
from .workspace import Overlay, Workspace

if TYPE_CHECKING:
    from .tools import Toolbox

log = logging.getLogger(__name__)

MAX_SESSIONS = 1000
"""Sessions one connection may have at a time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every session of an agent begins with."""

    policy: Policy = "ask"
    sampling: Sampling = field(default_factory=Sampling)
    max_steps: int = MAX_STEPS


@dataclass(frozen=True, slots=True)
class Client:
    """The user's side, as a session sees it: where updates go, who is asked, whose unsaved files count."""

    emit: Emit
    ask: Ask
    overlay: Overlay | None = None


@dataclass(frozen=True, slots=True)
class TurnReport:
    """How a turn ended and what it cost. `seconds` is wall time; `spent.seconds` the model's."""

    stop_reason: TurnEnd
    spent: Spent
    seconds: float


class Session:
    """One conversation about one directory.

    A turn runs inside `prompt`; `cancel` makes it return `cancelled` within a second. A second prompt while
    one runs is refused, not queued: whoever wants to say more waits or cancels first. Everything the
    session reports passes through `_emit`, where a journal can listen.
    """

    def __init__(
        self,
        id: str,
        cwd: Path,
        model: ModelBackend,
        settings: Settings,
        client: Client,
        group: TaskGroup,
        *,
        extra: Sequence[Path] = (),
    ) -> None:
        self.id = id
        self.cwd = cwd
        self.permissions = Permissions(settings.policy)
        self.workspace = Workspace(cwd, extra=extra, overlay=client.overlay)
        self._model = model
        self._settings = settings
        self._client = client
        self._group = group
        self._conversation: Conversation | None = None
        self._toolbox: Toolbox | None = None
        self._turn: Turn | None = None
        self._scope: anyio.CancelScope | None = None
        self._turns = 0

    @property
    def running(self) -> bool:
        return self._scope is not None

    async def prompt(self, text: str) -> TurnReport:
        """Take a turn. Raises `RequestError` when one runs, `ModelError`, and what `Turn.run` raises."""
        if self._scope is not None:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "A turn is already running in this session; wait for it or cancel it.",
                {"sessionId": self.id},
            )
        began = time.monotonic()
        reason: TurnEnd = "cancelled"
        self._turn = None
        with anyio.CancelScope() as self._scope:
            try:
                self._turn = await self._begin_turn()
                reason = await self._turn.run(text)
            except Exception as error:
                if not self._scope.cancel_called:
                    raise
                log.warning("a cancelled turn of session %s failed as well", self.id, exc_info=error)
            finally:
                self._scope = None
        # A scope cancelled too late stops nothing; then the turn's own reason is the truth.
        spent = self._turn.spent if self._turn else Spent()
        return TurnReport(reason, spent, time.monotonic() - began)

    def cancel(self) -> None:
        """Cancel the running turn; without one, nothing happens."""
        if self._scope is not None:
            self._scope.cancel()

    async def _begin_turn(self) -> Turn:
        info = await self._model.ready()
        if self._conversation is None:
            system = await anyio.to_thread.run_sync(system_prompt, self.cwd, info)
            self._conversation = Conversation(system)
        if self._toolbox is None:
            self._toolbox = await anyio.to_thread.run_sync(_toolbox, self.workspace, result_limit(info))
        self._turns += 1
        parts = Parts(
            self._conversation,
            self._model,
            info,
            self._toolbox,
            self.permissions,
            self._emit,
            self._client.ask,
            self._group,
            self._settings.sampling,
            self._settings.max_steps,
        )
        return Turn(parts, f"t{self._turns}")

    async def _emit(self, update: Update) -> None:
        await self._client.emit(update)

    def __repr__(self) -> str:
        return f"<Session {self.id} in {self.cwd} [{'running' if self.running else 'idle'}]>"


def _toolbox(workspace: Workspace, limit: int) -> Toolbox:
    # Imported here: the tools and their libraries are a fifth of the start-up, and `initialize` needs none of them.
    from .tools import Toolbox

    return Toolbox(workspace, result_limit=limit)


class Sessions:
    """The sessions of one connection, by id."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    @staticmethod
    def new_id() -> str:
        return uuid.uuid4().hex

    def add(self, session: Session) -> None:
        if len(self._sessions) >= MAX_SESSIONS:
            raise RequestError(ErrorCode.INTERNAL_ERROR, f"This connection already has {MAX_SESSIONS} sessions.")
        self._sessions[session.id] = session

    def find(self, id: str) -> Session | None:
        return self._sessions.get(id)

    def get(self, id: str) -> Session:
        """The session, or `RequestError` -32002 that names it."""
        if (session := self._sessions.get(id)) is None:
            raise RequestError.session_not_found(id)
        return session


def working_directory(text: str, name: str = "cwd") -> Path:
    """A directory that the client named.

    Raises `RequestError` -32602 in words that say what is wrong with it.
    """
    path = Path(text)
    if "\0" in text or not path.is_absolute():
        raise RequestError.invalid_params(f"{name} must be an absolute path, not {text!r}.", {name: text})
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise RequestError.invalid_params(f"{name} does not exist: {text}", {name: text}) from None
    if not real.is_dir():
        raise RequestError.invalid_params(f"{name} is not a directory: {text}", {name: text})
    if real == Path(real.anchor):
        raise RequestError.invalid_params(f"{name} may not be the root of the file system.", {name: text})
    return path
