"""A session: its turns, one at a time, what it reports outside of them, and its state."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from acp.errors import AcpError, ConnectionClosed, LocalProtocolError, RemoteProtocolError, RequestError
from acp.merging import merged
from acp.states import Calls
from acp.updates import (
    UNSET,
    ActionRequired,
    Block,
    Capabilities,
    Choice,
    Command,
    Commands,
    ConfigOption,
    ConfigOptions,
    Message,
    MessageChunk,
    ModeChanged,
    Notice,
    OtherOption,
    SessionInfo,
    StateUnknown,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    TurnEnded,
    TurnStarted,
    Unset,
    Update,
    may_cancel,
)

from .catchup import CatchUp, Told
from .host.elicitation import Answer, Dismissed, Request
from .host.host import Host, PermissionRequest
from .ledger import Ledger
from .rejoined import HeldElsewhere, may_load, open_again
from .snapshot import Change, Snapshot
from .surface import Opened, PendingTurn, Place, Question, Surface
from .turn import Turn

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger("acp")

KEPT_UPDATES = 1024
"""Updates outside of turns that a session keeps; the oldest go first."""
KEPT_CALLS = 1024
"""Tool calls that a session remembers, to complete what a permission request leaves out."""
CATCH_UP = 1.0
"""Seconds that a question waits for the updates before it to be read."""
GAP = Notice(
    "warning",
    "Something may be missing here",
    "The connection was lost for a while, and the agent cannot tell again what it said meanwhile.",
)

OnClose = Callable[[str], None]


class Session:
    """One conversation with the agent. Made by `Client.new_session`, or by the agent, for a subagent.

    `updates` keeps what the agent reported outside of turns: before the first, between two, after the last, and at any
    time which commands there are; `history` is what was said before the session was loaded. `options`, `mode`,
    `commands` and `title` are as last reported.

    `subagents` are the sessions that the agent made for this one, whose `parent` it is (unstable). All that one of them
    says is in its `updates` and its `snapshot`; it takes no prompts, and may be cancelled if its parent's snapshot says
    so.
    """

    def __init__(self, id: str, cwd: str, surface: Surface, host: Host, group: TaskGroup, on_close: OnClose) -> None:
        self.id = id
        self.cwd = cwd
        self.updates: deque[Update] = deque(maxlen=KEPT_UPDATES)
        self.turn: Turn | None = None
        self.surface = surface
        self.place = Place(cwd)
        self.supervisor: Supervisor | None = None
        self.parent: Session | None = None
        self.subagents: dict[str, Session] = {}
        self._host = host
        self._group = group
        self._on_close = on_close
        self._told = Told()
        self._catch_up: CatchUp | None = None
        self.saw_beginning = True
        self.history: list[Update] = []
        self.is_loading = False
        self.title: str | None = None
        self.options: tuple[ConfigOption | OtherOption, ...] = ()
        self.mode: str | None = None
        self.modes: tuple[Choice, ...] = ()
        self.commands: tuple[Command, ...] = ()
        self._calls: dict[str, ToolCall] = {}
        self._messages: dict[str, None] = {}
        self._states = Calls(KEPT_CALLS)
        self._ledger = Ledger()
        self._prompts = 0
        self.on_change: Callable[[Change], None] | None = None
        self._questions: set[anyio.CancelScope] = set()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self.turn else "idle"
        unread = len(self.turn.inbox) if self.turn else 0
        return f"<Session {self.id} [{state}, {unread} updates unread]>"

    def prompt(self, text: str, *, attachments: Sequence[Block] = ()) -> Turn:
        """A turn, which begins when its block is entered."""
        self._check_owned()
        return Turn(self, (TextBlock(text), *attachments), self._group)

    async def cancel(self) -> None:
        """Ask the agent to end the turn; dismiss every open question. Without a turn nothing happens.

        Of a subagent, end what it does now. Raises LocalProtocolError where the agent does not offer that.
        """
        if self.parent is not None:
            known = self.parent.snapshot.subagents.get(self.id)
            self.parent.check_cancellable(f"subagent {self.id}", known.capabilities if known is not None else None)
            await self.surface.cancel(self.id)
            self.dismiss_questions()
        elif self.turn is not None:
            await self.turn.cancel()

    @property
    def snapshot(self) -> Snapshot:
        """The session as it stands, as one value. `on_change` is told what the next one has different."""
        return self._ledger.snapshot

    async def set_option(self, id: str, value: str | bool) -> None:
        """Set one of `options`. Raises RequestError, ConnectionClosed."""
        self._check_owned()
        self.options = await self.surface.set_option(self.id, id, value)
        self._note(ConfigOptions(self.options))

    async def set_mode(self, mode: str) -> None:
        """Change the mode: by the option that stands for it, or as agents do that have modes and no options."""
        self._check_owned()
        option = next((o for o in self.options if isinstance(o, ConfigOption) and o.category == "mode"), None)
        if option is not None:
            await self.set_option(option.id, mode)
        else:
            await self.surface.set_mode(self.id, mode)
        self.mode = mode
        self._note(ModeChanged(mode))

    async def cancel_call(self, call_id: str) -> None:
        """Have the agent cancel one call of the turn, which its updates then tell (version 2).

        Raises LocalProtocolError where the agent does not offer that, RequestError if it is too late.
        """
        call = self._calls.get(call_id)
        if self.surface.dialect.version > 1:
            self.check_cancellable(f"call {call_id}", call.capabilities if call is not None else None)
        await self.surface.cancel_call(self.id, call_id)

    async def cancel_terminal(self, terminal_id: str) -> None:
        """Have the agent stop what runs in one of its terminals. Raises like `cancel_call`."""
        terminal = self.snapshot.terminals.get(terminal_id)
        if self.surface.dialect.version > 1:
            self.check_cancellable(f"terminal {terminal_id}", terminal.capabilities if terminal is not None else None)
        await self.surface.cancel_terminal(self.id, terminal_id)

    @staticmethod
    def check_cancellable(what: str, capabilities: Capabilities | Unset | None) -> None:
        if not may_cancel(capabilities):
            raise LocalProtocolError(f"the agent does not offer to cancel {what} now")

    def _check_owned(self) -> None:
        if self.parent is not None:
            raise LocalProtocolError(f"session {self.id} is a subagent's: the agent alone leads it")

    async def close(self) -> None:
        """End the session: its turn is cancelled, what nobody read is dropped.

        Nothing is raised when the agent is gone, and its sessions with it; one behind a network that is away keeps
        the session until it misses us. Raises RequestError where an agent of version 2 refuses.
        """
        if self._closed:
            return
        self._check_owned()
        self._closed = True
        if self.turn is not None:
            await self.turn.leave()
        self.updates.clear()
        self._on_close(self.id)
        try:
            await self.surface.close_session(self.id)
        except ConnectionClosed as error:
            log.info("session %s is closed, and the agent was not told: %s", self.id, error)
        finally:
            if self._host.terminals is not None:
                await self._host.terminals.close_session(self.id)

    # For the turn and the client -------------------------------------------------------------------

    def begin(self, turn: Turn) -> None:
        if self._closed:
            raise LocalProtocolError(f"session {self.id} is closed")
        if self.turn is not None:
            raise LocalProtocolError(f"session {self.id} has a turn already; leave it or cancel it first")
        self.turn = turn
        if self.surface.dialect.version == 1:  # which neither says the prompt back nor when a turn begins
            self._prompts += 1
            self._note(Message("user", f"prompt {self._prompts}", tuple(turn.blocks)))
            self._note(TurnStarted())

    def end(self, turn: Turn) -> None:
        if self.turn is turn:
            self.turn = None
            if self.surface.dialect.version == 1:
                self._note(TurnEnded(turn.stop_reason or "error"))

    def take(self, opened: Opened) -> None:
        """What the agent said when it opened the session."""
        self.options, self.mode, self.modes = opened.options, opened.mode, opened.modes
        self.commands = opened.commands or self.commands
        if opened.options:
            self._note(ConfigOptions(opened.options))
        if opened.mode is not None:
            self._note(ModeChanged(opened.mode))
        if opened.commands:
            self._note(Commands(opened.commands))

    async def receive(self, update: Update) -> None:
        """Put an update where it will be read, in the words that are the same in every version."""
        if self._catch_up is not None:
            await self._receive_again(update, self._catch_up)
            return
        if not self.is_loading:  # a replay tells again what is over
            self._judge(update)
        self._note(update)
        for word in self._words(update):
            if self.is_loading and not isinstance(word, Commands):
                if isinstance(word, MessageChunk):
                    self._told.note(word)
                self.history.append(word)
            else:
                await self._deliver(word)

    async def rejoin(self, surface: Surface) -> tuple[Turn, PendingTurn | AcpError] | None:
        """Go on over another connection: how the turn goes on that was open.

        Raises ConnectionClosed, RequestError, HeldElsewhere.
        """
        self.surface, turn = surface, self.turn
        if turn is None or turn.has_ended:
            runs = any(terminal.exit is None for terminal in self.snapshot.terminals.values())
            if runs and surface.can_replay:  # perhaps no more, and nobody was there to hear of its end
                await self._learn_again(surface)
            else:
                await self._resume(surface)
            return None
        try:
            return turn, await self._rejoin_turn(surface, turn)
        except HeldElsewhere:
            raise
        except AcpError as error:
            if surface.connection.closed:
                raise
            return turn, error

    async def _rejoin_turn(self, surface: Surface, turn: Turn) -> PendingTurn | AcpError:
        text = "".join(block.text for block in turn.blocks if isinstance(block, TextBlock))
        assert turn.name is not None  # since there is a supervisor
        with self._replaying(text) if surface.can_replay else nullcontext():
            opened, pending = await surface.rejoin(self.id, self.place, turn.name)
            self.take(opened)
        if isinstance(pending, AcpError):
            return pending
        if not surface.can_replay:
            await self.receive(GAP)
        if turn.is_cancelled:
            await surface.cancel(self.id)
        return pending

    async def _resume(self, surface: Surface) -> None:
        try:
            self.take(await open_again(surface, self.id, self.place, replay=False))
        except (RequestError, LocalProtocolError) as error:
            if not may_load(surface, error):
                raise
            await self._learn_again(surface)

    async def _learn_again(self, surface: Surface) -> None:
        with self._replaying(None):
            self.take(await open_again(surface, self.id, self.place, replay=True))

    @contextmanager
    def _replaying(self, prompt: str | None) -> Generator[None]:
        """What comes while the block lasts is the history once more. `prompt` is the running turn's."""
        self._catch_up = CatchUp(self._told, self._calls, self.snapshot.plans, prompt, whole=self.saw_beginning)
        self._ledger.begin_replay()
        complete = False
        try:
            yield
            complete = True
        finally:
            self._catch_up = None
            self._ledger.end_replay(complete=complete)

    async def _receive_again(self, update: Update, catch_up: CatchUp) -> None:
        """Take an update of a replay: the state as a whole, the application what it has not heard."""
        match update:
            case MessageChunk("user") if self.surface.dialect.version == 1:
                self._ledger.asked_again(update)
            case MessageChunk(message_id=None) if not self.saw_beginning:
                pass  # nobody can say whether it is there already
            case _:
                self._note(update)
        for missed in catch_up.missed(update):
            for word in self._words(missed):
                await self._deliver(word)

    async def _deliver(self, word: Update) -> None:
        if isinstance(word, MessageChunk):
            self._told.note(word)
        # Version 1 tells the commands some time after it has answered, and version 2 in the answer: they are no turn's.
        if self.turn is None or isinstance(word, Commands) or not await self.turn.inbox.put(word):
            self.updates.append(word)

    def _judge(self, update: Update) -> None:
        """Note where the agent breaks the rules of tool calls; what it said is taken all the same."""
        try:
            self._states.follow(update, blame="peer")
        except RemoteProtocolError as error:
            log.info("session %s: %s", self.id, error)

    def _note(self, update: Update) -> None:
        change = self._ledger.apply(update)
        if change is not None and self.on_change is not None:
            self.on_change(change)

    def keep(self, update: Update) -> None:
        """Take an update that came before the session was known."""
        self._note(update)
        self.updates.extend(self._words(update))

    def _words(self, update: Update) -> Sequence[Update]:
        """The update as the application reads it.

        What begins something says so in every version: the first change of a call that was never announced is its
        announcement, and a message is told in chunks until it changes as a whole. When a turn begins and ends is told
        by the turn.
        """
        match update:
            case ToolCall():
                self._remember(update)
            case ToolCallUpdate() if update.id not in self._calls:
                call = merged(None, update)
                self._remember(call)
                return [call]
            case ToolCallUpdate():
                self._remember(merged(self._calls[update.id], update))
            case MessageChunk(message_id=str(id)):
                self._begun(id)
            case Message(role, id) if self._begun(id):
                blocks = update.content if isinstance(update.content, tuple) else ()
                return [MessageChunk(role, block, id, update.extra) for block in blocks]
            case ConfigOptions():
                self.options = update.options
            case ModeChanged():
                self.mode = update.mode
            case Commands():
                self.commands = update.commands
            case SessionInfo(title):
                self.title = self.title if title is UNSET else title
            case TurnStarted() | ActionRequired() | TurnEnded() | StateUnknown():
                return []
            case _:
                pass
        return [update]

    def _begun(self, message_id: str) -> bool:
        """Whether a message begins here."""
        if message_id in self._messages:
            return False
        self._messages[message_id] = None
        if len(self._messages) > KEPT_CALLS:
            self._messages.pop(next(iter(self._messages)))
        return True

    def _remember(self, call: ToolCall) -> None:
        self._calls[call.id] = call
        if len(self._calls) > KEPT_CALLS:
            self._calls.pop(next(iter(self._calls)))

    async def ask(self, question: Question) -> str | None:
        """The host's answer; None when it has none, and when the turn is cancelled meanwhile.

        The request waits a moment for the updates that came before it, so that the user sees them first.
        """
        if self.turn is not None and self.turn.is_cancelled:
            return None
        call = merged(self._calls.get(question.call.id), question.call)
        options = question.options
        request = PermissionRequest(
            self.id, self.cwd, call, options, question.title or call.title, question.description
        )
        chosen: str | None = None
        scope = anyio.CancelScope()
        self._questions.add(scope)
        try:
            with scope:
                if self.turn is not None:
                    with anyio.move_on_after(CATCH_UP):
                        await self.turn.inbox.caught_up()
                chosen = await self._host.ask(request)
        finally:
            self._questions.discard(scope)
        if chosen is not None and all(chosen != option.id for option in options):
            raise ValueError(f"{chosen!r} was not offered")
        return None if scope.cancel_called else chosen

    async def elicit(self, request: Request) -> Answer:
        """The user's answer; none when the turn is cancelled meanwhile."""
        if self._host.elicit is None or (self.turn is not None and self.turn.is_cancelled):
            return Dismissed()
        answer: Answer = Dismissed()
        scope = anyio.CancelScope()
        self._questions.add(scope)
        try:
            with scope:
                if self.turn is not None:
                    with anyio.move_on_after(CATCH_UP):
                        await self.turn.inbox.caught_up()
                answer = await self._host.elicit(request)
        finally:
            self._questions.discard(scope)
        return Dismissed() if scope.cancel_called else answer

    def dismiss_questions(self) -> None:
        """Answer every open question with `cancelled` (v1 prompt turn: a cancelled turn leaves none open)."""
        for scope in self._questions:
            scope.cancel()
