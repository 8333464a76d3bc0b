"""Keeps a client of a remote agent connected.

When a connection is lost the supervisor connects again, after jittered and growing pauses, agrees on a version anew and
resumes every session. It cannot be told from outside whether a request that was on its way had arrived: prompts are
never sent again, and what else was asked meanwhile fails with ConnectionClosed. A turn goes on where the agent says
that it does (`rejoined`), and its updates continue where they broke off, each told once (`catchup`).

Behind one URL there may be several servers. One that cannot open a session since another still has it is left again:
the next connection may lead to the other, or the session may be free by then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import anyio

from acp.errors import AcpError, ConnectionClosed
from acp.tasks import Bell
from acp.transports.remote import CannotConnect, ClientTransport

from .launch import CannotStart, Remote, open_url
from .reconnect import ConnectionState, OnState, Reconnect, pauses
from .rejoined import HeldElsewhere

if TYPE_CHECKING:
    from .client import Client
    from .surface import PendingTurn
    from .turn import Turn

log = logging.getLogger("acp")

START = 30.0
"""Seconds that connecting, agreeing on a version and opening the sessions again may take."""
MOST_HAD = 8
"""Connections that a server is told of as having been lost, the last ones."""
_FINAL_STATUSES = {400, 401, 403, 404, 405, 421, 426}


class Supervisor:
    """One client's. `run` is a task of the client's; it ends when the connection is over for good."""

    def __init__(self, client: Client, url: str, remote: Remote, policy: Reconnect, on_state: OnState | None) -> None:
        self._client, self._url, self._remote, self._policy = client, url, remote, policy
        self._on_state = on_state
        self._transport: ClientTransport | None = None
        self._tried: ClientTransport | None = None
        self._had: Sequence[str] = ()
        self._turns: dict[Turn, PendingTurn | AcpError] = {}
        self._changed = Bell()
        self._over = False
        self._last = ""
        """Why the last attempt to connect again failed."""
        self._why = ""
        """Why there are no more of them."""
        self.closing = False

    async def turn_lost(self, turn: Turn, error: ConnectionClosed) -> PendingTurn:
        """How a turn goes on whose connection is gone. Raises what ended it."""
        while turn not in self._turns:
            if self._over or self.closing:
                raise ConnectionClosed(f"{error.reason}; {self._why}") if self._why else error
            await self._changed.wait()
        found = self._turns.pop(turn)
        if isinstance(found, AcpError):
            raise found
        return found

    async def run(self, transport: ClientTransport) -> None:
        """Watch, and connect again as often as needed."""
        self._take(transport)
        self._tell("connected")
        try:
            await self._client.connection.wait_closed()
            while not self.closing and await self._reconnect():
                pass
        finally:
            self._over = True
            self._changed.ring()
        if not self.closing:
            self._tell("lost", "; ".join(filter(None, (self._client.connection.reason, self._why))))

    async def _reconnect(self) -> bool:
        """One gap and the connection after it, to its end. False when there will be none."""
        assert self._transport is not None
        if self._transport.is_final:
            self._why = "another connection would end alike"
            return False
        self._tell("reconnecting", self._client.connection.reason or "")
        deadline = anyio.current_time() + self._policy.patience
        for count, pause in enumerate(pauses(self._policy)):
            if anyio.current_time() + pause > deadline:
                self._why = f"connecting again was given up after {count} attempts in {self._policy.patience:g} s"
                self._why += f", of which the last: {self._last}" if count else ""
                return False
            await anyio.sleep(pause)
            outcome = await self._attempt(patient=anyio.current_time() + self._policy.most < deadline)
            if outcome is not None:
                self._why = "" if outcome else f"connecting again is of no use: {self._last}"
                return outcome
        return False

    async def _attempt(self, *, patient: bool) -> bool | None:
        """Connect, and stay so as long as it lasts: True. None for a failure that may pass, False for another.

        When it is not `patient`, a session that is held elsewhere does without.
        """
        # What is opened here lives in the exits, so the scope that limits the opening has to enclose them.
        with anyio.CancelScope(deadline=anyio.current_time() + START) as limit:
            async with AsyncExitStack() as exits:
                try:
                    await self._connect(exits, patient=patient)
                except (CannotStart, ConnectionClosed, HeldElsewhere) as error:
                    return await self._judge(error)
                except AcpError as error:
                    self._last = f"the agent is another one now: {error}"
                    log.error("%s", self._last)
                    return False
                limit.deadline = math.inf
                self._tell("connected")
                await self._client.connection.wait_closed()
                return True
        self._last = f"the sessions were not open again within {START:g} s"
        return None

    async def _judge(self, error: AcpError) -> bool | None:
        self._last = str(error)
        cause = error.__cause__ or (None if self._tried is None else self._tried.refusal)
        if isinstance(cause, ValueError) or getattr(cause, "status", None) in _FINAL_STATUSES:
            log.error("cannot connect again: %s", error)
            return False
        log.info("cannot connect again yet: %s", error)
        after = cause.retry_after if isinstance(cause, CannotConnect) else None
        if isinstance(error, HeldElsewhere):
            after = error.seconds
        if after is not None:
            await anyio.sleep(min(after, self._policy.most))
        return None

    async def _connect(self, exits: AsyncExitStack, *, patient: bool) -> None:
        # Until one works, the last one that did is what we had, its cookies too.
        remote = replace(self._remote, cookies=self._remote.cookies.copy())
        # A server that has not missed a connection yet lets go of it when it is told of the one that follows.
        transport = self._tried = await open_url(self._url, exits, remote, replaces=self._had)
        transport.farewell = (1001, "trying another connection")  # sessions are to wait
        try:
            turns = await self._client.adopt(transport, exits, patient=patient)
        finally:
            self._had = [*self._had[-MOST_HAD:], *_ids(transport)]
        transport.farewell = (1000, "")
        self._remote = remote
        self._take(transport)
        self._turns.update(turns)
        self._changed.ring()

    def _take(self, transport: ClientTransport) -> None:
        self._transport = transport
        self._had = _ids(transport)

    def _tell(self, state: Literal["connected", "reconnecting", "lost"], reason: str = "") -> None:
        log.info("%s%s", state, f": {reason}" if reason else "")
        if self._on_state is not None:
            self._on_state(ConnectionState(state, reason))


def _ids(transport: ClientTransport) -> list[str]:
    return [] if transport.connection_id is None else [transport.connection_id]
