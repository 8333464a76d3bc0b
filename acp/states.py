"""What may happen when, as tables: state → move → next state. A move that is not in the table is not allowed.

`moved` gives the next state or raises: `LocalProtocolError` for a move of ours, before a byte of it is sent, and
`RemoteProtocolError` for one of the peer's, which whoever serves it turns into an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from .errors import LocalProtocolError, RemoteProtocolError
from .updates import ActionRequired, ToolCall, ToolCallUpdate, TurnEnded, TurnStarted, Update

Table = Mapping[str, Mapping[str, str]]

CONNECTION: Final[Table] = {
    "new": {"initialize 1": "version 1", "initialize 2": "version 2"},
    "version 1": {"ask": "version 1"},
    # v2 initialization: it may be repeated as long as nothing else was asked, and not for a lower version.
    "version 2": {"initialize 2": "version 2", "ask": "version 2 in use"},
    "version 2 in use": {"ask": "version 2 in use"},
}
"""A connection, as the agent sees it."""

SESSION: Final[Table] = {
    "idle": {"start": "running", "rest": "idle"},
    "running": {"start": "running", "wait": "waiting", "end": "idle"},
    "waiting": {"start": "running", "wait": "waiting", "end": "idle"},
}
"""A session's foreground work: `wait` is for the user, `rest` says again that nothing runs (v2 prompt lifecycle).

Every state may be said again: with it comes what runs in the background.
"""

TOOL_CALL: Final[Table] = {
    "unknown": {"announce": "open", "announce ended": "over"},
    "open": {"change": "open", "end": "over"},
    "over": {},
}
"""A tool call: it is announced once and ends once (v1 tool calls)."""

TERMINAL: Final[Table] = {
    "unknown": {"create": "running"},
    "running": {"look": "running", "wait": "running", "kill": "running", "exit": "exited", "release": "released"},
    "exited": {"look": "exited", "wait": "exited", "kill": "exited", "release": "released"},
    "released": {},
}
"""A terminal of the client; its id is good until it is released (v1 terminals)."""

ENDED: Final = ("completed", "failed", "cancelled")
"""The statuses that end a tool call."""


def moved(table: Table, state: str, move: str, what: str, *, blame: Literal["us", "peer"] = "us") -> str:
    """The state after a move. Raises LocalProtocolError or RemoteProtocolError, which says what `what` may not."""
    after = table[state].get(move)
    if after is None:
        error = LocalProtocolError if blame == "us" else RemoteProtocolError
        raise error(f"{what} cannot {move}: it is {state}")
    return after


def session_move(update: Update) -> str | None:
    """What an update does to the session's state; None if nothing."""
    match update:
        case TurnStarted():
            return "start"
        case ActionRequired():
            return "wait"
        case TurnEnded(stop_reason):
            return "rest" if stop_reason is None else "end"
        case _:
            return None


def call_move(update: Update) -> tuple[str, str] | None:
    """The tool call that an update is about, and what it does to it."""
    match update:
        case ToolCall(id, status=status):
            return id, "announce ended" if status in ENDED else "announce"
        case ToolCallUpdate(id, status=status):
            return id, "end" if status in ENDED else "change"
        case _:
            return None


class Calls:
    """The states of one session's tool calls."""

    def __init__(self, most: int = 10_000) -> None:
        self._states: dict[str, str] = {}
        self._most = most

    def follow(self, update: Update, *, blame: Literal["us", "peer"] = "us") -> None:
        """Take an update into account. Raises like `moved`, and then nothing has changed."""
        about = call_move(update)
        if about is None:
            return
        id, move = about
        self._states[id] = moved(TOOL_CALL, self._states.get(id, "unknown"), move, f"tool call {id!r}", blame=blame)
        if len(self._states) > self._most:
            self._states.pop(next(iter(self._states)))
