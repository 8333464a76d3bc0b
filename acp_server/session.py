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
    ActionRequired,
    Block,
    ConfigOptions,
    Json,
    Message,
    ModeChanged,
    Notice,
    SessionInfo,
    Terminal,
    TextBlock,
    ToolCall,
    TurnEnded,
    TurnStarted,
    Update,
)

from .mcp.servers import Servers
from .model import Sampling
from .options import MODE, Options
from .permissions import Option, Permissions, Policy
from .prompt import Instructions, system_prompt
from .state import SessionState
from .storage.history import (
    Recorder,
    began,
    ended,
    entry_of,
    instructed,
    instructions_of,
    messages_of,
    settings_of,
    turns_of,
)
from .storage.store import Card, Entry, Log, SessionTaken
from .terminals.background import Background
from .terminals.terminals import Terminals
from .turn.calls import Ask
from .turn.chunks import Emit
from .turn.conversation import Conversation, result_limit
from .turn.turn import MAX_STEPS, Parts, PromptTooLong, Spent, Turn, TurnEnd, TurnFailed, check_room
from .workspace.workspace import Overlay, Workspace

if TYPE_CHECKING:
    from .tools import Toolbox

log = logging.getLogger(__name__)

LONGEST_TITLE = 80
"""Characters of the first prompt that become the title."""
ENDING = 5.0
"""Seconds that a cancelled turn gets to end when its session is closed."""
SAVING = 5.0
"""Seconds that the disk gets to take a turn."""
MOMENT = 0.3
"""Seconds that a cancelled turn gives the store to keep what is still to be told."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every session of an agent begins with."""

    policy: Policy = "ask"
    sampling: Sampling = field(default_factory=Sampling)
    max_steps: int = MAX_STEPS


@dataclass(frozen=True, slots=True)
class Client:
    """The user's side, as a session sees it: where updates go, who is asked, whose unsaved files count.

    `emit` takes what is new and `show` what is not: a replay, or what the session offers. Where it is `crowded`, what
    was said before waits to be read, and who emits would wait too.
    """

    emit: Emit
    ask: Ask
    show: Emit
    overlay: Overlay | None = None
    crowded: Callable[[], bool] = lambda: False


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
        self._log = kept.log
        self._settings = settings
        self._client = client
        self._group = group
        self._servers = servers
        self._terminals = Terminals(self._emit)
        self._background = Background(self._terminals, group, self._detached)
        self._said = messages_of(kept.entries)
        self._instructions = self._obeyed = instructions_of(kept.entries)
        self._recorder = Recorder(kept.entries)
        self._conversation: Conversation | None = None
        self._toolbox: Toolbox | None = None
        self._turn: Turn | None = None
        self._scope: anyio.CancelScope | None = None
        self._turns = turns_of(kept.entries)
        self._ended = anyio.Event()
        self._ended.set()
        self._inserted = False
        self._closing = False
        self._closed = False
        self.telling = anyio.Lock(fast_acquire=True)
        """Held while an update is recorded and sent. Whoever holds it sees a history that nothing is missing from."""
        self._unsaved = False
        self.state = SessionState(f"session {self.id}")
        self.taken = False
        self.on_wanted: Callable[[bool], None] | None = None
        self._log.watch(self._give_up, self._wanted)
        servers.start(group)

    @property
    def id(self) -> str:
        return self.card.id

    @property
    def cwd(self) -> Path:
        return Path(self.card.cwd)

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
        self._check_held()
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
        self._turn = None
        self._inserted = False
        self._ended = anyio.Event()
        try:
            with anyio.CancelScope() as self._scope:
                try:
                    parts = await self._begin_turn(text)
                    await self._insert(blocks or (TextBlock(text),), name, inserted)
                    self._turn = Turn(await self._with_servers(parts), f"t{self._turns}")
                    reason = await self._turn.run(text)
                    ending = TurnEnded(reason)
                except Exception as error:
                    if not self._scope.cancel_called:
                        ending = _failure(error)
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
        self._check_held()
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
            self._conversation = Conversation(system, self._conversation.messages if self._conversation else self._said)
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
            self._emit,
            self._ask,
            self._group,
            replace(self.options.sampling(self._settings.sampling), session=self.id),
            self._settings.max_steps,
            self._client.crowded,
        )

    async def _with_servers(self, parts: Parts) -> Parts:
        tools = await self._servers.tools(parts.tools, parts.info)
        for problem in self._servers.problems():
            await self._emit(Notice("warning", "An MCP server cannot be used", problem))
        return replace(parts, tools=tools)

    async def _insert(self, blocks: Sequence[Block], name: Json, inserted: Callable[[str], None] | None) -> None:
        message = Message("user", f"t{self._turns}.u", tuple(blocks))
        self._inserted = True
        self._append(began(name))
        if inserted is not None:
            inserted(message.message_id)
        await self._emit(message)
        await self._emit(TurnStarted())

    async def _end_turn(self, text: str, ending: TurnEnded) -> None:
        """Save the turn and say that it ended, however that was. A slow disk or client holds it up a bounded time."""
        titled = title_of(text) if self._inserted and not self.card.title else None
        self.card = replace(self.card.touched(), title=self.card.title or titled)
        with anyio.move_on_after(SAVING, shield=True):
            if self._inserted:
                self._record(how=ending)
            await self._save()
        with anyio.move_on_after(SAVING, shield=True):  # of its own: a disk that hangs must not swallow the turn's end
            if titled and not self.taken:
                await self._emit(SessionInfo(titled, self.card.updated_at))
            if self._inserted:
                await self._emit(_failure(_taken(self.id)) if self.taken else ending)

    # What is set -----------------------------------------------------------------------------------

    async def set_option(self, id: str, value: Json) -> None:
        """Set an option and report all of them; raises RequestError -32602 and changes nothing for a wrong one."""
        self._check_held()
        self.options.set(id, value)
        self.permissions.policy = self.options.mode
        self._append({"setting": id, "value": value})
        if id == MODE:
            await self._emit(ModeChanged(self.options.mode))
        await self._emit(ConfigOptions(self.options.listed()))

    async def set_title(self, title: str) -> None:
        self._check_held()
        self.card = replace(self.card.touched(), title=title, titled_by_user=True)
        await self._save()
        await self._emit(SessionInfo(title, self.card.updated_at))

    def instruct(self, instructions: Instructions | None) -> None:
        """From the next turn on tell the model what the application has to say; None: what it was told last."""
        if instructions is not None and instructions != self._instructions:
            self._check_held()
            self._instructions = instructions
            self._append(instructed(instructions))

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
        if not self._closed:
            await self._client.show(update)

    async def flush(self) -> None:
        """Have the log hold all that there is to read. Raises RequestError when the session was taken."""
        self._record()
        await self._kept()

    async def save(self) -> None:
        """Have lists show the session as it is. Raises RequestError when it was taken."""
        self._check_held()
        await self._save()

    async def close(self) -> None:
        """Cancel the turn, end what runs beside it, wait for their last words, and let go of the log.

        Then the session is silent.
        """
        if self._closed:
            return
        self._closing = True  # no turn begins any more, though the last one may still end
        with anyio.move_on_after(ENDING, shield=True):
            while self.running:
                self.cancel()
                await self._ended.wait()
        with anyio.move_on_after(ENDING, shield=True):
            await self._background.close()
        self._closed = True
        self._servers.stop()
        self._record()
        with anyio.move_on_after(SAVING, shield=True):
            try:
                await anyio.to_thread.run_sync(self._log.close, abandon_on_cancel=True)
            except (OSError, SessionTaken) as error:
                self._lost(error)

    def _give_up(self) -> None:
        """Another process has the session now."""
        log.warning("session %s was taken over by another process, or deleted", self.id)
        self.taken = True
        self.cancel()
        self._group.start_soon(self._background.close)
        self._servers.stop()

    def _wanted(self, at_once: bool) -> None:
        if self.on_wanted is not None:
            self.on_wanted(at_once)

    def _check_held(self) -> None:
        if self.taken:
            raise _taken(self.id)

    async def _emit(self, update: Update, kept: Update | None = None) -> None:
        """Record and send an update. Raises LocalProtocolError for one that may not be said now, before it is sent.

        `kept` is recorded in its place.

        Raises RequestError for what another process has to say now; that the turn has ended here is told even then.
        """
        await self._hold_telling()
        try:
            if self._closed:
                return
            said = self.state.take(update)
            if self.taken and isinstance(update, TurnEnded):
                await self._client.emit(*said)
            else:
                self._record(kept or update)
                await self._tell(said)
        finally:
            self.telling.release()

    async def _tell(self, said: Sequence[Update]) -> None:
        """Send what was recorded, once it is kept: whoever has heard it will find it in the history."""
        try:
            await self._kept()
        except anyio.get_cancelled_exc_class():
            # It is in the log, so it is told if that can be: else a call might end that was never announced.
            with anyio.move_on_after(MOMENT, shield=True):
                await self._kept()
                for update in said:
                    await self._client.emit(update)
            raise
        for update in said:
            await self._client.emit(update)

    async def _kept(self) -> None:
        self._check_held()
        try:
            await self._log.kept()
        except OSError as error:
            self._lost(error)
        except SessionTaken:
            self.taken = True
            raise _taken(self.id) from None

    async def _hold_telling(self) -> None:
        """Nothing may come between a turn and its record: only a replay holds it up, and no cancel gets in first."""
        try:
            self.telling.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.CancelScope(shield=True):
                await self.telling.acquire()

    async def _ask(self, call: ToolCall, options: Sequence[Option]) -> str | None:
        await self._emit(ActionRequired())
        chosen = await self._client.ask(call, options)
        await self._emit(TurnStarted())
        return chosen

    async def _detached(self, terminal: str) -> None:
        """The command of a terminal goes on beside the turn."""
        self.state.detach(terminal)
        await self._emit(self.state.now())

    # The log ---------------------------------------------------------------------------------------

    def _record(self, update: Update | None = None, *, how: TurnEnded | None = None) -> None:
        """Have the log take what is new: messages, an update, or how the turn ended."""
        entries = self._recorder.entries_of(self._conversation.messages) if self._conversation else []
        if update is not None and (entry := entry_of(update)) is not None:
            entries.append(entry)
        if how is not None:
            entries.append(ended({"stopReason": how.stop_reason, **how.extra}))
        self._append(*entries)

    def _append(self, *entries: Entry) -> None:
        try:
            if entries and not self.taken:
                self._log.append(*entries)
        except (OSError, ValueError) as error:
            self._lost(error)

    async def _save(self) -> None:
        self._record()
        try:
            await anyio.to_thread.run_sync(self._log.sync, self.card, abandon_on_cancel=True)
            self._unsaved = False
        except (OSError, ValueError) as error:
            self._lost(error)
        except SessionTaken:
            self.taken = True
        if self._unsaved and not self.taken:
            await self._emit(Notice("warning", "This session is not being saved", "The agent's log says why."))

    def _lost(self, error: Exception) -> None:
        if not self._unsaved:
            log.error("session %s is no longer saved: %s", self.id, error)
        self._unsaved = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self.running else "idle"
        return f"<Session {self.id} in {self.cwd} [{state}]>"


def _toolbox(workspace: Workspace, terminals: Terminals, background: Background, limit: int) -> Toolbox:
    # Imported here: the tools and their libraries are a fifth of the start-up, and `initialize` needs none of them.
    from .tools import Toolbox

    return Toolbox(workspace, terminals, background, result_limit=limit)


def title_of(text: str) -> str:
    """A title on one line, of a bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def _failure(error: Exception) -> TurnEnded:
    """How a turn that failed is said to have ended."""
    code = error.code if isinstance(error, RequestError) else int(ErrorCode.INTERNAL_ERROR)
    told = isinstance(error, TurnFailed | PromptTooLong)
    message = error.message if isinstance(error, RequestError) else str(error) if told else "The turn failed"
    return TurnEnded("error", extra={"error": {"code": code, "message": message}})


def _taken(id: str) -> RequestError:
    return RequestError(
        ErrorCode.INVALID_REQUEST, "The session was taken over by another server, or deleted.", {"sessionId": id}
    )
