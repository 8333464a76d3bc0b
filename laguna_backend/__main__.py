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
    "bench": ("laguna_backend.bench.slice:main", "speed of a few layers of the real width, beside peers"),
    "train": ("laguna_backend.nano.train:main", "nano: train laguna-nano from its seeds"),
    "eval": ("laguna_backend.nano.evaluate:main", "nano: measure laguna-nano on held-out tasks"),
}
NEEDS_A_NAME = ("train", "eval")
WRONG_USE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


def usage() -> str:
    lines = [f"  laguna {name:9} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: laguna COMMAND …", *lines, "Each command explains itself with --help."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else WRONG_USE
    name, *rest = words
    if name not in COMMANDS:
        print(f"laguna: no command {name!r}\n{usage()}", file=sys.stderr)
        return WRONG_USE
    if name in NEEDS_A_NAME:
        if not rest or rest[0] != "nano":
            print(f"laguna: write `laguna {name} nano …`; laguna-nano is the one there is", file=sys.stderr)
            return WRONG_USE
        rest = rest[1:]
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
