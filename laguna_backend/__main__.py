"""The `laguna` command: speak with a checkpoint, look at one, train and measure the small one."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import cast

COMMANDS: Mapping[str, tuple[str, str]] = {
    "generate": ("laguna_backend.generate:main", "DIR PROMPT: stream an answer"),
    "info": ("laguna_backend.inspection:main", "DIR: what a checkpoint is and what it needs"),
    "pull": ("laguna_backend.checkpoint.hub:main", "ORG/NAME: fetch a checkpoint from the Hugging Face hub"),
    "serve": ("laguna_backend.serve.command:main", "[DIR]: an OpenAI-compatible /v1 for the programs of this machine"),
    "bench": ("laguna_backend.bench.slice:main", "speed of a few layers of the real width, beside peers"),
    "turns": ("laguna_backend.bench.turns:main", "what the engine makes of turns, changes, company and guesses"),
    "fidelity": ("laguna_backend.bench.fidelity:main", "what an FP8 cache or packed weights change"),
    "train": ("laguna_backend.train.command:main", "DIR --data FILE: train a checkpoint, or an adapter of it"),
    "merge": ("laguna_backend.train.export:main", "BASE ADAPTER OUT: a checkpoint of a checkpoint and an adapter"),
    "eval": ("laguna_backend.train.evaluation:main", "DIR --data FILE: loss on held-out conversations"),
    "train nano": ("laguna_backend.nano.train:main", "train laguna-nano from its seeds"),
    "eval nano": ("laguna_backend.nano.evaluate:main", "measure laguna-nano on held-out tasks"),
}
WRONG_USE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


def usage() -> str:
    lines = [f"  laguna {name:10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: laguna COMMAND …", *lines, "Each command explains itself with --help."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else WRONG_USE
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)
    if name is None:
        print(f"laguna: no command {words[0]!r}\n{usage()}", file=sys.stderr)
        return WRONG_USE
    rest = words[len(name.split()) :]
    module, _, function = COMMANDS[name][0].partition(":")
    run = cast("Callable[[Sequence[str]], int]", getattr(importlib.import_module(module), function))
    try:
        status = run(rest)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `laguna info DIR | head`: what nobody reads need not be flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


if __name__ == "__main__":
    sys.exit(main())
