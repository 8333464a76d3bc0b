"""Prompts that wait for their turn: in version 2 a client may say more while the agent still works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from acp.errors import AcpError, ErrorCode, RequestError
from acp.tasks import Bell
from acp.updates import Block, Json

from .model import ModelError
from .session import Session
from .turn.turn import PromptTooLong, TurnFailed

log = logging.getLogger(__name__)

MOST = 16
"""Prompts of one session that may wait."""


class Queue:
    """One session's prompts, first come, first served. A turn runs in the group, beside the request that began it."""

    def __init__(self, session: Session, group: TaskGroup) -> None:
        self._session = session
        self._group = group
        self._lock = anyio.Lock()
        self._tickets: list[_Ticket] = []
        self._fewer = Bell()

    async def insert(
        self, text: str, blocks: Sequence[Block], name: Json = None, began: Callable[[], None] | None = None
    ) -> str:
        """Wait until the prompt is part of the conversation; the id of its message. `began` is called then.

        `name` is what the client calls the prompt by.

        Raises RequestError: -32800 if it was withdrawn before that, and what the prompt itself is refused with.
        """
        if sum(not ticket.done.is_set() for ticket in self._tickets) >= MOST:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"More than {MOST} prompts wait in this session.")
        ticket = _Ticket(name, began)
        self._tickets.append(ticket)
        self._group.start_soon(self._run, ticket, text, blocks)
        try:
            await ticket.done.wait()
        except anyio.get_cancelled_exc_class():
            ticket.waiting.cancel()
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.message_id

    def clear(self) -> None:
        """Withdraw every prompt that still waits."""
        for ticket in list(self._tickets):
            ticket.waiting.cancel()

    async def empty(self) -> None:
        """Wait until no prompt waits and no turn runs."""
        while self._tickets:
            await self._fewer.wait()

    async def _run(self, ticket: _Ticket, text: str, blocks: Sequence[Block]) -> None:
        try:
            with ticket.waiting:
                await self._lock.acquire()
                ticket.holds = True
            if not ticket.waiting.cancel_called:
                await self._session.wait_idle()  # a turn may have begun on another connection
                await self._session.prompt(text, blocks, name=ticket.name, inserted=ticket.insert)
        except PromptTooLong as error:
            ticket.fail(RequestError.invalid_params(str(error)))
        except ModelError as error:
            ticket.fail(RequestError(ErrorCode.INTERNAL_ERROR, error.told()))
        except TurnFailed as error:
            ticket.fail(RequestError(ErrorCode.INTERNAL_ERROR, str(error)))
        except RequestError as error:
            ticket.fail(error)
        except AcpError as error:
            log.info("a turn of session %s was cut short: %s", self._session.id, error)
        except Exception:
            log.exception("a turn of session %s failed", self._session.id)
            ticket.fail(RequestError(ErrorCode.INTERNAL_ERROR, "Internal error"))
        finally:
            if ticket.holds:
                self._lock.release()
            ticket.fail(RequestError.cancelled())
            self._tickets.remove(ticket)
            self._fewer.ring()


class _Ticket:
    """A prompt's place: it waits, and then is inserted or refused, once."""

    def __init__(self, name: Json, began: Callable[[], None] | None) -> None:
        self.name = name
        self._began = began
        self.waiting = anyio.CancelScope()
        self.holds = False
        self.done = anyio.Event()
        self.message_id = ""
        self.error: RequestError | None = None

    def insert(self, message_id: str) -> None:
        self.message_id = message_id
        if self._began is not None:
            self._began()
        self.done.set()

    def fail(self, error: RequestError) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()
