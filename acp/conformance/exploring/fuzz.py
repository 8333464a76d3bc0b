"""Throws mutated lines at an agent: `acp check fuzz [--lines N] [--seed S] [-- COMMAND …]`.

Without a command it is our own `Peer` that has to bear them: it must answer every request once, under its own id, and
nothing else but errors under the null id. With one, the agent is started over stdio, and must live and answer a probe
after each hundred lines. What goes wrong is printed as the lines that did it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

import anyio

from ...command_line import missing, split_command
from ...errors import RequestError
from ...methods import Method
from ...peer import Called, Peer, RequestId
from ...transports.child import ChildTransport, spawn_agent
from ...unions import Free
from .mutations import METHOD_NOT_FOUND, Expectation, expected, mutated

EVERY = 100
"""Lines between two probes."""
PATIENCE = 10.0
"""Seconds that a probe waits for its answer."""
SEEDS: Sequence[tuple[str, dict[str, Any]]] = (
    ("initialize", {"protocolVersion": 1, "clientCapabilities": {"fs": {"readTextFile": True}}}),
    ("session/new", {"cwd": "/tmp", "mcpServers": []}),
    ("session/load", {"sessionId": "s", "cwd": "/tmp", "mcpServers": []}),
    ("session/list", {"cwd": "/tmp"}),
    ("session/prompt", {"sessionId": "s", "prompt": [{"type": "text", "text": "hi", "_meta": {"a": 1}}]}),
    ("session/set_config_option", {"sessionId": "s", "configId": "mode", "value": "ask"}),
    ("session/close", {"sessionId": "s"}),
    ("_ext/call", {"any": [1, 2, {"three": None}]}),
)
NOTIFICATIONS: Sequence[tuple[str, dict[str, Any]]] = (
    ("session/cancel", {"sessionId": "s"}),
    ("$/cancel_request", {"requestId": 3}),
    ("_ext/tell", {"x": "y"}),
)


def seeds() -> list[bytes]:
    """Good lines: requests, notifications, and answers to nothing."""
    messages: list[dict[str, Any]] = []
    for number, (method, params) in enumerate(SEEDS):
        for id in (number, f"id-{number}"):
            messages.append({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    messages += [{"jsonrpc": "2.0", "method": method, "params": params} for method, params in NOTIFICATIONS]
    messages += [
        {"jsonrpc": "2.0", "id": 5, "result": {"outcome": {"outcome": "cancelled"}}},
        {"jsonrpc": "2.0", "id": 6, "error": {"code": -32603, "message": "no", "data": [1]}},
    ]
    return [json.dumps(message).encode() for message in messages]


class Trouble(Exception):
    """A line was not answered as it may be."""


# Our own peer ------------------------------------------------------------------------------------------------------


def judge_peer(peer: Peer, line: bytes, methods: frozenset[str]) -> None:
    """Give one line to the peer and judge what it says. Raises Trouble."""
    wanted = expected(line)
    running: list[RequestId] = []
    for event in peer.receive(line):
        if isinstance(event, Called):
            running.append(event.id)
            peer.fail(event.id, RequestError(-32000, "not here"))
    answers = [json.loads(text) for text in peer.texts_to_send()]
    problem = _problem(wanted, answers)
    if problem is None and wanted.kind == "answer" and wanted.method not in methods:
        code = answers[0].get("error", {}).get("code")
        problem = None if code == METHOD_NOT_FOUND else f"an unknown method was answered with {code}"
    if problem is not None:
        raise Trouble(problem)


def _problem(wanted: Expectation, answers: Sequence[dict[str, Any]]) -> str | None:
    if wanted.kind == "either":
        return None if len(answers) <= 1 else "more than one answer"
    if wanted.kind == "nothing":
        return f"answered {answers[0]}, and nothing may be" if answers else None
    if len(answers) != 1:
        return f"{len(answers)} answers, and one is due"
    [answer] = answers
    if wanted.kind == "answer":
        same = answer.get("id") == wanted.id and type(answer.get("id")) is type(wanted.id)
        return None if same else f"answered under {answer.get('id')!r}, asked under {wanted.id!r}"
    code = answer.get("error", {}).get("code")
    return None if answer.get("id") is None and code in wanted.codes else f"answered {answer}, not {set(wanted.codes)}"


def open_peer() -> tuple[Peer, frozenset[str]]:
    """A peer with the methods of the seeds, whatever their params."""
    peer = Peer()
    requests = [Method(name, "agent", Free, Free) for name, _ in SEEDS if not name.startswith("_")]
    told: list[Method[Free, None]] = [Method(name, "agent", Free) for name, _ in NOTIFICATIONS if name[0] not in "_$"]
    peer.open([*requests, *told])
    return peer, frozenset(method.name for method in [*requests, *told])


def fuzz_peer(lines: Iterator[bytes], count: int) -> Counter[str]:
    """How many lines there were of each kind. Raises Trouble, with the line."""
    peer, methods = open_peer()
    kinds: Counter[str] = Counter()
    for line in islice(lines, count):
        kinds[expected(line).kind] += 1
        try:
            judge_peer(peer, line, methods)
        except Exception as error:
            raise Trouble(f"{error or type(error).__name__}\n  {line!r}") from error
    return kinds


# An agent ----------------------------------------------------------------------------------------------------------


async def fuzz_agent(command: Sequence[str], lines: Iterator[bytes], count: int) -> Counter[str]:
    """The same for an agent that is started for it. Raises Trouble, with the lines since the last good probe."""
    kinds: Counter[str] = Counter()
    async with spawn_agent(list(command)) as transport:
        for number in range(0, count, EVERY):
            batch = list(islice(lines, min(EVERY, count - number)))
            kinds.update(expected(line).kind for line in batch)
            try:
                await _volley(transport, batch, f"probe-{number}")
            except Trouble as trouble:
                shown = "\n".join(f"  {line!r}" for line in batch)
                raise Trouble(f"{trouble}; {transport.epitaph()}\n{shown}") from None
    return kinds


async def _volley(transport: ChildTransport, lines: Sequence[bytes], probe: str) -> None:
    """Send the lines and a probe, and read until it is answered."""
    request = {"jsonrpc": "2.0", "id": probe, "method": "_probe"}

    async def send() -> None:
        for line in lines:
            await transport.send(line)
        await transport.send(json.dumps(request).encode())

    try:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                while True:
                    text = await transport.receive()
                    message = cast("dict[str, Any]", json.loads(text if isinstance(text, bytes) else b"{}"))
                    if message.get("id") == probe:
                        return
    except TimeoutError:
        raise Trouble(f"no answer to a probe in {PATIENCE:g} s") from None
    except BaseExceptionGroup:
        raise Trouble("the agent ended") from None
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        raise Trouble("the agent ended") from None


def main(argv: Sequence[str] | None = None) -> int:
    words, command = split_command(argv)
    parser = argparse.ArgumentParser(prog="acp check fuzz", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    if problem := missing(command):
        parser.error(problem)
    lines = mutated(random.Random(options.seed), seeds())
    began = time.monotonic()
    try:
        kinds = anyio.run(fuzz_agent, command, lines, options.lines) if command else fuzz_peer(lines, options.lines)
    except Trouble as trouble:
        print(f"failed: {trouble}")
        return 1
    except OSError as error:
        print(f"acp check fuzz: the agent cannot be started: {error}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - began
    shown = ", ".join(f"{kind} {number:,}" for kind, number in kinds.most_common())
    print(f"{kinds.total():,} lines in {seconds:.1f} s, {kinds.total() / seconds:,.0f} a second, none failed: {shown}")
    return 0
