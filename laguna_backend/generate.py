"""`laguna generate DIR PROMPT`: one answer, streamed to the terminal."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from acp_server.model import ModelError, Sampling, Stop, Text, Thought, ToolUse, User

from .backend import GROUPS, PRECISIONS, STORAGES, group_of
from .loading import load
from .speaker import alone


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="laguna generate", description="Stream one answer of a checkpoint.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a checkpoint; nano: the one shipped here")
    parser.add_argument("prompt", metavar="PROMPT")
    parser.add_argument("--thinking", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--max-tokens", type=int, default=1024, metavar="N")
    parser.add_argument("--temperature", type=float, metavar="T", help="default: the checkpoint's own; 0 is greedy")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--device", help="cuda, mps or cpu; default: the best there is")
    parser.add_argument("--kv", choices=STORAGES, help="number format of the cache")
    parser.add_argument(
        "--weights",
        choices=PRECISIONS,
        default="bf16",
        help="pack the weights on loading: int8 (CPU), fp8 (accelerators), int4",
    )
    parser.add_argument("--group", type=int, choices=tuple(map(int, GROUPS)), help="INT4's groups; default 32")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="one that was trained for the checkpoint")
    given = parser.parse_args(argv)
    try:
        given.group = group_of(given.weights, given.group)
    except ValueError as error:
        parser.error(f"--group: {error}")
    return given


def main(argv: Sequence[str]) -> int:
    """Thoughts, calls and figures go to stderr, the answer to stdout."""
    given = arguments(argv)
    sampling = Sampling(
        temperature=given.temperature, seed=given.seed, max_tokens=given.max_tokens, thinking=given.thinking
    )
    try:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        kept = STORAGES.get(cast(str, given.kv))
        speaker = load(
            given.directory,
            device=given.device,
            storage=kept,
            weights=given.weights,
            group=given.group,
            adapter=given.adapter,
        )
        for part in alone(speaker, speaker.say([User(given.prompt)], [], sampling)):
            match part:
                case Text(text):
                    print(text, end="", flush=True)
                case Thought(text):
                    print(text, end="", flush=True, file=sys.stderr)
                case ToolUse():
                    print(f"\n[{part.name} {dict(part.arguments)}]", file=sys.stderr)
                case Stop():
                    pace = part.usage.output / part.seconds if part.seconds else 0.0
                    figures = f"{part.usage.input} in, {part.usage.output} out, {pace:.1f} tokens/s"
                    print(f"\n[{part.reason}: {figures}]", file=sys.stderr)
                case _:
                    pass
    except ModelError as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    print()
    return 0
