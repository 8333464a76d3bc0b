"""Which files a session may touch, decided by the file itself and never by its name.

A path is walked component by component from an open root directory; no step follows a symlink on its own,
so a link that is swapped in during the walk is noticed. The result is a `Place`: a root and the names below
it, with no link and no `..` left. Using a place walks the names again, strictly, so what was checked is
what is opened. Roots are recognised by device and inode: `/ws-evil` is not `/ws`, whatever its name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..action import ToolProblem
from ..wording import visible

LONGEST_PATH = 4096
DEEPEST_PATH = 256
MOST_LINKS = 40

_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Root:
    """A directory a session works in. `path` is as the client gave it, `real` without links."""

    path: str
    real: str
    id: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Root:
        """Raises `OSError` when there is no such directory."""
        absolute = os.path.abspath(path)
        status = os.stat(absolute)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), absolute)
        return cls(absolute, os.path.realpath(absolute), (status.st_dev, status.st_ino))

    def open(self) -> int:
        """A descriptor of the directory, if it is still the same one."""
        try:
            fd = os.open(self.real, _DIRECTORY)
        except OSError as error:
            raise ToolProblem(f"the workspace cannot be opened: {error.strerror}") from error
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self.id:
            os.close(fd)
            raise ToolProblem("the workspace directory was replaced by another one")
        return fd


@dataclass(frozen=True, slots=True)
class Place:
    """A file or directory, existing or not, inside a root.

    `shown` is how the model wrote it, `relative` how to name it within the root (`.` for the root itself),
    `absolute` its path in the client's terms.
    """

    root: Root
    parts: tuple[str, ...]
    shown: str

    @property
    def absolute(self) -> str:
        return os.path.join(self.root.path, *self.parts)

    @property
    def relative(self) -> str:
        return "/".join(self.parts) or "."

    @property
    def title(self) -> str:
        """For people: names the file really meant when the path goes through a link."""
        means = visible(self.relative)
        return self.shown if self.shown in (means, visible(self.absolute)) else f"{self.shown} → {means}"


class Jail:
    """The roots of a session. Relative paths start from the first."""

    def __init__(self, root: Path, extra: Sequence[Path] = ()) -> None:
        self.roots = tuple(Root.of(path) for path in (root, *extra))
        self._special = _devices("/proc", "/sys", "/dev")

    def resolve(self, path: str) -> Place:
        """Where `path` leads. Raises `ToolProblem` when that is outside, or is no path at all."""
        _check(path)
        try:
            root, parts = self._walk(path)
        except OSError as error:
            raise problem(error, visible(path)) from error
        return Place(root, parts, self._shown(path, root, parts))

    @contextmanager
    def parent(self, place: Place, *, create: bool = False) -> Generator[int]:
        """A descriptor of the directory that holds `place`; with `create`, made if it is not there."""
        if not place.parts:
            raise ToolProblem(f"{place.shown} is the workspace itself")
        fd = place.root.open()
        try:
            for name in place.parts[:-1]:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=fd)
                fd = _step(fd, name)
            yield fd
        except OSError as error:
            raise problem(error, place.shown) from error
        finally:
            os.close(fd)

    @contextmanager
    def directory(self, place: Place) -> Generator[int]:
        """A descriptor for listing the directory `place`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = place.root.open()
        try:
            for name in place.parts:
                fd = _step(fd, name)
            listing = os.open(".", flags, dir_fd=fd)
        except OSError as error:
            raise problem(error, place.shown) from error
        finally:
            os.close(fd)
        try:
            yield listing
        finally:
            os.close(listing)

    @contextmanager
    def file(self, place: Place) -> Generator[tuple[int, os.stat_result]]:
        """A regular file, open for reading. Anything else is refused, and never waited for."""
        with self.parent(place) as directory:
            self._regular(os.stat(place.parts[-1], dir_fd=directory, follow_symlinks=False), place)
            fd = os.open(place.parts[-1], os.O_RDONLY | _FILE, dir_fd=directory)
            try:
                yield fd, self._regular(os.fstat(fd), place)
            finally:
                os.close(fd)

    def status(self, place: Place) -> os.stat_result | None:
        """What is there now, not following a link; None for nothing."""
        if not place.parts:
            return os.stat(place.root.real)
        try:
            with self.parent(place) as directory:
                return os.stat(place.parts[-1], dir_fd=directory, follow_symlinks=False)
        except ToolProblem as refused:
            if isinstance(refused.__cause__, (FileNotFoundError, NotADirectoryError)):
                return None
            raise

    # The walk -------------------------------------------------------------------------------------

    def _walk(self, path: str) -> tuple[Root, tuple[str, ...]]:
        root, todo = self._enter(path, path) if os.path.isabs(path) else (self.roots[0], path.split("/"))
        todo.reverse()
        names: list[str] = []
        fds: list[int] = [root.open()]
        turns = 0
        try:
            while todo:
                name = todo.pop()
                if name in ("", "."):
                    continue
                elsewhere: str | None = None
                if name == ".." and names:
                    names.pop()
                    if len(fds) > len(names) + 1:
                        os.close(fds.pop())
                elif name == "..":
                    elsewhere = os.path.join(os.path.dirname(root.real), *reversed(todo))
                elif (target := _descend(name, names, fds)) is not None:
                    elsewhere = os.path.join(target, *reversed(todo)) if os.path.isabs(target) else None
                    todo.extend(reversed(target.split("/")))
                    turns += 1
                if elsewhere is not None:
                    turns += 1
                    root, todo = self._enter(elsewhere, path)
                    todo.reverse()
                    names = []
                    _close(fds)
                    fds = [root.open()]
                if turns > MOST_LINKS or len(names) + len(todo) > 2 * LONGEST_PATH:
                    raise ToolProblem(f"{visible(path)} goes through too many symlinks")
                if len(names) > DEEPEST_PATH:
                    raise ToolProblem(f"{visible(path)[:80]}… is too deep")
            return root, tuple(names)
        finally:
            _close(fds)

    def _enter(self, absolute: str, path: str) -> tuple[Root, list[str]]:
        """The root that an absolute path comes through last, and what is left of the path below it."""
        for candidate in (absolute, os.path.realpath(absolute)):
            found = self._find_root(candidate)
            if found is not None:
                return found
        raise ToolProblem(f"{visible(path)} is outside the workspace")

    def _find_root(self, absolute: str) -> tuple[Root, list[str]] | None:
        parts = absolute.split("/")[1:]
        found: tuple[Root, list[str]] | None = None
        prefix = "/"
        for n in range(len(parts) + 1):
            try:
                status = os.stat(prefix)
            except OSError:
                break
            for root in self.roots:
                if root.id == (status.st_dev, status.st_ino):
                    found = root, parts[n:]
            if n < len(parts):
                prefix = os.path.join(prefix, parts[n])
        return found

    def _regular(self, status: os.stat_result, place: Place) -> os.stat_result:
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            raise ToolProblem(f"{place.shown} is a directory; use list_directory")
        if stat.S_ISLNK(mode):
            raise ToolProblem(f"{place.shown} changed while it was opened; try again")
        if not stat.S_ISREG(mode) or status.st_dev in self._special - {place.root.id[0]}:
            raise ToolProblem(f"{place.shown} is not a regular file")
        return status

    def _shown(self, path: str, root: Root, parts: tuple[str, ...]) -> str:
        """`path` as the model wrote it, relative to the workspace when it can be said so."""
        lexical = os.path.normpath(os.path.join(self.roots[0].path, path))
        for base in (self.roots[0].path, self.roots[0].real):
            if lexical == base:
                return "."
            if lexical.startswith(base.rstrip("/") + "/"):
                return visible(lexical[len(base.rstrip("/")) + 1 :])
        relative = "/".join(parts) or "."
        return visible(relative if root is self.roots[0] else os.path.join(root.path, *parts))


def problem(error: OSError, shown: str) -> ToolProblem:
    """What to tell the model when the system refuses a path."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            text = f"{shown} does not exist"
        case errno.EISDIR:
            text = f"{shown} is a directory; use list_directory"
        case errno.ELOOP:
            text = f"{shown} changed while it was opened; try again"
        case errno.ENAMETOOLONG:
            text = f"{shown[:80]}… is too long for a path"
        case errno.ENXIO:
            text = f"{shown} is not a regular file"
        case _:
            text = f"{shown} cannot be used: {error.strerror or error}"
    return ToolProblem(text)


def _check(path: str) -> None:
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError as error:
        raise ToolProblem(f"{visible(path[:80])} is not a valid path") from error
    if not path.strip():
        raise ToolProblem("the path is empty")
    if size >= LONGEST_PATH:
        raise ToolProblem(f"{visible(path[:80])}… is too long for a path")
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise ToolProblem(f"{visible(path[:200])} contains control characters; it is not a valid path")
    if path == "~" or path.startswith("~/"):
        raise ToolProblem(f"{visible(path)} is outside the workspace")


def _descend(name: str, names: list[str], fds: list[int]) -> str | None:
    """Take one step down; the target, unresolved, if the name is a symlink (no step is taken then).

    Below something missing the names are only collected: opening them will fail, or create them.
    """
    if len(fds) <= len(names):
        names.append(name)
        return None
    try:
        mode = os.stat(name, dir_fd=fds[-1], follow_symlinks=False).st_mode
    except FileNotFoundError:
        names.append(name)
        return None
    if stat.S_ISLNK(mode):
        return os.readlink(name, dir_fd=fds[-1])
    if stat.S_ISDIR(mode):
        fds.append(os.open(name, _DIRECTORY, dir_fd=fds[-1]))
    names.append(name)
    return None


def _step(fd: int, name: str) -> int:
    """The directory `name` in `fd`, which is closed."""
    below = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return below


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _devices(*paths: str) -> set[int]:
    found: set[int] = set()
    for path in paths:
        with suppress(OSError):
            found.add(os.stat(path).st_dev)
    with suppress(OSError):
        found.discard(os.stat("/").st_dev)
    return found
