"""Updates over a network that breaks at random: how many are lost, and how many told twice.

`python bench/soak.py [--over ws|http] [--updates N]`. Some clients at a time, each with a network of its own to one
`acp serve`, go through sessions whose turns say numbers, an update each, as fast as they are taken. The network is cut
after a random number of bytes, again and again. What the application is told has to be the numbers, each once and in
order; what is not is counted.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress

import anyio
from serving import served
from wire import BENCH, OVER, conditions, show

from acp.errors import AcpError, ConnectionClosed
from acp.updates import MessageChunk, TextBlock
from acp_client import Client, ConnectionState, Reconnect, connect

sys.path.insert(0, str(BENCH.parent / "tests" / "acp_client"))
from flaky import Network, network_to

CLIENTS = 4
SESSION = 1_000
"""Updates in a session, which is closed then. After a cut its history is read again, up to 250 KB of it."""
PATIENCE = 300.0
"""Seconds that a client tries to come back. An attempt fails when the next cut comes before that history has passed: on
a busy machine and with sessions of twice that length, the minute of the default ran out in some runs."""


class Soak:
    """What happened so far."""

    def __init__(self, updates: int, cut: int, seed: int) -> None:
        self.left, self.cut, self.draw = updates, cut, random.Random(seed)
        self.counts = Counter[str]()

    async def client(self, port: int, scheme: str, folder: str) -> None:
        """One client, for as long as there are sessions to go through."""
        policy = Reconnect(patience=PATIENCE, first=0.02, most=0.5)
        async with network_to(port, scheme) as network:
            async with connect(network.url, reconnect=policy, on_state=self.heard) as client:
                async with anyio.create_task_group() as group:
                    group.start_soon(self.cutting, network)
                    while self.left > 0:
                        self.left -= SESSION
                        while not await self.session(client, folder):
                            self.counts["prompts that never arrived"] += 1
                    group.cancel_scope.cancel()

    async def session(self, client: Client, folder: str) -> bool:
        """Go through one session. False where the connection was lost before the agent had heard of it."""
        expected = 1
        try:
            session = await client.new_session(folder)
            async with session.prompt(str(SESSION)) as turn:
                async for update in turn:
                    if isinstance(update, MessageChunk) and isinstance(update.content, TextBlock):
                        for word in update.content.text.split():
                            expected = self.check(int(word), expected)
        except ConnectionClosed:
            if expected > 1:
                raise
            await anyio.sleep(0.05)
            return False
        with suppress(AcpError):
            await session.close()
        self.counts["lost"] += SESSION + 1 - expected
        self.counts["turns that ended"] += turn.stop_reason == "end_turn"
        return True

    def check(self, number: int, expected: int) -> int:
        """Judge one number; the next one to expect."""
        self.counts["told"] += 1
        if number < expected:
            self.counts["told twice"] += 1
            return expected
        self.counts["lost"] += number - expected
        return number + 1

    def heard(self, state: ConnectionState) -> None:
        self.counts[f"connection {state.state}"] += 1

    async def cutting(self, network: Network) -> None:
        """Cut after some bytes, again and again."""
        while True:
            end = network.passed + self.draw.randrange(1, 2 * self.cut)
            while network.passed < end:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            self.counts["cuts"] += 1
            await network.cut()


async def measure(options: argparse.Namespace) -> dict[str, str]:
    soak = Soak(options.updates, options.cut, options.seed)
    began = time.perf_counter()
    async with served(options.over) as (_, url):
        port = int(url.rsplit(":", 1)[1].removesuffix("/acp"))
        with tempfile.TemporaryDirectory() as folder:
            async with anyio.create_task_group() as group:
                for _ in range(CLIENTS):
                    group.start_soon(soak.client, port, options.over, folder)
    counts, seconds = soak.counts, time.perf_counter() - began
    return {
        "updates told": f"{counts['told']:,}",
        "lost": f"{counts['lost']:,}",
        "told twice": f"{counts['told twice']:,}",
        "cuts": f"{counts['cuts']:,}",
        "connections made anew": f"{counts['connection reconnecting']:,}",
        "given up": f"{counts['connection lost']:,}",
        "prompts that never arrived": f"{counts['prompts that never arrived']:,}",
        "turns that ended well": f"{counts['turns that ended']:,}",
        "seconds": f"{seconds:.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1_000_000, help="in all (default: %(default)s)")
    parser.add_argument("--cut", type=int, default=600_000, help="bytes between two cuts, about (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--over", choices=("ws", "http"), default="ws", help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    options = parser.parse_args()
    began = conditions()
    row = anyio.run(measure, options)
    title = f"A network that is cut at random{OVER[options.over]}: {options.updates:,} updates, {CLIENTS} clients"
    show(title, [row], began, [], options.json, row)


if __name__ == "__main__":
    main()
