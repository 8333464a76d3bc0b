"""An MCP server that is a child process: its stdin and stdout carry JSON texts, a line each.

The package has such a transport too; ours bounds a line, keeps what the server writes to stderr out of our own log and
for the message that says why it ended, and notices the end at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from acp.environment import clean_environment
from acp.tasks import task_group
from acp.transports import Oversize
from acp.transports.child import ChildTransport, spawn_agent

from .offer import Offer

log = logging.getLogger(__name__)

PATIENCE = 0.7
"""Seconds that a server gets to end by itself, and again after SIGTERM: the agent has to be gone soon after."""

Streams = tuple[Any, Any]


class ServerEnded(Exception):
    """The server's process has ended, or said what cannot be read; the message says what is known of it."""


@asynccontextmanager
async def over_pipes(offer: Offer, cwd: str) -> AsyncGenerator[Streams]:
    """The streams of a server that is started in `cwd`, in our environment without its secrets, and the offer's.

    Raises OSError when it cannot be started, and ServerEnded out of the block when it ends before that does.
    """
    env = {**clean_environment(os.environ), **dict(offer.env)}
    async with spawn_agent([offer.command, *offer.args], cwd=cwd, env=env, patience=PATIENCE) as child:
        said, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, asked = anyio.create_memory_object_stream[SessionMessage](0)
        async with said, read, write, asked, task_group(cancel_at_end=True) as group:
            group.start_soon(_hear, child, said)
            group.start_soon(_say, child, asked)
            yield read, write


async def _hear(child: ChildTransport, said: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    while True:
        try:
            text = await child.receive()
        except anyio.EndOfStream:
            raise ServerEnded(child.epitaph() or "it ended") from None
        if isinstance(text, Oversize):  # whoever waits for this answer would wait for ever
            raise ServerEnded(str(text))
        try:
            message = SessionMessage(jsonrpc_message_adapter.validate_json(text, by_name=False))
        except ValueError:
            log.debug("an MCP server wrote a line that is no message to its stdout")
            continue
        await said.send(message)


async def _say(child: ChildTransport, asked: MemoryObjectReceiveStream[SessionMessage]) -> None:
    try:
        async for item in asked:
            await child.send(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode())
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        return  # its stdout will end too, and that says why
