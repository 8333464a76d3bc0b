"""The table of the README, by runs: our agent and our client, both versions, four carriers.

`PYTHONPATH=tests python tests/conformance/table.py [agent|client] [memory|stdio|ws|http]` judges with every check that
there is for a carrier, and says how many passed, how many failed and why, and how many had nothing to judge.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
from announced import announced
from our_client import BYTES, Ours, OursAtUrl
from test_our_agent import PROMPTS, SCRIPTED, in_this_process

from acp.conformance import AgentSettings, ClientSettings, Command, Report, check_agent, check_client
from acp.conformance.agent.reach import Reach
from acp.conformance.client.checks import client_checks

CARRIERS = ("memory", "stdio", "ws", "http")
STDIO = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", "none"]
CLIENT = [sys.executable, str(Path(__file__).with_name("our_client.py"))]


async def agent(version: int, carrier: str) -> Report:
    settings = AgentSettings(version=version, timeout=30.0, prompts=PROMPTS, jobs=4)
    if carrier in ("ws", "http"):
        async with announced(*SCRIPTED) as server:
            return await check_agent(server.url.replace("http:", f"{carrier}:"), settings)
    reach: Reach = in_this_process() if carrier == "memory" else Command(STDIO)
    return await check_agent(reach, settings)


async def client(version: int, carrier: str) -> Report:
    settings = ClientSettings(version=version, timeout=30.0, linger=0.2, jobs=4)
    if carrier == "stdio":
        return await check_client([*CLIENT, str(version), "{agent:words}"], settings)
    only = [check.id for check in client_checks(version) if check.id not in BYTES]
    client = Ours(version) if carrier == "memory" else OursAtUrl(version, carrier)
    return await check_client(client, settings, only=only)


SIDES: dict[str, Callable[[int, str], Awaitable[Report]]] = {"agent": agent, "client": client}


def main(words: list[str]) -> int:
    """0 if nothing failed."""
    failed = 0
    for side in [word for word in words if word in SIDES] or SIDES:
        for carrier in [word for word in words if word in CARRIERS] or CARRIERS:
            for version in (1, 2):
                report = anyio.run(partial(SIDES[side], version, carrier))
                failed += len(report.failed())
                counted = (
                    f"{report.count('pass')} passed, {len(report.failed())} failed, {report.count('skip')} skipped"
                )
                print(f"{side:6}  {carrier:6}  v{version}  {counted}, {report.seconds:.0f} s", flush=True)
                for outcome in report.failed():
                    print(f"    {outcome.check.id}: {outcome.words[:300]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
