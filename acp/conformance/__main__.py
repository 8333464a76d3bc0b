"""`acp check agent [OPTION]... -- COMMAND`: judge an agent by the protocol.

`acp check client` judges a client, `acp check explore` looks for conversations that an agent does not bear, and
`acp check replay` plays one again.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from .reports import as_html, as_json, as_junit, line, summary
from .run import CANCEL_PROMPT, Outcome, Settings, check_agent

OTHERS = {"client": ".client_command", "replay": ".replay", "explore": ".explore"}
"""What else is checked, and by which module: it is imported when it is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 if conformant, 1 if not, 2 if the command line makes no sense."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in OTHERS:
        return importlib.import_module(OTHERS[arguments[0]], __package__).main(arguments[1:])
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = _parser().parse_args(arguments[:split]), arguments[split + 1 :]
    if not command:
        print("acp check: give the agent's command after --", file=sys.stderr)
        return 2
    if wrong := [pair for pair in options.agent_env if "=" not in pair]:
        print(f"acp check: --agent-env takes NAME=VALUE, not {wrong[0]!r}", file=sys.stderr)
        return 2
    settings = Settings(
        version=options.protocol,
        timeout=options.timeout,
        cancel_prompt=options.cancel_prompt,
        cwd=options.agent_cwd,
        env=dict(pair.split("=", 1) for pair in options.agent_env),
    )
    outcomes = anyio.run(functools.partial(check_agent, command, settings, only=options.only, tell=_tell))
    for name, text in (
        (options.json, lambda: as_json(outcomes, settings.version)),
        (options.junit, lambda: as_junit(outcomes)),
        (options.html, lambda: as_html(outcomes, settings.version)),
    ):
        if name:
            Path(name).write_text(text(), encoding="utf-8")
    print(summary(outcomes))
    return 0 if summary(outcomes).startswith("CONFORMANT") else 1


def _tell(outcome: Outcome) -> None:
    print(line(outcome), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="acp check", description=__doc__)
    parser.add_argument("side", choices=["agent"])
    parser.add_argument("--protocol", type=int, choices=[1, 2], default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--junit", metavar="FILE")
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each wait")
    parser.add_argument("--cancel-prompt", default=CANCEL_PROMPT, help="a prompt that takes its time")
    parser.add_argument("--agent-cwd", metavar="DIR")
    parser.add_argument("--agent-env", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--only", metavar="CHECK", action="append", default=[], help="this check alone; repeatable")
    return parser


if __name__ == "__main__":
    sys.exit(main())
