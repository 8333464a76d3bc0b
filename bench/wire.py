"""What the benchmarks of the wire share: who is measured, how one run goes, and how the results are shown.

A side is an agent and a client of one SDK, each a process of its own, joined by pipes. A client is started as
`CLIENT JOB AGENT [ARG ...]`, where JOB is JSON: `task` (`stream`, `ping` or `new`), `count`, `warm` (how many go before
and are not counted), `delay` (seconds that the handler of an update is busy) and `over` (`stdio`, or `ws` or `http` to
an agent that is told `--network` and prints its URL). It prints `{"agent": PID}` when it is
warm and waits for a line; then it does the job and prints `{"seconds", "count", "micros"}`, and waits for another line.
In between we read both processes' CPU time and memory, from outside and alike for all.

The peers are found as `tests/interop` finds them: ACP_PEER_PYTHON is the Python of a virtual environment with
`agent-client-protocol`, ACP_PEER_NODE a folder with `node_modules/@agentclientprotocol/sdk`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
OVER = {"stdio": "", "ws": " over WebSocket", "http": " over HTTP"}
"""What can carry the texts, and how a title says so."""
PATIENCE = 600.0
"""Seconds that one run may take before its processes are killed."""


@dataclass(frozen=True, slots=True)
class Side:
    """An agent and a client that belong together. Of a whole one, the agent is told the job as well."""

    name: str
    client: list[str]
    agent: list[str]
    whole: bool = False
    over: str = "stdio"

    def command(self, job: str) -> list[str]:
        return [*self.client, job, *self.agent, *([job] if self.whole else [])]


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one time: seconds on a CPU, resident memory and the most there ever was, in bytes."""

    cpu: float = 0.0
    resident: int = 0
    peak: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One job of one side, with both processes before and after."""

    seconds: float
    count: int
    micros: list[float]
    client: tuple[Process, Process]
    agent: tuple[Process, Process]

    def cpu(self) -> float:
        """Seconds on a CPU of both, which do not grow when somebody else keeps the CPUs busy."""
        return sum(after.cpu - before.cpu for before, after in (self.client, self.agent))


def sides() -> tuple[list[Side], list[str]]:
    """Who can be measured, and for each peer that cannot, what is missing."""
    ours = BENCH / "ours"
    python = [sys.executable]
    found = [
        Side("ours, Connection", [*python, f"{ours}/client.py"], [*python, f"{ours}/agent.py"]),
        Side(
            "ours, Agent and acp_client",
            [*python, f"{ours}/whole_client.py"],
            [*python, f"{ours}/whole_agent.py"],
            True,
        ),
    ]
    missing: list[str] = []
    peers = BENCH / "peers"
    if peer := os.environ.get("ACP_PEER_PYTHON"):
        found.append(
            Side(
                f"Python SDK {python_sdk(peer)}",
                [peer, f"{peers}/python_client.py"],
                [peer, f"{peers}/python_agent.py"],
            )
        )
    else:
        missing.append("Python SDK: ACP_PEER_PYTHON is not set")
    if folder := os.environ.get("ACP_PEER_NODE"):
        node = typescript_scripts(folder)
        found.append(
            Side(
                f"TypeScript SDK {typescript_sdk(folder)}",
                [*node, f"{folder}/ts_client.mjs"],
                [*node, f"{folder}/ts_agent.mjs"],
            )
        )
    else:
        missing.append("TypeScript SDK: ACP_PEER_NODE is not set")
    return found, missing


def network_sides(over: str) -> tuple[list[Side], list[str]]:
    """Who can be measured over `ws` or `http` on the loopback. The peer's Python needs uvicorn, its Node ws."""
    ours, peers, python = BENCH / "ours", BENCH / "peers", [sys.executable]
    agent = [*python, f"{ours}/agent.py", "--network"]
    found = [Side("ours, Connection", [*python, f"{ours}/client.py"], agent, over=over)]
    missing: list[str] = []
    if peer := os.environ.get("ACP_PEER_PYTHON"):
        client, agent = [peer, f"{peers}/python_client.py"], [peer, f"{peers}/python_network_agent.py"]
        name = f"Python SDK {python_sdk(peer)}"
        if over == "ws":
            found += [
                Side(f"{name}, as it comes: compressed", client, agent, over=over),
                Side(f"{name}, compression off", client, [*agent, "--plain"], over=over),
            ]
        else:
            found.append(Side(name, client, agent, over=over))
    else:
        missing.append("Python SDK: ACP_PEER_PYTHON is not set")
    if folder := os.environ.get("ACP_PEER_NODE"):
        node = typescript_scripts(folder)
        client, agent = [*node, f"{folder}/ts_client.mjs"], [*node, f"{folder}/ts_agent.mjs", "--network"]
        found.append(Side(f"TypeScript SDK {typescript_sdk(folder)}", client, agent, over=over))
    else:
        missing.append("TypeScript SDK: ACP_PEER_NODE is not set")
    return found, missing


def typescript_scripts(folder: str) -> list[str]:
    """Node, which resolves packages from where a script lies; so the scripts are copied to the packages."""
    for script in (BENCH / "peers").glob("*.mjs"):
        shutil.copy(script, folder)
    return [shutil.which("node") or "node"]


def python_sdk(python: str) -> str:
    code = "from importlib.metadata import version; print(version('agent-client-protocol'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def typescript_sdk(folder: str) -> str:
    package = Path(folder) / "node_modules/@agentclientprotocol/sdk/package.json"
    return json.loads(package.read_text())["version"]


# One run ---------------------------------------------------------------------------------------------------------


def run(side: Side, task: str, count: int, *, warm: int = 500, delay: float = 0.0) -> Run:
    """Let a side do a job once, in processes of its own. Raises RuntimeError when it does not."""
    job = json.dumps({"task": task, "count": count, "warm": warm, "delay": delay, "over": side.over})
    with _started(side.command(job)) as process:
        agent = int(_heard(process, side)["agent"])
        before = usage(process.pid), usage(agent)
        _go_on(process)
        told = _heard(process, side)
        after = usage(process.pid), usage(agent)
        _go_on(process)
    expected = count if task == "stream" else 0
    if told["count"] < expected:
        raise RuntimeError(f"{side.name}: {told['count']} of {count} updates arrived")
    return Run(told["seconds"], told["count"], told["micros"], (before[0], after[0]), (before[1], after[1]))


@contextmanager
def _started(command: Sequence[str]) -> Generator[subprocess.Popen[str]]:
    """A client that ends with the block, and its agent with it."""
    pipe = subprocess.PIPE
    ours = command[0] == sys.executable
    env = {name: value for name, value in os.environ.items() if ours or name != "PYTHONPATH"}  # a peer's acp is its own
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=BENCH, env=env)
    try:
        yield process
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()


def _heard(process: subprocess.Popen[str], side: Side) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{side.name}: the client ended: {process.communicate()[1][-2000:]}")
    return json.loads(line)


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def usage(pid: int) -> Process:
    """What the kernel counts for a process; zeros where there is no /proc."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return Process()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith("Vm")}
    ticks = int(numbers[11]) + int(numbers[12])
    # A process that has ended and that nobody waited for has no memory any more.
    return Process(ticks / os.sysconf("SC_CLK_TCK"), sizes.get("VmRSS", 0), sizes.get("VmHWM", 0))


# What is shown ---------------------------------------------------------------------------------------------------


def conditions() -> dict[str, str]:
    """Under which the numbers came about."""
    version = shutil.which("node") and subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "python": sys.version.split()[0],
        "node": (version or "none").strip(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        "commit": _commit(),
    }


def _commit() -> str:
    """What was measured; `+` where the packages differ from the commit."""
    git = ["git", "-C", str(BENCH)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    diff = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "../acp", "../acp_client", "../acp_server"])
    return head + ("+" if diff.returncode else "") if head else "unknown"


def show(
    title: str,
    rows: Sequence[dict[str, str]],
    began: dict[str, str],
    missing: Sequence[str],
    file: str | None,
    details: object,
) -> None:
    """Print a markdown table with its conditions; append the same, and every run, to the file as one line of JSON."""
    heads = list(rows[0])
    ended = conditions()
    facts = {**began, "load": f"{began['load']} before, {ended['load']} after"}
    print(f"\n## {title}\n")
    print(", ".join(f"{name} {value}" for name, value in facts.items()) + "\n")
    print("| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
    for peer in missing:
        print(f"\nNot measured: {peer}.")
    if file:
        with open(file, "a", encoding="utf-8") as out:
            record = {"title": title, "conditions": facts, "rows": rows, "missing": missing, "runs": details}
            out.write(json.dumps(record) + "\n")


def ratio(value: float, names: dict[str, float], peer: str) -> str:
    """`value` as a multiple of a peer's; empty without that peer."""
    base = next((number for name, number in names.items() if name.startswith(peer)), None)
    return "missing" if base is None else f"{value / base:.2f}"


def raw(runs: dict[str, list[Run]]) -> dict[str, list[dict[str, Any]]]:
    """Every run, for JSON."""
    return {name: [{**asdict(run), "micros": []} for run in found] for name, found in runs.items()}
