"""Which part of a command "always allow" may speak of.

A convenience, not a wall: it only decides when nobody is asked. So whatever is not plainly one program with
plain arguments has no prefix and is asked about every time.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*")
_QUOTED = re.compile(r"'[^'\\\x00-\x1f]*'|\"[^\"\\$`!\x00-\x1f]*\"")

_NEVER = frozenset(
    """
    sudo su doas env xargs timeout nice nohup setsid time watch eval exec source . export declare
    typeset local readonly unset alias unalias command builtin enable trap set shopt hash ssh scp
    rsync nc ncat curl wget rm rmdir dd chmod chown chgrp mkfs mount umount kill pkill killall
    shutdown reboot systemctl crontab at bash sh zsh dash ksh fish awk gawk sed find perl ruby node
    deno bun php lua osascript tee mv cp ln install git docker podman kubectl parallel strace gdb
    vim vi ed ex
    """.split()  # noqa: SIM905
)
"""Programs that run others, or for which the first word says too little about what they do."""

_WITH_SUBCOMMAND = frozenset(
    """
    npm pnpm yarn cargo go uv pip poetry make tox nox gradle mvn dotnet bundle
    """.split()  # noqa: SIM905
)
_READS_ONLY = frozenset(["status", "log", "diff", "show", "rev-parse", "ls-files", "blame"])
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
_RUNNERS = frozenset({"exec", "x", "run", "dlx", "eval", "config", "install", "publish", "add", "-c", "-e"})


def allowed_prefix(command: str) -> str | None:
    """The words that stand for this and like commands, such as `pytest` or `python -m pytest`."""
    words = _words(command)
    if not words:
        return None
    program = words[0]
    if "/" in program or not _PLAIN.fullmatch(program) or "=" in program:
        return None
    if program == "git":
        return f"git {words[1]}" if len(words) > 1 and words[1] in _READS_ONLY and _is_plain_git(words) else None
    if _PYTHON.fullmatch(program):
        if len(words) > 2 and words[1] == "-m" and _PLAIN.fullmatch(words[2]):
            return f"{program} -m {words[2]}"
        return None
    if program in _NEVER:
        return None
    if program in _WITH_SUBCOMMAND:
        plain = len(words) > 1 and re.fullmatch(r"[a-z][a-z0-9:_-]*", words[1]) and words[1] not in _RUNNERS
        return f"{program} {words[1]}" if plain else None
    return program


def _is_plain_git(words: list[str]) -> bool:
    return not any(word.startswith(("--output", "--ext-diff", "--textconv", "--exec")) for word in words)


def _words(command: str) -> list[str]:
    """The words of a command that means the same to any shell; none for every other."""
    words: list[str] = []
    for word in command.strip(" ").split(" ") if "'" not in command and '"' not in command else _split(command):
        if not word:
            continue
        if not (_PLAIN.fullmatch(word) or _QUOTED.fullmatch(word)):
            return []
        words.append(word)
    return words


def _split(command: str) -> list[str]:
    """Words with quoted ones whole; an impossible word if something else is in between."""
    words: list[str] = []
    at = 0
    text = command.strip(" ")
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        found = _QUOTED.match(text, at) or _PLAIN.match(text, at)
        if found is None or (found.end() < len(text) and text[found.end()] != " "):
            return ["\0"]
        words.append(found[0])
        at = found.end()
    return words
