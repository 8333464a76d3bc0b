"""The whole agent of `acp_server` with a scripted model that says COUNT parts in its last turn: `whole_agent.py JOB`.

Text and thoughts take turns, for the agent joins text that follows text into thirty updates a second: so every part
is an update of its own. The turns before the last are the warming up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import anyio

from acp.transports.stdio import stdio_transport
from acp_server.agent import Agent, serve
from acp_server.model import Text, Thought
from acp_server.scripted import Cue, ScriptedBackend


def turn(count: int) -> Sequence[Cue]:
    return ([Text("12345 "), Thought("12345 ")] * (count // 2 + 1))[:count]


async def main() -> None:
    job = json.loads(sys.argv[1])
    agent = Agent(ScriptedBackend([turn(job["warm"]), turn(job["count"])]))
    async with stdio_transport() as transport:
        await serve(agent, transport)


if __name__ == "__main__":
    anyio.run(main)
