"""What a session does: its foreground work, its tool calls, and what goes on beside its turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from acp.states import SESSION, Calls, moved, session_move
from acp.updates import ActionRequired, ExitStatus, MessageChunk, State, Terminal, TurnEnded, TurnStarted, Update, Work


class SessionState:
    """One session's. `what` is what an error calls it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._foreground = "idle"
        self._calls = Calls()
        self._background: dict[str, None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no turn was said to run."""
        return self._foreground == "idle"

    def take(self, update: Update) -> Sequence[Update]:
        """What is to be said for an update: every state with all background work, and one more when some has ended.

        Raises LocalProtocolError for an update that may not be said now.
        """
        if type(update) is MessageChunk:
            return (update,)  # nearly all there is to say, at any time
        if (move := session_move(update)) is not None:
            self._foreground = moved(SESSION, self._foreground, move, self._what)
        self._calls.follow(update)
        match update:
            case TurnStarted() | ActionRequired() | TurnEnded():
                return (replace(update, background=self._work()),)
            case Terminal(id, exit=ExitStatus()) if id in self._background:
                del self._background[id]
                return update, self.now()  # v2 background work: the end is told before the list without it
            case _:
                return (update,)

    def detach(self, terminal: str) -> None:
        """From now on the command of a terminal that was told of is background work."""
        self._background[terminal] = None

    def now(self) -> State:
        """The state, to be said once more."""
        match self._foreground:
            case "idle":
                return TurnEnded(None, background=self._work())
            case "waiting":
                return ActionRequired(self._work())
            case _:
                return TurnStarted(self._work())

    def _work(self) -> tuple[Work, ...]:
        return tuple(Work("terminal", id) for id in self._background)
