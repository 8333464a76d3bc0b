"""Our agent keeps the protocol: both versions, in this process and over the network whole, over stdio its own part.

`table.py` judges it whole over stdio too, which takes longer than these tests may.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import anyio
import pytest
from announced import announced

from acp.conformance.agent.reach import Command, Here, Reach
from acp.conformance.agent.run import check_agent
from acp.conformance.agent.settings import AgentSettings
from acp.conformance.verdicts import Report
from acp.transports import Transport
from acp.unstable import Unstable
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend

PROMPTS = {
    "cancel": "slow",
    "ask": "run echo hi",
    "run": "run echo hi",
    "read": "read acp-check.txt",
    "edit": "write acp-check.txt hello",
    "plan": "plan",
    "background": 'call shell {"cmd": "sleep 20", "background": true}',
}
"""What the scripted model takes for the suite's prompts."""
UNSTABLE: tuple[Unstable, ...] = ("archive", "status", "title", "auth_status")
SCRIPTED = [
    sys.executable,
    "-m",
    "acp",
    "serve",
    "--http",
    "127.0.0.1:0",
    "--backend",
    "scripted",
    "--sessions",
    "none",
]


def in_this_process() -> Here:
    async def talk(transport: Transport) -> None:
        await serve(Agent(ScriptedBackend(), unstable=UNSTABLE), transport)

    return Here(talk)


def judge(reach: Reach, version: int, *only: str) -> Report:
    settings = AgentSettings(version=version, timeout=60.0, prompts=PROMPTS, jobs=4)
    return anyio.run(functools.partial(check_agent, reach, settings, only=only))


def faults(report: Report) -> list[tuple[str, str]]:
    return [(o.check.id, o.words) for o in report.failed()]


@pytest.mark.parametrize("version", [1, 2])
def test_our_agent_conforms_in_this_process(version: int) -> None:
    report = judge(in_this_process(), version)
    assert faults(report) == []
    assert report.conformant
    assert report.count("pass") > 75


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("version", [1, 2])
def test_our_agent_conforms_over_the_network(version: int, scheme: str) -> None:
    async def run() -> Report:
        async with announced(*SCRIPTED) as server:
            settings = AgentSettings(version=version, timeout=60.0, prompts=PROMPTS, jobs=4)
            return await check_agent(server.url.replace("http:", f"{scheme}:"), settings)

    report = anyio.run(run)
    assert faults(report) == []
    assert [o.verdict for o in report.outcomes if o.check.id == "carrier.anew"] == ["pass"]


@pytest.mark.parametrize("version", [1, 2])
def test_our_agent_conforms_over_stdio(version: int, tmp_path: Path) -> None:
    agent = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", str(tmp_path)]
    only = ("turn.tour", "rpc.split", "rpc.joined", "end.stdin", "wire.utf8", "wire.purity")
    report = judge(Command(agent), version, *only)
    assert {o.check.id: o.verdict for o in report.outcomes} == dict.fromkeys(only, "pass")
