"""The command line of `acp exec`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from acp.transports.credentials import add_url_options, headers_of

from ..launch import own_agent

LARGEST_PROMPT = 8 * 2**20  # bytes

DESCRIPTION = """\
Give an agent one prompt and show what it does.

Exit status: 0 done; 1 error; 2 wrong usage; 3 a permission was needed and there was nobody to ask; 4 the agent
refused; 5 it ran into a limit; 124 --timeout; 130 interrupted (Ctrl-C; a second one does not wait);
143 terminated, 129 hung up, 141 stdout was closed: the turn is cancelled in each case.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, checked."""

    prompt: str
    cwd: str
    agent: str | list[str]
    is_own_agent: bool
    allow: str
    json: bool
    log_json: str | None
    timeout: float | None
    verbose: bool
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    insecure: bool = False


def parse(argv: Sequence[str] | None = None) -> Options:
    """The options; wrong ones are said on stderr and end the process with status 2."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        prompt = _prompt(given)
        if not os.path.isdir(given.cwd):
            raise ValueError(f"--cwd: no such directory: {given.cwd}")
        if given.timeout is not None and not (math.isfinite(given.timeout) and given.timeout > 0):
            raise ValueError("--timeout: not a positive number of seconds")
        agent, headers = _agent(given), _headers(given)
    except (OSError, ValueError) as error:
        parser.error(str(error).encode(errors="backslashreplace").decode())
    return Options(
        prompt=prompt,
        cwd=os.path.abspath(given.cwd),
        agent=agent,
        is_own_agent=given.agent is None and given.url is None,
        allow=given.allow,
        json=given.json,
        log_json=given.log_json,
        timeout=given.timeout,
        verbose=given.verbose,
        headers=headers,
        insecure=given.insecure,
    )


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="acp exec", description=DESCRIPTION, formatter_class=raw)
    add = parser.add_argument
    add("prompt", nargs="?", metavar="PROMPT", help="what to do; - reads it from stdin")
    add("-f", "--file", metavar="FILE", help="read the prompt from a file")
    add("--cwd", default=".", metavar="DIR", help="the agent's workspace (default: the current directory)")
    add("--agent", metavar="CMD", help="the command line of an ACP agent (default: our own, `acp agent`)")
    add_url_options(parser)
    add(
        "--allow",
        choices=("ask", "edits", "all"),
        default="ask",
        help="what goes without asking: nothing that changes anything, edits in the workspace, or all (default: ask)",
    )
    add("--json", action="store_true", help="JSON events, one a line, instead of text; the last is the result")
    add("--log-json", metavar="FILE", help="write the JSON events to a file as well")
    add("--timeout", type=float, metavar="S", help="cancel the turn after S seconds")
    add("--verbose", action="store_true", help="show the logs of both sides on stderr")
    own = parser.add_argument_group("of our own agent")
    own.add_argument("--backend", metavar="NAME", help="laguna (default), scripted or MODULE:FUNCTION")
    own.add_argument("--model", metavar="DIR", help="a checkpoint directory (default: the embedded model)")
    own.add_argument("--device", metavar="D", help="cuda, mps or cpu (default: the best there is)")
    return parser


def _prompt(given: argparse.Namespace) -> str:
    """The prompt, wherever it comes from. Raises OSError, ValueError."""
    if (given.prompt is None) == (given.file is None):
        raise ValueError("give a prompt, or -f FILE, or - to read it from stdin")
    if given.file is not None:
        with open(given.file, "rb") as file:
            data = file.read(LARGEST_PROMPT + 1)
    elif given.prompt == "-":
        data = b"" if sys.stdin is None else sys.stdin.buffer.read(LARGEST_PROMPT + 1)  # pyright: ignore[reportUnnecessaryComparison]
    else:
        data = os.fsencode(given.prompt)
    if len(data) > LARGEST_PROMPT:
        raise ValueError(f"the prompt is longer than {LARGEST_PROMPT} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the prompt is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise ValueError("the prompt is empty")
    return text


def _agent(given: argparse.Namespace) -> str | list[str]:
    url: str | None = given.url
    own = {"--backend": given.backend, "--model": given.model, "--device": given.device}
    if url is not None:
        if given.agent is not None:
            raise ValueError("give --agent or --url, not both")
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"--url: not a URL of ws:// or wss://: {url}")
    target: str | None = given.agent if url is None else url
    if target is not None:
        if wrong := [name for name, value in own.items() if value is not None]:
            raise ValueError(f"{', '.join(wrong)} is for our own agent; say it in --agent's command")
        return target
    if given.model is not None:
        own["--model"] = os.path.abspath(given.model)
    words = [word for name, value in own.items() if value is not None for word in (name, value)]
    return own_agent("--allow", given.allow, *words, *(["--verbose"] if given.verbose else []))


def _headers(given: argparse.Namespace) -> dict[str, str]:
    """The headers of the request that opens a connection. Raises OSError, ValueError."""
    if given.url is None and (given.header or given.token_file or given.insecure):
        raise ValueError("--header, --token-file and --insecure are for --url")
    return headers_of(given.header, given.token_file)
