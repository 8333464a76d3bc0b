"""What keeping a session costs: `python bench/stores.py [--count N] [--sessions N]`.

Each update is appended, and waited for until it is kept, as a session does before it tells it: one session alone, then
many at once in one process, each waiting for its own. Rates are of all sessions together. Stores take turns, and the
medians of several runs are shown beside the file journal's, which leaves syncing to the end of a turn, as SQLite does;
PostgreSQL syncs each commit. The floor is a file to which each update is written and synced. PostgreSQL is one of ours,
on the same disk, over a Unix socket. A log of 10,000 entries is opened again as well, and a session handed over from
one store to another that asks for it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from wire import conditions, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from postgres_server import missing, postgres_server

from acp_server.storage.opening import open_store
from acp_server.storage.store import Card, Entry, Log, Store

UPDATE: Entry = {
    "update": {
        "=": "ToolCallUpdate",
        "id": "t1.1",
        "status": "completed",
        "content": [{"=": "BlockContent", "block": {"=": "TextBlock", "text": "The quick brown fox. " * 5}}],
    }
}
LONG = 10_000


@dataclass
class Figures:
    """Of one store, a value for each run. Microseconds, updates a second, milliseconds."""

    one: list[float] = field(default_factory=list[float])
    worst: list[float] = field(default_factory=list[float])
    alone: list[float] = field(default_factory=list[float])
    many: list[float] = field(default_factory=list[float])
    many_worst: list[float] = field(default_factory=list[float])
    opening: list[float] = field(default_factory=list[float])


async def write(log: Log, count: int, micros: list[float]) -> None:
    for _ in range(count):
        began = time.perf_counter()
        log.append(UPDATE)
        await log.kept()
        micros.append((time.perf_counter() - began) * 1e6)
        await anyio.lowlevel.checkpoint()


async def measure(store: Store, figures: Figures, count: int, sessions: int, run: int) -> None:
    log, micros = store.create(Card(f"one-{run}", "/w")), list[float]()
    await write(log, 50, [])
    began = time.perf_counter()
    await write(log, count, micros)
    figures.alone.append(count / (time.perf_counter() - began))
    figures.one.append(statistics.median(micros))
    figures.worst.append(statistics.quantiles(micros, n=100)[98])
    await anyio.to_thread.run_sync(log.close)

    logs = [store.create(Card(f"many-{run}-{n}", "/w")) for n in range(sessions)]
    micros, each = list[float](), max(1, count // 20)
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for log in logs:
            group.start_soon(write, log, each, micros)
    figures.many.append(each * sessions / (time.perf_counter() - began))
    figures.many_worst.append(statistics.quantiles(micros, n=100)[98])
    for log in logs:
        await anyio.to_thread.run_sync(log.close)

    log = store.create(Card(f"long-{run}", "/w"), [UPDATE] * LONG)
    await anyio.to_thread.run_sync(log.close)
    began = time.perf_counter()
    _, entries, log = await anyio.to_thread.run_sync(store.open, f"long-{run}")
    figures.opening.append((time.perf_counter() - began) * 1e3)
    assert len(entries) == LONG
    await anyio.to_thread.run_sync(log.close)


def floor(folder: Path, count: int) -> tuple[float, float]:
    """Microseconds to write and sync one update: the median, and the worst hundredth."""
    micros, line = list[float](), b"x" * 200 + b"\n"
    with open(folder / "floor", "ab", buffering=0) as file:
        for _ in range(count):
            began = time.perf_counter()
            file.write(line)
            os.fdatasync(file.fileno())
            micros.append((time.perf_counter() - began) * 1e6)
    return statistics.median(micros), statistics.quantiles(micros, n=100)[98]


async def handed_over(open_one: Callable[[], Store], runs: int) -> list[float]:
    """Milliseconds from asking to having, where the owner lets go as soon as it hears of it; leases of 10 s."""
    first, second, millis = open_one(), open_one(), list[float]()
    for run in range(runs):
        log = first.create(Card(f"handed-{run}-{os.getpid()}", "/w"))
        wanted = anyio.Event()
        log.watch(lambda: None, lambda at_once, wanted=wanted: wanted.set())
        await anyio.sleep(run / runs)  # at any time between two beats
        began = time.perf_counter()
        await anyio.to_thread.run_sync(second.want, f"handed-{run}-{os.getpid()}")
        await wanted.wait()
        await anyio.to_thread.run_sync(log.close)
        _, _, log = await anyio.to_thread.run_sync(second.open, f"handed-{run}-{os.getpid()}")
        millis.append((time.perf_counter() - began) * 1e3)
        await anyio.to_thread.run_sync(log.close)
    for store in (first, second):
        await anyio.to_thread.run_sync(store.close)
    return millis


def places(exits: ExitStack, folder: Path) -> Iterator[tuple[str, str]]:
    yield "files", f"file:{folder / 'files'}"
    yield "SQLite", f"sqlite:{folder / 'sessions.db'}"
    if missing() is None:
        yield "PostgreSQL", exits.enter_context(postgres_server(fsync=True)).url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="updates of one session (default: %(default)s)")
    parser.add_argument("--sessions", type=int, default=100, help="at once (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of each store (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    options = parser.parse_args()
    began = conditions()
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(dir=".")))
        names = dict(places(exits, folder))
        stores: dict[str, Store] = {name: open_store(url) for name, url in names.items()}
        figures = {name: Figures() for name in stores}
        floors = list[tuple[float, float]]()
        for run in range(options.runs):
            floors.append(floor(folder, options.count // 4))
            for name, store in stores.items():
                anyio.run(measure, store, figures[name], options.count, options.sessions, run)
        for store in stores.values():
            store.close()
        handovers = {
            name: anyio.run(handed_over, lambda url=url: open_store(url), 10)
            for name, url in names.items()
            if name != "files"
        }
    files = figures["files"]
    rows: list[dict[str, str]] = []
    for name, found in figures.items():
        middle = statistics.median
        rows.append(
            {
                "store": name,
                "median µs to keep one": f"{middle(found.one):,.0f}",
                "worst hundredth": f"{middle(found.worst):,.0f}",
                "updates/s, one session": f"{middle(found.alone):,.0f}",
                "x files": f"{middle(found.alone) / middle(files.alone):.3f}",
                f"updates/s, {options.sessions} sessions": f"{middle(found.many):,.0f}",
                "slowest and fastest": f"{min(found.many):,.0f} to {max(found.many):,.0f}",
                "x files ": f"{middle(found.many) / middle(files.many):.3f}",
                "worst hundredth of theirs, ms": f"{middle(found.many_worst) / 1e3:.1f}",
                f"ms to open {LONG:,} entries": f"{middle(found.opening):,.0f}",
                "ms to hand over, median and most": "-"
                if name not in handovers
                else f"{middle(handovers[name]):,.0f}, {max(handovers[name]):,.0f}",
            }
        )
    one, worst = (statistics.median(values) for values in zip(*floors, strict=True))
    rows.append(dict.fromkeys(rows[0], "-"))
    rows[-1] |= {"store": "floor: write and fdatasync", "median µs to keep one": f"{one:,.0f}"}
    rows[-1] |= {"worst hundredth": f"{worst:,.0f}", "updates/s, one session": f"{1e6 / one:,.0f}"}
    lacking = [f"PostgreSQL: {why}"] if (why := missing()) else []
    show(
        f"Keeping updates, medians of {options.runs}",
        rows,
        began,
        lacking,
        options.json,
        [vars(f) for f in figures.values()],
    )


if __name__ == "__main__":
    main()
