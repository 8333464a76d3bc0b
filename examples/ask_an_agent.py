"""Give an agent one prompt and print its answer: `python examples/ask_an_agent.py "acp agent" DIRECTORY PROMPT`."""

import sys

import anyio

from acp_client import Host, allow_edits, connect


async def main(agent: str, directory: str, prompt: str) -> None:
    async with connect(agent, host=Host(ask=allow_edits)) as client:
        session = await client.new_session(directory)
        async with session.prompt(prompt) as turn:
            print(await turn.text())
        print(f"({turn.stop_reason}, {turn.usage.output if turn.usage else '?'} tokens)", file=sys.stderr)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
