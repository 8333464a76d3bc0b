"""What a session says: each update is in its log before the client hears it, and nothing comes in between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread

from acp.errors import ErrorCode, RequestError
from acp.updates import ActionRequired, Notice, ToolCall, TurnEnded, TurnStarted, Update

from .permissions import Option
from .state import SessionState
from .storage.history import Recorder, ended, entry_of
from .storage.store import Card, Entry, Log, SessionTaken
from .turn.calls import Ask
from .turn.chunks import Emit
from .turn.conversation import Conversation
from .turn.turn import PromptTooLong, TurnFailed
from .workspace.workspace import Overlay

log = logging.getLogger(__name__)

SAVING = 5.0
"""Seconds that the disk gets to take a turn."""
MOMENT = 0.3
"""Seconds that a cancelled turn gives the store to keep what is still to be told."""


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


class Teller:
    """A session's voice and its memory. `entries` are what the log held when it was opened.

    A log that cannot be written is no reason to be silent: the user is told, once, that nothing is saved any more.
    """

    def __init__(self, id: str, store: Log, entries: Sequence[Entry], client: Client) -> None:
        self._id = id
        self._log = store
        self._client = client
        self._recorder = Recorder(entries)
        self._unsaved = False
        self.conversation: Conversation | None = None
        """The messages that are recorded with what is told."""
        self.state = SessionState(f"session {id}")
        self.lock = anyio.Lock(fast_acquire=True)
        """Held while an update is recorded and sent. Whoever holds it sees a history that nothing is missing from."""
        self.taken = False
        """Whether another process has the session now, or has deleted it."""
        self.closed = False

    # To the client ---------------------------------------------------------------------------------

    async def emit(self, update: Update, kept: Update | None = None) -> None:
        """Record and send an update. Raises LocalProtocolError for one that may not be said now, before it is sent.

        `kept` is recorded in its place.

        Raises RequestError for what another process has to say now; that the turn has ended here is told even then.
        """
        await self._hold()
        try:
            if self.closed:
                return
            said = self.state.take(update)
            if self.taken and isinstance(update, TurnEnded):
                await self._client.emit(*said)
            else:
                self.record(kept or update)
                await self._tell(said)
        finally:
            self.lock.release()

    async def ask(self, call: ToolCall, options: Sequence[Option]) -> str | None:
        """The option that the user chose; None: the question was cancelled."""
        await self.emit(ActionRequired())
        chosen = await self._client.ask(call, options)
        await self.emit(TurnStarted())
        return chosen

    async def show(self, update: Update) -> None:
        """Send an update that is no news: a part of the history, or what is offered."""
        if not self.closed:
            await self._client.show(update)

    async def _tell(self, said: Sequence[Update]) -> None:
        """Send what was recorded, once it is kept: whoever has heard it will find it in the history."""
        try:
            await self.kept()
        except anyio.get_cancelled_exc_class():
            # It is in the log, so it is told if that can be: else a call might end that was never announced.
            with anyio.move_on_after(MOMENT, shield=True):
                await self.kept()
                for update in said:
                    await self._client.emit(update)
            raise
        for update in said:
            await self._client.emit(update)

    async def _hold(self) -> None:
        """Nothing may come between a turn and its record: only a replay holds it up, and no cancel gets in first."""
        try:
            self.lock.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.CancelScope(shield=True):
                await self.lock.acquire()

    # To the log ------------------------------------------------------------------------------------

    def record(self, update: Update | None = None, *, how: TurnEnded | None = None) -> None:
        """Have the log take what is new: messages, an update, or how the turn ended."""
        told = self.conversation
        entries = self._recorder.entries_of(told.messages, told.summary) if told else []
        if update is not None and (entry := entry_of(update)) is not None:
            entries.append(entry)
        if how is not None:
            entries.append(ended({"stopReason": how.stop_reason, **how.extra}))
        self.append(*entries)

    def append(self, *entries: Entry) -> None:
        try:
            if entries and not self.taken:
                self._log.append(*entries)
        except (OSError, ValueError) as error:
            self._lost(error)

    async def kept(self) -> None:
        """Wait until the store has what was recorded. Raises RequestError when the session was taken."""
        self.check_held()
        try:
            await self._log.kept()
        except OSError as error:
            self._lost(error)
        except SessionTaken:
            self.taken = True
            raise taken_away(self._id) from None

    async def save(self, card: Card) -> None:
        """Have the disk take all there is, and the card; tells the user when it does not."""
        self.record()
        try:
            await anyio.to_thread.run_sync(self._log.sync, card, abandon_on_cancel=True)
            self._unsaved = False
        except (OSError, ValueError) as error:
            self._lost(error)
        except SessionTaken:
            self.taken = True
        if self._unsaved and not self.taken:
            await self.emit(Notice("warning", "This session is not being saved", "The agent's log says why."))

    async def close(self) -> None:
        """Be silent from here on, and let go of the log."""
        self.closed = True
        self.record()
        with anyio.move_on_after(SAVING, shield=True):
            try:
                await anyio.to_thread.run_sync(self._log.close, abandon_on_cancel=True)
            except (OSError, SessionTaken) as error:
                self._lost(error)

    def check_held(self) -> None:
        """Raises RequestError when the session was taken."""
        if self.taken:
            raise taken_away(self._id)

    def _lost(self, error: Exception) -> None:
        if not self._unsaved:
            log.error("session %s is no longer saved: %s", self._id, error)
        self._unsaved = True


def failure(error: Exception) -> TurnEnded:
    """How a turn that failed is said to have ended."""
    code = error.code if isinstance(error, RequestError) else int(ErrorCode.INTERNAL_ERROR)
    told = isinstance(error, TurnFailed | PromptTooLong)
    message = error.message if isinstance(error, RequestError) else str(error) if told else "The turn failed"
    return TurnEnded("error", extra={"error": {"code": code, "message": message}})


def taken_away(id: str) -> RequestError:
    """What is answered to whoever asks something of a session that another process has now."""
    return RequestError(
        ErrorCode.INVALID_REQUEST, "The session was taken over by another server, or deleted.", {"sessionId": id}
    )
