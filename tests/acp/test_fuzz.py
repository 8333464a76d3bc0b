"""Mutated lines: none ends the conversation, and each is answered as it may be."""

from __future__ import annotations

import json
import random
import sys
from itertools import islice

import anyio
import pytest

from acp.conformance.exploring.fuzz import Trouble, fuzz_agent, fuzz_peer, judge_peer, open_peer, seeds
from acp.conformance.exploring.mutations import expected, mutated
from acp.peer import Peer
from acp.transports.memory import memory_pair
from acp.v1 import schema
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend


@pytest.mark.timeout(600)  # of a busy machine
def test_a_hundred_thousand_lines_are_answered_as_they_may_be() -> None:
    kinds = fuzz_peer(mutated(random.Random(11), seeds()), 100_000)
    assert kinds.total() == 100_000
    assert min(kinds["nothing"], kinds["refusal"], kinds["answer"]) > 5_000


def test_lines_of_the_real_methods_are_answered_as_they_may_be() -> None:
    peer = Peer()
    methods = [method for method in schema.METHODS if method.side in ("agent", "both")]
    peer.open(methods)
    names = frozenset(method.name for method in methods)
    for line in islice(mutated(random.Random(12), seeds()), 10_000):
        judge_peer(peer, line, names)


@pytest.mark.parametrize(
    ("line", "kind", "codes"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"a"}', "answer", set()),
        (b'{"jsonrpc":"2.0","method":"a"}', "nothing", set()),
        (b'{"jsonrpc":"2.0","id":1,"result":3}', "nothing", set()),
        (b"[]", "refusal", {-32600}),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"a"}', "refusal", {-32600}),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":NaN}}', "refusal", {-32700}),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"\\ud800"}}', "refusal", {-32700}),
        (b"[" * 5000, "refusal", {-32700}),
    ],
)
def test_the_referee_judges_by_the_rules(line: bytes, kind: str, codes: set[int]) -> None:
    judged = expected(line)
    assert judged.kind == kind or judged.kind == "either"
    assert judged.kind == "either" or set(judged.codes) == codes


class Careless(Peer):
    """A peer that answers notifications and forgets what its ids were."""

    def texts_to_send(self) -> list[bytes]:
        return [text.replace(b'"id":null', b'"id":0') for text in super().texts_to_send()] or [b'{"id":1}']


def test_the_referee_catches_a_careless_peer() -> None:
    _, names = open_peer()
    for line in (b"{", b'{"jsonrpc":"2.0","method":"_x"}'):
        with pytest.raises(Trouble):
            judge_peer(Careless(), line, names)


@pytest.mark.anyio
async def test_a_served_agent_lives_through_thousands_of_lines_and_then_takes_a_turn() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:
        group.start_soon(serve, Agent(ScriptedBackend()), theirs)

        async def read_until(id: str) -> dict[str, object]:
            while True:
                text = await ours.receive()
                assert isinstance(text, bytes)
                message = json.loads(text)
                if message.get("id") == id and "method" not in message:
                    return message

        async def ask(id: str, method: str, params: dict[str, object]) -> None:
            await ours.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode())

        with anyio.fail_after(60):
            lines = mutated(random.Random(13), seeds())
            for number in range(40):

                async def volley(number: int = number) -> None:
                    await ours.send(*islice(lines, 50))
                    await ask(f"probe-{number}", "_probe", {})

                group.start_soon(volley)
                assert "error" in await read_until(f"probe-{number}")
        await ours.aclose()


@pytest.mark.anyio
async def test_an_agent_process_lives_through_mutated_lines() -> None:
    command = [sys.executable, "-m", "acp_server", "--backend", "scripted", "--sessions", "none"]
    kinds = await fuzz_agent(command, mutated(random.Random(14), seeds()), 1_000)
    assert kinds.total() == 1_000


@pytest.mark.anyio
async def test_an_agent_that_dies_of_a_line_is_caught_with_the_line() -> None:
    program = "import sys, json\nfor line in sys.stdin.buffer: json.loads(line)['id']"
    with pytest.raises(Trouble, match="the agent ended"):
        await fuzz_agent([sys.executable, "-c", program], iter([b"[]"]), 1)
