"""What a word that is being written may become: a command of the agent's, or a file of the workspace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acp.updates import Block, Command, OtherBlock, TextBlock

MOST_FILES = 20_000
MOST_SHOWN = 8
LISTING = 5.0
"""Seconds that git gets to list the files."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A word for the one under the cursor, and what it stands for."""

    word: str
    what: str = ""


def word_before(text: str) -> str:
    """The word that ends at the cursor, if it begins as one that can be completed; else nothing."""
    word = text[max(text.rfind(blank) for blank in " \n\t") + 1 :]
    if word.startswith("@"):
        return word
    return word if word.startswith("/") and word == text else ""


def completions(word: str, commands: Sequence[Command], files: Sequence[str]) -> list[Completion]:
    """What the word may become, the likeliest first."""
    sought = word[1:].lower()
    if word.startswith("/"):
        fitting = [command for command in commands if command.name.lower().startswith(sought)]
        return [Completion(f"/{command.name}", command.description) for command in fitting[:MOST_SHOWN]]
    if word.startswith("@"):
        found = sorted((path for path in files if sought in path.lower()), key=lambda path: _distance(path, sought))
        return [Completion(f"@{path}") for path in found[:MOST_SHOWN]]
    return []


def _distance(path: str, sought: str) -> tuple[bool, bool, int, str]:
    """Files whose name begins so come first, then short paths."""
    name = os.path.basename(path).lower()
    return not name.startswith(sought), sought not in name, len(path), path


def files_below(root: str) -> list[str]:
    """The files of a workspace, relative, without those that git ignores. Blocks; use a thread."""
    command = ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LISTING, check=True)
    except (OSError, subprocess.SubprocessError):
        return _walked(root)
    return [os.fsdecode(path) for path in done.stdout.split(b"\0")[:MOST_FILES] if path]


def _walked(root: str) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.relpath(os.path.join(folder, name), root) for name in sorted(names)]
        if len(found) >= MOST_FILES:
            break
    return found[:MOST_FILES]


def blocks_of(text: str, root: str) -> list[Block]:
    """A prompt as blocks: its text, and a link to each file that it names with an @."""
    return [TextBlock(text), *_links(text.split(), Path(root))]


def _links(words: Iterable[str], root: Path) -> Iterable[Block]:
    names = (word[1:].rstrip(".,:;!?)") for word in words if word.startswith("@"))
    for name in dict.fromkeys(filter(None, names)):
        path = root / name
        try:
            is_file = path.is_file()
        except (OSError, ValueError):
            continue
        if is_file:
            yield OtherBlock({"type": "resource_link", "uri": path.absolute().as_uri(), "name": path.name})
