"""Memory of a stream that the client cannot keep up with: `python bench/memory.py [--count N] [--delay SECONDS]`.

The agent sends N updates, and the client's handler is busy for a while with each. Growth is the most memory that a
process ever had resident, less what it had resident before the stream, when it was warm (Linux only). Of our whole
client there are two rows: with the least agent, which says all in ten long messages, and with the whole one, each of
whose updates is a message of its own. Then one agent of each SDK is sent a line of 32 MiB, one a byte longer and an
ordinary request, in this order.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

from wire import BENCH, Process, Run, Side, conditions, raw, run, show, sides, usage

MIB = 2**20
LIMIT = 32 * MIB
"""Bytes of a line that we take, and so does the TypeScript SDK; the Python SDK has no such limit."""


def whole_client() -> Side:
    """Our client library and the least agent of ours."""
    ours = BENCH / "ours"
    return Side(
        "ours, Connection and acp_client",
        [sys.executable, f"{ours}/whole_client.py"],
        [sys.executable, f"{ours}/agent.py"],
    )


def table(runs: dict[str, list[Run]]) -> list[dict[str, str]]:
    return [
        {
            "agent and client": name,
            "agent grew by MB": _grown(one.agent),
            "client grew by MB": _grown(one.client),
            "agent's peak MB": f"{one.agent[1].peak / 1e6:.1f}",
            "client's peak MB": f"{one.client[1].peak / 1e6:.1f}",
            "seconds": f"{one.seconds:.1f}",
        }
        for name, [one] in runs.items()
    ]


def _grown(process: tuple[Process, Process]) -> str:
    before, after = process
    return f"{(after.peak - before.resident) / 1e6:.1f}" if before.resident else "unknown"


# Long lines ------------------------------------------------------------------------------------------------------


def ping(id: int, size: int = 0) -> bytes:
    """A request; padded to a line of `size` bytes without its end."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": "_ping", "params": {"pad": ""}}
    text = json.dumps(message)
    return text.replace('"pad": ""', '"pad": "' + "x" * max(0, size - len(text)) + '"').encode()


def long_lines(side: Side) -> dict[str, str]:
    """What an agent says to a line of 32 MiB, to one a byte longer, and then."""
    hello = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": 1}}).encode()
    agent = subprocess.Popen(
        side.agent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=BENCH
    )
    try:
        first = _said(agent, hello)
        assert "result" in first, first
        return {
            "agent": side.name,
            "32 MiB": _words(_said(agent, ping(1, LIMIT))),
            "32 MiB + 1": _words(_said(agent, ping(2, LIMIT + 1))),
            "and then": _words(_said(agent, ping(3))),
            "agent's peak MB": f"{usage(agent.pid).peak / 1e6:.0f}",
        }
    finally:
        agent.kill()
        with suppress(BrokenPipeError):
            agent.communicate()


def _said(agent: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
    """The answer to a line; empty if there is none."""
    assert agent.stdin is not None
    assert agent.stdout is not None
    try:
        agent.stdin.write(line + b"\n")
        agent.stdin.flush()
    except BrokenPipeError:
        return {}
    answer = agent.stdout.readline()
    return json.loads(answer) if answer else {}


def _words(answer: dict[str, Any]) -> str:
    if not answer:
        return "the agent ended"
    if "error" in answer:
        return f"error {answer['error']['code']}, id {answer['id']}: {answer['error']['message']}"
    return "answered"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="updates in the turn (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0.0001, help="seconds busy with each (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    parser.add_argument("--only", default="", metavar="NAME", help="measure only the sides whose name has this in it")
    options = parser.parse_args()
    found, missing = sides()
    began = conditions()
    streaming = [side for side in [found[0], whole_client(), *found[1:]] if options.only in side.name]
    runs = {side.name: [run(side, "stream", options.count, delay=options.delay)] for side in streaming}
    title = f"Memory: {options.count:,} updates to a client that is busy for {options.delay * 1000:g} ms with each"
    show(title, table(runs), began, missing, options.json, raw(runs))
    began = conditions()
    rows = [long_lines(side) for side in found if not side.whole and options.only in side.name]
    if rows:
        show("Long lines to an agent", rows, began, missing, options.json, {})


if __name__ == "__main__":
    main()
