"""A session: a directory, a history, and one turn at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from acp.errors import ErrorCode, RequestError
from acp.updates import (
    Block,
    ConfigOptions,
    Json,
    Message,
    ModeChanged,
    Notice,
    SessionInfo,
    Terminal,
    TextBlock,
    TurnEnded,
    TurnStarted,
    Update,
)

from .commands import compaction_asked
from .mcp.servers import PATIENCE, Servers
from .model import Sampling
from .options import MODE, Options
from .permissions import Permissions, Policy
from .prompt import Instructions, system_prompt
from .state import SessionState
from .storage.history import (
    began,
    instructed,
    instructions_of,
    messages_of,
    settings_of,
    summary_of,
    turns_of,
)
from .storage.store import Card, Entry, Log
from .teller import SAVING, Client, Teller, failure, taken_away
from .terminals.background import Background
from .terminals.terminals import Terminals
from .turn.conversation import Conversation, result_limit
from .turn.parts import MAX_STEPS, Parts
from .turn.turn import Spent, Turn, TurnEnd, check_room
from .wording import title
from .workspace.workspace import Workspace

if TYPE_CHECKING:
    from .tools import Toolbox

log = logging.getLogger(__name__)

LONGEST_TITLE = 80
"""Characters of the first prompt that become the title."""
ENDING = 5.0
"""Seconds that a cancelled turn gets to end when its session is closed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every session of an agent begins with."""

    policy: Policy = "ask"
    sampling: Sampling = field(default_factory=Sampling)
    max_steps: int = MAX_STEPS


@dataclass(frozen=True, slots=True)
class Kept:
    """A session as a store has it: its card, its log, which we hold, and what the log said when it was opened."""

    card: Card
    log: Log
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class TurnReport:
    """How a turn ended and what it cost. `seconds` is wall time; `spent.seconds` the model's."""

    stop_reason: TurnEnd
    spent: Spent
    seconds: float


class Session:
    """One conversation about one directory.

    A turn runs inside `prompt`; `cancel` makes it return `cancelled` within a second. A second prompt while one runs
    is refused, not queued: whoever wants to say more waits or cancels first. Everything the session reports is in its
    log before it is sent, and no tool runs whose call is not. After `close` it says nothing more.

    When another process takes the session over, its turn ends with an error, and so does whatever is asked of it later:
    it is `taken`. `on_wanted` is called while another process asks for it, with True if it is to have it at once.
    """

    def __init__(
        self, kept: Kept, options: Options, settings: Settings, client: Client, group: TaskGroup, servers: Servers
    ) -> None:
        self.card = kept.card
        self.options = options
        options.restore(settings_of(kept.entries))
        self.permissions = Permissions(options.mode)
        extra = [Path(directory) for directory in kept.card.directories]
        self.workspace = Workspace(self.cwd, extra=extra, overlay=client.overlay)
        self._teller = Teller(kept.card.id, kept.log, kept.entries, client)
        self._settings = settings
        self._client = client
        self._group = group
        self._servers = servers
        self._terminals = Terminals(self._teller.emit)
        self._background = Background(self._terminals, group, self._detached)
        self._said, self._summary = messages_of(kept.entries), summary_of(kept.entries)
        self._instructions = self._obeyed = instructions_of(kept.entries)
        self._conversation: Conversation | None = None
        self._toolbox: Toolbox | None = None
        self._turn: Turn | None = None
        self._scope: anyio.CancelScope | None = None
        self._turns = turns_of(kept.entries)
        self._ended = anyio.Event()
        self._ended.set()
        self._inserted = False
        self._closing = False
        self.on_wanted: Callable[[bool], None] | None = None
        kept.log.watch(self._give_up, self._wanted)
        servers.start(group)

    @property
    def id(self) -> str:
        return self.card.id

    @property
    def cwd(self) -> Path:
        return Path(self.card.cwd)

    @property
    def state(self) -> SessionState:
        """What the session does, as its updates have told."""
        return self._teller.state

    @property
    def telling(self) -> anyio.Lock:
        """Held while an update is recorded and sent. Whoever holds it sees a history that nothing is missing from."""
        return self._teller.lock

    @property
    def taken(self) -> bool:
        """Whether another process has the session now, or has deleted it."""
        return self._teller.taken

    @property
    def running(self) -> bool:
        """Whether a turn runs, or has not yet said that it ended."""
        return not self._ended.is_set()

    # Turns -----------------------------------------------------------------------------------------

    async def prompt(
        self,
        text: str,
        blocks: Sequence[Block] = (),
        *,
        name: Json = None,
        inserted: Callable[[str], None] | None = None,
    ) -> TurnReport:
        """Take a turn. Raises `RequestError` when one runs, `ModelError`, and what `Turn.run` raises.

        One that begins while the session is being closed is cancelled at once. `name` is what the client
        calls the prompt by. `inserted` is told the id of the user's message when it has become part of the history.
        """
        self._teller.check_held()
        if self._closing:  # the prompt was read before the close, and its task has only now begun
            return TurnReport("cancelled", Spent(), 0.0)
        if self.running:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "A turn is already running in this session; wait for it or cancel it.",
                {"sessionId": self.id},
            )
        began = time.monotonic()
        reason: TurnEnd = "cancelled"
        ending = TurnEnded("cancelled")
        compacting = compaction_asked(text)
        self._turn = None
        self._inserted = False
        self._ended = anyio.Event()
        try:
            with anyio.CancelScope() as self._scope:
                try:
                    parts = await self._begin_turn(text)
                    await self._insert(blocks or (TextBlock(text),), name, inserted)
                    self._turn = Turn(await self._with_servers(parts), f"t{self._turns}")
                    reason = await (self._turn.run(text) if compacting is None else self._turn.compact(compacting))
                    ending = TurnEnded(reason)
                except Exception as error:
                    if not self._scope.cancel_called:
                        ending = failure(error)
                        raise
                    if not self.taken:
                        log.warning("a cancelled turn of session %s failed as well", self.id, exc_info=error)
                finally:
                    self._scope = None
        finally:
            try:
                await self._end_turn(text, ending)
            finally:  # though nobody may be left to be told
                self._ended.set()
        self._teller.check_held()
        # A scope cancelled too late stops nothing; then the turn's own reason is the truth.
        spent = self._turn.spent if self._turn else Spent()
        return TurnReport(reason, spent, time.monotonic() - began)

    def cancel(self) -> None:
        """Cancel the running turn; without one, nothing happens."""
        if self._scope is not None:
            self._scope.cancel()

    async def wait_idle(self) -> None:
        """Wait for the end of the turn that runs, if one does."""
        while self.running:
            await self._ended.wait()

    def cancel_call(self, id: str) -> bool:
        """Cancel one call of the running turn; False if it cannot be cancelled now."""
        return self._scope is not None and self._turn is not None and self._turn.cancel_call(id)

    def cancel_terminal(self, id: str) -> bool:
        """Stop the command of a terminal; False if it cannot be stopped now."""
        return self._terminals.stop(id)

    def terminals(self) -> Sequence[Terminal]:
        """The terminals that have not ended, as they are now."""
        return self._terminals.now()

    async def _begin_turn(self, text: str) -> Parts:
        """What the turn is made of, but for the tools of MCP servers. Raises PromptTooLong, ModelError."""
        backend = self.options.backend
        info = await backend.ready()
        if self._conversation is None or self._obeyed is not self._instructions:
            self._obeyed = self._instructions
            system = await anyio.to_thread.run_sync(system_prompt, self.cwd, info, self._obeyed)
            if (old := self._conversation) is not None:
                self._said, self._summary = old.messages, old.summary
            self._conversation = self._teller.conversation = Conversation(system, self._said, self._summary)
        if self._toolbox is None:
            self._toolbox = await anyio.to_thread.run_sync(
                _toolbox, self.workspace, self._terminals, self._background, result_limit(info)
            )
        check_room(self._conversation, text, info, self._toolbox.specs)
        self._turns += 1
        return Parts(
            self._conversation,
            backend,
            info,
            self._toolbox,
            self.permissions,
            self._teller.emit,
            self._teller.ask,
            self._group,
            replace(self.options.sampling(self._settings.sampling), session=self.id),
            self._settings.max_steps,
            self._client.crowded,
        )

    async def _with_servers(self, parts: Parts) -> Parts:
        async def waiting(names: str) -> None:
            limit = f"The turn goes on without its tools after {PATIENCE:g} seconds."
            await self._teller.emit(Notice("warning", title(f"Waiting for the MCP server {names}"), limit))

        tools = await self._servers.tools(parts.tools, parts.info, waiting)
        for problem in self._servers.problems():
            await self._teller.emit(Notice("warning", "An MCP server cannot be used", problem))
        return replace(parts, tools=tools)

    async def _insert(self, blocks: Sequence[Block], name: Json, inserted: Callable[[str], None] | None) -> None:
        message = Message("user", f"t{self._turns}.u", tuple(blocks))
        self._inserted = True
        self._teller.append(began(name))
        if inserted is not None:
            inserted(message.message_id)
        await self._teller.emit(message)
        await self._teller.emit(TurnStarted())

    async def _end_turn(self, text: str, ending: TurnEnded) -> None:
        """Save the turn and say that it ended, however that was. A slow disk or client holds it up a bounded time."""
        names = self._inserted and not self.card.title and compaction_asked(text) is None
        titled = title_of(text) if names else None
        self.card = replace(self.card.touched(), title=self.card.title or titled)
        with anyio.move_on_after(SAVING, shield=True):
            if self._inserted:
                self._teller.record(how=ending)
            await self._teller.save(self.card)
        if self._inserted and self.state.is_idle:
            self.state.take(TurnStarted())  # it was cut off before that was said
        with anyio.move_on_after(SAVING, shield=True):  # of its own: a disk that hangs must not swallow the turn's end
            if titled and not self.taken:
                await self._teller.emit(SessionInfo(titled, self.card.updated_at))
            if self._inserted:
                await self._teller.emit(failure(taken_away(self.id)) if self.taken else ending)

    # What is set -----------------------------------------------------------------------------------

    async def set_option(self, id: str, value: Json) -> None:
        """Set an option and report all of them; raises RequestError -32602 and changes nothing for a wrong one."""
        self._teller.check_held()
        self.options.set(id, value)
        self.permissions.policy = self.options.mode
        self._teller.append({"setting": id, "value": value})
        if id == MODE:
            await self._teller.emit(ModeChanged(self.options.mode))
        await self._teller.emit(ConfigOptions(self.options.listed()))

    async def set_title(self, title: str) -> None:
        self._teller.check_held()
        self.card = replace(self.card.touched(), title=title, titled_by_user=True)
        await self._teller.save(self.card)
        await self._teller.emit(SessionInfo(title, self.card.updated_at))

    def instruct(self, instructions: Instructions | None) -> None:
        """From the next turn on tell the model what the application has to say; None: what it was told last."""
        if instructions is not None and instructions != self._instructions:
            self._teller.check_held()
            self._instructions = instructions
            self._teller.append(instructed(instructions))

    def serve_with(self, servers: Servers) -> None:
        """From the next turn on use these MCP servers, which are all that the client offers now, and no others."""
        servers.take_over(self._servers, self._group)
        self._servers = servers

    # Ends and beginnings ---------------------------------------------------------------------------

    async def show_state(self) -> None:
        """Say once more what the session does."""
        async with self.telling:
            await self.show(self.state.now())

    async def show(self, update: Update) -> None:
        """Send an update that is no news: a part of the history, or what is offered."""
        await self._teller.show(update)

    async def flush(self) -> None:
        """Have the log hold all that there is to read. Raises RequestError when the session was taken."""
        self._teller.record()
        await self._teller.kept()

    async def save(self) -> None:
        """Have lists show the session as it is. Raises RequestError when it was taken."""
        self._teller.check_held()
        await self._teller.save(self.card)

    async def close(self) -> None:
        """Cancel the turn, end what runs beside it, wait for their last words, and let go of the log.

        Then the session is silent.
        """
        if self._teller.closed:
            return
        self._closing = True  # no turn begins any more, though the last one may still end
        with anyio.move_on_after(ENDING, shield=True):
            while self.running:
                self.cancel()
                await self._ended.wait()
        with anyio.move_on_after(ENDING, shield=True):
            await self._background.close()
        self._servers.stop()
        await self._teller.close()

    def _give_up(self) -> None:
        """Another process has the session now."""
        log.warning("session %s was taken over by another process, or deleted", self.id)
        self._teller.taken = True
        self.cancel()
        self._group.start_soon(self._background.close)
        self._servers.stop()

    def _wanted(self, at_once: bool) -> None:
        if self.on_wanted is not None:
            self.on_wanted(at_once)

    async def _detached(self, terminal: str) -> None:
        """The command of a terminal goes on beside the turn."""
        self.state.detach(terminal)
        await self._teller.emit(self.state.now())

    def __repr__(self) -> str:
        state = "closed" if self._teller.closed else "running" if self.running else "idle"
        return f"<Session {self.id} in {self.cwd} [{state}]>"


def _toolbox(workspace: Workspace, terminals: Terminals, background: Background, limit: int) -> Toolbox:
    # Imported here: the tools and their libraries are a fifth of the start-up, and `initialize` needs none of them.
    from .tools import Toolbox

    return Toolbox(workspace, terminals, background, result_limit=limit)


def title_of(text: str) -> str:
    """A title on one line, of a bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"
