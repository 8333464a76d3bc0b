"""A turn that was asked for on a connection that is gone, and goes on.

What became of it an agent says under `TURN_META`, in the `_meta` of its answer to `session/load` or `session/resume`:
the client's own name of the prompt, whether it runs, and how it ended. Ours does. Of another agent nobody can know, and
then the turn is reported lost.

An agent of several servers may say that another of them still has the session, and when to try again (`retryAfter`).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import anyio

from acp.connection import Connection
from acp.errors import AcpError, ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from acp.updates import Json, TurnEnded

from .surface import Ending, Opened, Place, Surface

PROMPT_META = "acp-laguna/prompt"
TURN_META = "acp-laguna/turn"


class HeldElsewhere(AcpError):
    """Another server of the agent has the session, with its turn perhaps: `seconds` later it may be had."""

    def __init__(self, error: RequestError, seconds: float) -> None:
        super().__init__(error.message)
        self.error = error
        self.seconds = seconds


class RejoinedTurn:
    """A `PendingTurn` whose end is told by updates or by a notification, and no more by an answer."""

    def __init__(self, connection: Connection) -> None:
        self.running = True
        self._connection = connection
        self._fate: Mapping[str, Json] | None = None
        self._known = anyio.Event()

    def settle(self, fate: Mapping[str, Json]) -> None:
        """It has ended."""
        if self._fate is None:
            self._fate = fate
            self._known.set()

    def take(self, update: TurnEnded) -> bool:
        """Whether this idle state is the turn's end (version 2)."""
        if update.stop_reason is not None:
            self.settle({"stopReason": update.stop_reason, **update.extra})
        return update.stop_reason is not None

    async def ended(self) -> Ending:
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            await self._known.wait()
            group.cancel_scope.cancel()
        match self._fate:
            case {"error": {"code": int(code), "message": str(message), **rest}}:
                raise RequestError(code, message, rest.get("data"))
            case {"stopReason": str(reason)}:
                return Ending(reason)
            case None:
                raise ConnectionClosed(self._connection.reason or "closed")
            case _:
                raise RequestError(ErrorCode.INTERNAL_ERROR, "The agent did not say how the turn ended")

    async def _watch(self) -> None:
        await self._connection.wait_closed()
        self._known.set()


async def rejoin(
    surface: Surface, turns: MutableMapping[str, Any], id: str, place: Place, prompt: str
) -> tuple[Opened, RejoinedTurn | ConnectionClosed]:
    """`Surface.rejoin`, of either version; `turns` are its turns by session."""
    turn = turns[id] = RejoinedTurn(surface.connection)
    goes_on = False
    try:
        opened = await open_again(surface, id, place, replay=surface.can_replay)
        lost = _fate(turn, opened.meta, prompt, replayed=surface.can_replay)
        goes_on = lost is None
        return opened, lost or turn
    finally:
        if not goes_on:
            turns.pop(id, None)


async def open_again(surface: Surface, id: str, place: Place, *, replay: bool) -> Opened:
    """`Surface.open_session` of a session that was open; raises HeldElsewhere too."""
    try:
        return await surface.open_session(id, place, replay=replay)
    except RequestError as error:
        match error.data:
            case {"retryAfter": int() | float() as seconds}:
                raise HeldElsewhere(error, max(0.0, seconds)) from error
            case _:
                raise


def may_load(surface: Surface, error: AcpError) -> bool:
    """Whether a session that could not be resumed may be loaded: some agents announce both and have only that."""
    lacks = isinstance(error, RequestError) and error.code == ErrorCode.METHOD_NOT_FOUND
    return surface.can_replay and (lacks or isinstance(error, LocalProtocolError))


def _fate(turn: RejoinedTurn, meta: Mapping[str, Any], prompt: str, *, replayed: bool) -> ConnectionClosed | None:
    """Tell the turn of a prompt what the agent says of it; why it is lost, if it is."""
    match fate := meta.get(TURN_META):
        case {"prompt": str(name), "running": bool(running)} if name == prompt:
            if not running:
                turn.settle({**fate})
            return None
        case {"prompt": _}:
            return ConnectionClosed("the connection was lost before the agent had the prompt; it was not sent again")
        case _:
            words = "the connection was lost in the turn, and the agent does not say what became of it"
            return ConnectionClosed(words if replayed else f"{words}, nor what it said meanwhile")
