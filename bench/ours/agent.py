"""An agent with the least that ours need: a `Connection` on stdin and stdout, and four handlers.

With `--network` over WebSocket and HTTP instead. A prompt `N` streams N updates and ends, `N M` in M messages with ids;
`_ping` and `session/new` answer at once.
"""

from __future__ import annotations

import sys

import anyio

from acp.connection import Connection, Handlers, Transport
from acp.methods import Method
from acp.transports.stdio import stdio_transport
from acp.unions import Free
from acp.updates import MessageChunk, TextBlock
from acp.v1 import schema
from acp.v1.dialect import REPORT, ReportV1

PING: Method[Free, Free] = Method("_ping", "agent", Free, Free)


class StreamingAgent:
    connection: Connection

    def handlers(self) -> Handlers:
        return (
            Handlers()
            .on(schema.INITIALIZE, self.initialize)
            .on(schema.SESSION_NEW, self.new_session)
            .on(schema.SESSION_PROMPT, self.prompt)
            .on(PING, self.ping)
        )

    async def initialize(self, request: schema.InitializeRequest) -> schema.InitializeResponse:
        return schema.InitializeResponse(protocol_version=1)

    async def new_session(self, request: schema.NewSessionRequest) -> schema.NewSessionResponse:
        return schema.NewSessionResponse(session_id="s1")

    async def ping(self, params: Free) -> Free:
        return Free({})

    async def prompt(self, request: schema.PromptRequest) -> schema.PromptResponse:
        [block] = request.prompt
        assert isinstance(block, schema.TextContentBlock)
        count, *messages = map(int, block.text.split())
        for number in range(count):
            id = f"m{number * messages[0] // count}" if messages else None
            report = ReportV1(request.session_id, MessageChunk("agent", TextBlock(f"{number} "), id))
            await self.connection.notify(REPORT, report)
        return schema.PromptResponse(stop_reason="end_turn")


async def talk(transport: Transport) -> None:
    agent = StreamingAgent()
    async with Connection(transport, agent.handlers(), calls=(REPORT,)) as agent.connection:
        await agent.connection.wait_closed()


async def main() -> None:
    async with stdio_transport() as transport:
        await talk(transport)


if __name__ == "__main__":
    if "--network" in sys.argv:
        from network import serve

        anyio.run(serve, talk)
    else:
        anyio.run(main)
