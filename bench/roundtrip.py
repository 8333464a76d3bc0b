"""Round trip of a request: `python bench/roundtrip.py [--count N] [--runs N] [--json FILE]`.

A client asks and waits for the answer, N times in sequence; a row is the median of its runs' medians. `_ping` is an
extension request that is answered with nothing; `session/new` is answered with a fixed id by the small agents, and by
the whole agent with a session that it makes and the client closes again, untimed; the whole client has no `_ping`.
The worst hundredth is the median of the runs' 99th percentiles.
"""

from __future__ import annotations

import argparse
import statistics

from wire import OVER, Run, Side, conditions, network_sides, ratio, raw, run, show, sides

WHAT = {"ping": "_ping", "new": "session/new"}


def measure(found: list[Side], task: str, count: int, runs: int) -> dict[str, list[Run]]:
    """The runs of each side that knows the task; the sides take turns."""
    able = [side for side in found if not (side.whole and task == "ping")]
    times: dict[str, list[Run]] = {side.name: [] for side in able}
    for _ in range(runs):
        for side in able:
            times[side.name].append(run(side, task, count))
    return times


def table(times: dict[str, list[Run]], count: int) -> list[dict[str, str]]:
    middles = {name: statistics.median(statistics.median(one.micros) for one in runs) for name, runs in times.items()}
    return [
        {
            "agent and client": name,
            "median µs": f"{middles[name]:.0f}",
            "worst hundredth µs": f"{statistics.median(_worst(one.micros) for one in runs):.0f}",
            "x Python SDK": ratio(middles[name], middles, "Python SDK"),
            "x TypeScript SDK": ratio(middles[name], middles, "TypeScript SDK"),
            "CPU µs": f"{statistics.median(one.cpu() / count * 1e6 for one in runs):.0f}",
        }
        for name, runs in times.items()
    ]


def _worst(micros: list[float]) -> float:
    return statistics.quantiles(micros, n=100)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="requests in a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    parser.add_argument("--over", choices=OVER, default="stdio", help="what carries the texts (default: %(default)s)")
    options = parser.parse_args()
    found, missing = sides() if options.over == "stdio" else network_sides(options.over)
    over = OVER[options.over]
    for task, method in WHAT.items():
        began = conditions()
        times = measure(found, task, options.count, options.runs)
        title = f"Round trip of {method}{over}: {options.count:,} in sequence, medians of {options.runs}"
        show(title, table(times, options.count), began, missing, options.json, raw(times))


if __name__ == "__main__":
    main()
