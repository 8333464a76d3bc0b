"""`laguna turns`: what the engine makes of conversations: turns that go on, changes, company, and guesses.

A slice of the real width with random weights, as in `laguna bench`, behind the engine that serves. Answers are drawn
from what a script allows, one token at a time, so that they say what the measurement needs and the engine does not know
of it: a text that repeats itself, or one in which nothing comes twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from ..engine.engine import Engine
from ..engine.generation import Generation
from ..engine.limits import Limits
from ..engine.request import Allowed, Finish, Request, Step
from ..model.config import LagunaConfig
from ..model.device import keep_freed_memory
from ..model.forward import Laguna, joined
from .slice import SHAPES, pooled_weights, shape_config

NEW = 16  # tokens that a turn adds to what was said
SAID = 8  # tokens of an answer in between


class Script:
    """Lets one text come and nothing else; each token is drawn all the same."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens, self.at = tokens, 0

    def next(self) -> Allowed:
        return Allowed.only(self.tokens[self.at % len(self.tokens)])

    def take(self, token: int) -> None:
        self.at += 1


@dataclass(frozen=True)
class Turns:
    """Of one conversation of `context` tokens. Seconds are those to the first token."""

    context: int
    cold: float
    next_turn: float
    saved: float
    """share of the tokens that were known which were not computed again"""
    edited: int
    """known tokens read again after a change in the middle, those behind the change not counted as known"""


@dataclass(frozen=True)
class Company:
    """Of `sessions` answers at a time, while all of them speak: tokens a second of all, and how many the slowest got
    as a share of the quickest's."""

    sessions: int
    pace: float
    fairness: float


@dataclass(frozen=True)
class Guessed:
    """Of one sort of text: tokens a second with guesses over those without, and how many were guessed right."""

    text: str
    ratio: float
    guessed: float


def random_tokens(config: LagunaConfig, count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(100, config.vocab_size, (count,), generator=generator).tolist()


def asked(engine: Engine, prompt: Sequence[int], many: int, script: Sequence[int]) -> tuple[float, list[int], Finish]:
    """Seconds to the first token, the tokens, and the end."""
    begun, first = time.perf_counter(), 0.0
    said: list[int] = []
    request = Request(prompt=tuple(prompt), max_tokens=many, constraints=(Script(script),), session="one")
    for step in engine.generate(request):
        if isinstance(step, Finish):
            return first, said, step
        first = first or time.perf_counter() - begun
        said.append(step.token)
    raise AssertionError("an answer without an end")


def turns(laguna: Laguna, context: int) -> Turns:
    engine = Engine(laguna, storage="bfloat16", limits=Limits(guess=False))
    config = laguna.config
    history = random_tokens(config, context, 1)
    cold, said, _ = asked(engine, history, SAID, random_tokens(config, SAID, 2))
    known = len(history) + len(said) - 1  # the last one that was said has not been run
    history = [*history, *said, *random_tokens(config, NEW, 3)]
    warm, said, finish = asked(engine, history, SAID, random_tokens(config, SAID, 4))
    middle = len(history) // 2 + 1
    changed = [*history[:middle], *random_tokens(config, NEW, 5)]
    edit = asked(engine, changed, 1, random_tokens(config, 1, 6))[2]
    return Turns(context, cold, warm, finish.cached / known, middle - edit.cached)


def company(laguna: Laguna, sessions: int, tokens: int) -> Company:
    engine = Engine(laguna, storage="bfloat16", limits=Limits(running=sessions, guess=False))
    config = laguna.config
    most = tokens + 4 * sessions  # the first ones speak while the last one's prompt is read
    script = random_tokens(config, most, 7)
    running: list[Generation] = []
    for index in range(sessions):
        prompt = tuple(random_tokens(config, 32, 10 + index))
        running.append(engine.begin(Request(prompt=prompt, max_tokens=most, constraints=(Script(script),))))
    came = [0] * sessions
    while not all(came):
        took(engine, running, came)
    begun, before = time.perf_counter(), list(came)
    while max(came) < most:
        took(engine, running, came)
    seconds, new = time.perf_counter() - begun, [now - then for now, then in zip(came, before, strict=True)]
    return Company(sessions, sum(new) / seconds, min(new) / max(new))


def took(engine: Engine, running: Sequence[Generation], came: list[int]) -> None:
    engine.step()
    for index, one in enumerate(running):
        came[index] += sum(isinstance(step, Step) for step in one.take())


def guessed(laguna: Laguna, text: str, tokens: int, rounds: int) -> Guessed:
    config = laguna.config
    script = random_tokens(config, 24, 8) if text == "repetitive" else random_tokens(config, tokens, 9)
    engines = [Engine(laguna, storage="bfloat16", limits=Limits(guess=guess)) for guess in (True, False)]
    prompt = [*script, *random_tokens(config, 64, 11)] if text == "repetitive" else random_tokens(config, 88, 11)
    ratios: list[float] = []
    share = 0.0
    for _ in range(rounds + 1):
        (quick, finish), (plain, _) = side_by_side(engines, prompt, tokens, script)
        share = max(share, finish.guessed / finish.generated)
        ratios.append(plain / quick)
    return Guessed(text, statistics.median(ratios[1:]), share)


def side_by_side(
    engines: Sequence[Engine], prompt: Sequence[int], tokens: int, script: Sequence[int]
) -> list[tuple[float, Finish]]:
    """The same answer from each engine: seconds after the first token, and the end. Who has said least goes on, so that
    a neighbour who takes the machine for a second takes it from all alike."""

    def request() -> Request:
        return Request(prompt=tuple(prompt), max_tokens=tokens, constraints=(Script(script),))

    answers = [engine.generate(request()) for engine in engines]
    seconds, came = [0.0] * len(engines), [0] * len(engines)
    ends: dict[int, Finish] = {}
    while len(ends) < len(engines):
        index = min((index for index in range(len(engines)) if index not in ends), key=came.__getitem__)
        begun = time.perf_counter()
        step = next(answers[index])
        if came[index]:
            seconds[index] += time.perf_counter() - begun
        if isinstance(step, Finish):
            ends[index] = step
        came[index] += 1
    return [(seconds[index], ends[index]) for index in range(len(engines))]


# The command ---------------------------------------------------------------------------------------------


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="laguna turns", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="xs2")
    parser.add_argument("--layers", type=int, default=4, metavar="N")
    parser.add_argument("--context", type=int, default=1024, metavar="N", help="tokens of the conversation")
    parser.add_argument("--tokens", type=int, default=48, metavar="N", help="of each answer that is timed")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of answers with guesses and without")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of tables")
    given = parser.parse_args(argv)
    for name, least, most in (("layers", 1, 70), ("context", 64, 130_000), ("tokens", 2, 4096), ("rounds", 1, 100)):
        if not least <= getattr(given, name) <= most:
            parser.error(f"--{name} is {getattr(given, name)}; it is from {least} to {most}")
    return given


def main(argv: Sequence[str]) -> int:
    given = arguments(argv)
    torch.set_num_threads(given.threads)
    config = LagunaConfig.from_dict(shape_config(given.shape, given.layers))
    keep_freed_memory()
    laguna = Laguna(config, joined(pooled_weights(config)))
    found = turns(laguna, given.context)
    shared = [company(laguna, sessions, given.tokens) for sessions in (1, 2, 4, 8)]
    ahead = [guessed(laguna, text, given.tokens, given.rounds) for text in ("repetitive", "random")]
    conditions: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "shape": f"{given.shape}, {given.layers} layers, random weights",
        "tokens": given.tokens,
        "threads": given.threads,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if given.json:
        tables = {"turns": asdict(found), "company": list(map(asdict, shared)), "guesses": list(map(asdict, ahead))}
        print(json.dumps(conditions | tables))
        return 0
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    print(f"\n{found.context:,} tokens: first token after {found.cold:.2f} s cold, {found.next_turn:.3f} s in the next")
    print(f"turn ({found.next_turn / found.cold:.2%}); {found.saved:.3f} of what was known saved;")
    print(f"after a change in the middle {found.edited:,} known tokens read again\n")
    print("| sessions | tokens/s | of one alone | slowest's of the quickest's share |\n|---:|---:|---:|---:|")
    for one in shared:
        print(f"| {one.sessions} | {one.pace:.1f} | {one.pace / shared[0].pace:.2f} | {one.fairness:.0%} |")
    print("\n| text | with guesses / without | guessed right |\n|---|---:|---:|")
    for text in ahead:
        print(f"| {text.text} | {text.ratio:.2f} | {text.guessed:.0%} |")
    return 0
