"""Walking a directory tree: never through a link, never outside, never for ever. Blocks; use a thread."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from pathspec import GitIgnoreSpec

from ..workspace.files import load
from ..workspace.jail import Jail, Place

MOST_ENTRIES = 500_000
LONGEST_WALK = 10.0
"""Seconds."""

DEEPEST = 64
LARGEST_IGNORE_FILE = 256 * 1024

SKIPPED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "node_modules",
        "__pycache__",
        ".venv",
        ".tox",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
    }
)
"""Directories that are not gone into, ignored or not."""

_BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of the tree; `parts` are its names from the root on. A link is neither directory nor file."""

    parts: tuple[str, ...]
    is_directory: bool
    is_file: bool


@dataclass(slots=True)
class Walk:
    """One walk below `start`. `cut` says afterwards that it was too much to be walked whole."""

    jail: Jail
    start: Place
    depth: int = DEEPEST
    ignored_too: bool = False
    cut: bool = False
    _entries: int = 0
    _deadline: float = 0.0
    _ignores: dict[int, tuple[tuple[str, ...], GitIgnoreSpec]] = field(
        default_factory=dict[int, "tuple[tuple[str, ...], GitIgnoreSpec]"]
    )

    def __iter__(self) -> Iterator[Found]:
        """Entries sorted by name, a directory before what is in it.

        What .gitignore names is left out; with `ignored_too` it is only not gone into.
        """
        self._deadline = time.monotonic() + LONGEST_WALK
        for depth in range(len(self.start.parts)):
            self._read_ignores(self.start.parts[:depth])
        with self.jail.directory(self.start) as fd:
            yield from self._walk(fd, self.start.parts, self.depth)

    def _walk(self, fd: int, parts: tuple[str, ...], depth: int) -> Iterator[Found]:
        if depth <= 0:
            return
        self._read_ignores(parts)
        for name, is_directory, is_file in self._list(fd):
            below = (*parts, name)
            skipped = self._is_ignored(below, is_directory)
            if skipped and not self.ignored_too:
                continue
            if name == ".git":
                continue
            yield Found(below, is_directory, is_file)
            if not is_directory or skipped or name in SKIPPED:
                continue
            with suppress(OSError):  # unreadable, or just now replaced by something else
                inside = os.open(name, _BELOW, dir_fd=fd)
                try:
                    yield from self._walk(inside, below, depth - 1)
                finally:
                    os.close(inside)
        self._ignores.pop(len(parts), None)

    def _list(self, fd: int) -> list[tuple[str, bool, bool]]:
        entries: list[tuple[str, bool, bool]] = []
        with os.scandir(fd) as scan:
            for entry in scan:
                if self.cut:
                    break
                self._entries += 1
                self.cut = self._entries > MOST_ENTRIES or time.monotonic() > self._deadline
                entries.append((entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)))
        entries.sort()
        return entries

    def _read_ignores(self, parts: tuple[str, ...]) -> None:
        self._ignores.pop(len(parts), None)
        place = Place(self.start.root, (*parts, ".gitignore"), ".gitignore")
        with suppress(Exception):  # none there, or not one we can use
            status = self.jail.status(place)
            if status is not None and stat.S_ISREG(status.st_mode):
                lines = load(self.jail, place, LARGEST_IGNORE_FILE).data.decode("utf-8", "replace")
                self._ignores[len(parts)] = (parts, GitIgnoreSpec.from_lines(lines.splitlines()))

    def _is_ignored(self, parts: tuple[str, ...], is_directory: bool) -> bool:
        """By the innermost .gitignore that has something to say about it."""
        if is_directory and parts[-1] in SKIPPED:
            return True
        for depth in sorted(self._ignores, reverse=True):
            base, spec = self._ignores[depth]
            path = "/".join(parts[len(base) :]) + ("/" if is_directory else "")
            include = spec.check_file(path).include
            if include is not None:
                return include
        return False
