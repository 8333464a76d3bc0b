"""How a server is reached: by pipes, by HTTP, or over the connection that we have already.

Imported when the first server is offered, for the `mcp` package takes most of a second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Implementation

from .carrier import Carrier
from .offer import Offer
from .over_acp import over_acp
from .pipes import Streams, over_pipes

ANSWER = 60.0
"""Seconds for an HTTP server to take a connection and a request."""
SILENCE = 300.0
"""Seconds between two events of an SSE server."""


def client_of(offer: Offer, cwd: str, carrier: Carrier | None) -> Client:
    """A client, to be entered, of the server that was offered. Raises ValueError for one that cannot be reached."""
    us = Implementation(name="acp-laguna", version="1")
    return Client(_transport(offer, cwd, carrier), client_info=us, cache=None)


def _transport(offer: Offer, cwd: str, carrier: Carrier | None) -> AbstractAsyncContextManager[Streams]:
    match offer.kind:
        case "stdio":
            return over_pipes(offer, cwd)
        case "http":
            return _http(offer)
        case "sse":
            return sse_client(offer.url, dict(offer.headers), timeout=ANSWER, sse_read_timeout=SILENCE)
        case "acp" if carrier is not None:
            return over_acp(carrier, offer.id)
        case _:
            raise ValueError("it is of a type that this agent does not reach")


@asynccontextmanager
async def _http(offer: Offer) -> AsyncGenerator[Streams]:
    # How long an answer may take is the caller's to say.
    timeout = httpx2.Timeout(ANSWER, read=None)
    async with httpx2.AsyncClient(headers=dict(offer.headers), timeout=timeout) as http:
        async with streamable_http_client(offer.url, http_client=http) as streams:
            yield streams
