"""Our client library with all that it can do: `our_client.py VERSION AGENT-COMMAND…`. Prompts once; SIGINT cancels."""

from __future__ import annotations

import os
import signal
import sys

import anyio

from acp.errors import AcpError
from acp_client import (
    Accepted,
    Dismissed,
    Host,
    LocalFiles,
    LocalTerminals,
    PermissionRequest,
    Turn,
    allow_all,
    connect,
)
from acp_client.host.elicitation import Answer, FormRequest, Request


async def ask(request: PermissionRequest) -> str | None:
    if "Wait" in request.title or "Wait" in (request.call.title or ""):
        await anyio.sleep_forever()
    return await allow_all(request)


async def elicit(request: Request) -> Answer:
    return Accepted(request.defaults) if isinstance(request, FormRequest) else Dismissed()


async def cancel_on_interrupt(turn: Turn) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            await turn.cancel()


async def main(version: int, agent: list[str]) -> None:
    cwd = os.getcwd()
    async with LocalTerminals(cwd) as terminals:
        host = Host(ask=ask, files=LocalFiles(cwd), terminals=terminals, elicit=elicit)
        async with connect(agent, host=host, version=version) as client:
            able = client.info.capabilities
            if able.get("loadSession"):
                session = await client.load_session("kept", cwd)
            else:
                session = await client.new_session(cwd)
            async with anyio.create_task_group() as group, session.prompt("hello") as turn:
                group.start_soon(cancel_on_interrupt, turn)
                await turn.text()
                group.cancel_scope.cancel()
            await session.close()


if __name__ == "__main__":
    try:
        anyio.run(main, int(sys.argv[1]), sys.argv[2:])
    except* AcpError as errors:
        sys.exit(str(errors.exceptions[0]))
