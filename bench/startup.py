"""Time from starting the agent's process to its answer to `initialize`: `python bench/startup.py [RUNS]`.

The floor is a bare interpreter that answers one line, measured in the same run, turn by turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

REQUEST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}})
FLOOR = [sys.executable, "-c", "input(); print('{}')"]
AGENTS = {name: [sys.executable, "-m", "acp_server", "--backend", name] for name in ("scripted", "laguna")}


def seconds(command: list[str]) -> float:
    """From the start of the process to its first line."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(REQUEST + "\n")
        process.stdin.flush()
        process.stdout.readline()
        return time.perf_counter() - began


def main(runs: int) -> None:
    times: dict[str, list[float]] = {"floor": [], **{name: [] for name in AGENTS}}
    for _ in range(runs):
        times["floor"].append(seconds(FLOOR))
        for name, command in AGENTS.items():
            times[name].append(seconds(command))
    floor = statistics.median(times["floor"])
    print(f"{runs} runs, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    for name, found in times.items():
        median = statistics.median(found)
        ratio = f"{median / floor:5.1f} x floor"
        print(f"{name:10} median {median * 1000:6.0f} ms   min {min(found) * 1000:6.0f} ms   {ratio}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
