"""Moves the texts of a chain: a task reads each hop, another writes to it, and `Chain` says what goes where."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio

from ..tasks import Bell, task_group
from ..transports import Transport
from .chain import CLIENT, Chain
from .link import Link, Stalled

log = logging.getLogger("acp")

LAST_ANSWERS = 0.5
"""Seconds that running requests get to be answered once the client says no more."""
LAST_WORDS = 2.0
"""Seconds that the client gets to read why the chain ends."""


async def conduct(client: Transport, components: Sequence[tuple[str, Transport]]) -> str | None:
    """Connect a client with the components, proxies first and the agent last, until the client ends.

    None if it did; if a component ended or does not read, the words why, which the client's open requests were
    answered with. Closes the transports.
    """
    links = [Link("the client", client), *(Link(*component) for component in components)]
    try:
        return await _Conductor(Chain([link.name for link in links]), links).run()
    finally:
        for link in links:
            await link.aclose()


class _Conductor:
    def __init__(self, chain: Chain, links: Sequence[Link]) -> None:
        self._chain, self._links = chain, links
        self._why: str | None = None
        self._over, self._moved = anyio.Event(), Bell()

    async def run(self) -> str | None:
        client = self._links[CLIENT]
        async with task_group(cancel_at_end=True) as group:
            for hop, link in enumerate(self._links):
                group.start_soon(link.write, name=f"writer to {link.name}")
                group.start_soon(self._read, hop, name=f"reader of {link.name}")
            await self._over.wait()
            for _, message in self._chain.last_answers(self._why) if self._why else ():
                client.put(message)
            with anyio.move_on_after(LAST_WORDS):
                await client.flush()
        return self._why

    async def _read(self, hop: int) -> None:
        link = self._links[hop]
        try:
            while True:
                for target, message in self._chain.receive(hop, await link.transport.receive()):
                    await self._links[target].send(message)
                self._moved.ring()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            if hop == CLIENT:
                await self._client_ended()
            else:
                epitaph = link.transport.epitaph()
                self._end(f"{link.name} has gone" + (f"; {epitaph}" if epitaph else ""))
        except Stalled as stalled:
            self._end(str(stalled))

    async def _client_ended(self) -> None:
        """The client may still read, as in `echo MESSAGE | acp conductor …`."""
        with anyio.move_on_after(LAST_ANSWERS):
            while self._chain.routes.waiting(CLIENT):
                await self._moved.wait()
        self._over.set()

    def _end(self, why: str) -> None:
        if not self._over.is_set():
            log.error("the chain ends: %s", why)
            self._why = why
            self._over.set()
