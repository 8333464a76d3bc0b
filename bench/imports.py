"""Time of imports in fresh interpreters: `python bench/imports.py [--runs N] [--json FILE]`.

Each import is a process of its own, timed from its start to its end, and so is a bare interpreter. They take turns;
each number is the median of its runs, and what an import costs is its median less the bare interpreter's. A first run,
which may have to compile, is not counted. The peer's `acp` imports all that it has; ours is a docstring, so what
compares is `acp_client` or `acp_server`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from wire import BENCH, conditions, python_sdk, show

PEER = "Python SDK"
OURS = ["acp", "acp.connection", "acp.v1.schema", "acp.v2.schema", "acp_client", "acp_server"]


def seconds(python: str, code: str) -> float:
    began = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, cwd=BENCH)
    return time.perf_counter() - began


def subjects() -> tuple[dict[str, tuple[str, str, str]], list[str]]:
    """Interpreter, code and bare row of each row, and what is missing."""
    bare = "bare interpreter"
    found = {bare: (sys.executable, "pass", bare)}
    found |= {f"`import {name}`": (sys.executable, f"import {name}", bare) for name in OURS}
    if not (peer := os.environ.get("ACP_PEER_PYTHON")):
        return found, [f"{PEER}: ACP_PEER_PYTHON is not set"]
    theirs = f"its {bare}"
    found[f"{PEER} {python_sdk(peer)}: `import acp`"] = (peer, "import acp", theirs)
    found[theirs] = (peer, "pass", theirs)
    return found, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="runs of each import (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    options = parser.parse_args()
    found, missing = subjects()
    began = conditions()
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(options.runs + 1):
        for name, (python, code, _) in found.items():
            took = seconds(python, code)
            if turn:
                times[name].append(took)
    medians = {name: statistics.median(runs) * 1000 for name, runs in times.items()}
    costs = {name: medians[name] - medians[bare] for name, (_, _, bare) in found.items()}
    peer = next((costs[name] for name in found if name.startswith(PEER)), None)
    rows = [
        {
            "what": name,
            "median ms": f"{medians[name]:.0f}",
            "fastest ms": f"{min(times[name]) * 1000:.0f}",
            "costs ms": f"{costs[name]:.0f}",
            "x Python SDK": "missing" if peer is None else f"{costs[name] / peer:.2f}",
        }
        for name in found
    ]
    show(f"Imports in fresh interpreters, medians of {options.runs}", rows, began, missing, options.json, times)


if __name__ == "__main__":
    main()
