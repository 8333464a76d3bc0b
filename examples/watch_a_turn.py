"""Print every tool call of a turn and stop it at the third: `python examples/watch_a_turn.py DIRECTORY PROMPT`."""

import sys

import anyio

from acp.updates import ToolCall
from acp_client import connect, own_agent


async def main(directory: str, prompt: str, *options: str) -> None:
    async with connect(own_agent(*options)) as client:
        session = await client.new_session(directory)
        calls = 0
        async with session.prompt(prompt) as turn:  # leaving the block early cancels the turn
            async for update in turn:
                if isinstance(update, ToolCall):
                    print(update.kind, update.title, flush=True)
                    calls += 1
                    if calls == 3:
                        break
        print(turn.stop_reason)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], *sys.argv[3:])
