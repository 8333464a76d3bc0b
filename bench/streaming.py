"""Updates a second, from an agent to a client: `python bench/streaming.py [--count N] [--runs N] [--json FILE]`.

The agent, a child process on stdio, sends N small `agent_message_chunk` updates in one prompt turn; the client counts
them. What is timed goes from the prompt to its answer and the last update handled, whichever is later. The sides take
turns, and each number is the median of its runs. CPU time is of agent and client together, for wall time depends on
who else uses the machine.
"""

from __future__ import annotations

import argparse
import statistics

from wire import OVER, Run, Side, conditions, network_sides, ratio, raw, run, show, sides


def measure(found: list[Side], count: int, runs: int) -> dict[str, list[Run]]:
    """The runs of each side, which take turns."""
    times: dict[str, list[Run]] = {side.name: [] for side in found}
    for _ in range(runs):
        for side in found:
            times[side.name].append(run(side, "stream", count))
    return times


def table(times: dict[str, list[Run]], count: int) -> list[dict[str, str]]:
    rates = {name: statistics.median(count / one.seconds for one in runs) for name, runs in times.items()}
    costs = {name: statistics.median(one.cpu() / count * 1e6 for one in runs) for name, runs in times.items()}
    rows: list[dict[str, str]] = []
    for name, runs in times.items():
        slowest, fastest = (pick(count / one.seconds for one in runs) for pick in (min, max))
        rows.append(
            {
                "agent and client": name,
                "updates/s": f"{rates[name]:,.0f}",
                "slowest and fastest": f"{slowest:,.0f} to {fastest:,.0f}",
                "x Python SDK": ratio(rates[name], rates, "Python SDK"),
                "x TypeScript SDK": ratio(rates[name], rates, "TypeScript SDK"),
                "CPU µs/update": f"{costs[name]:.0f}",
                "agent's": f"{statistics.median(_cpu_of_agent(one) / count * 1e6 for one in runs):.0f}",
            }
        )
    return rows


def _cpu_of_agent(one: Run) -> float:
    return one.agent[1].cpu - one.agent[0].cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="updates in the turn (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    parser.add_argument("--over", choices=OVER, default="stdio", help="what carries the texts (default: %(default)s)")
    options = parser.parse_args()
    found, missing = sides() if options.over == "stdio" else network_sides(options.over)
    began = conditions()
    times = measure(found, options.count, options.runs)
    over = OVER[options.over]
    title = f"Streaming{over}: {options.count:,} updates in a turn, medians of {options.runs}"
    show(title, table(times, options.count), began, missing, options.json, raw(times))


if __name__ == "__main__":
    main()
