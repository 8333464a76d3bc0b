"""`acp serve` that keeps what is said on each connection: `tapped_serve.py FOLDER [ARG ...]` writes `wire-N.jsonl`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import anyio
from tap import tap

from acp_server.network import serve
from acp_server.network.gate import Visitor
from acp_server.network.visits import ServedTransport

FOLDER = Path(sys.argv[1])
numbers = itertools.count(1)


class TappedTalk(serve.AgentTalk):
    async def __call__(self, transport: ServedTransport, visitor: Visitor, leaving: anyio.Event) -> None:
        tap(transport, FOLDER / f"wire-{next(numbers)}.jsonl", "agent")
        await super().__call__(transport, visitor, leaving)


if __name__ == "__main__":
    serve.AgentTalk = TappedTalk
    sys.exit(serve.main(sys.argv[2:]))
