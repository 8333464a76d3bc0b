"""Reading and replacing whole files inside a jail. Everything here blocks; call it in a thread."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass

from ..action import ToolProblem
from .jail import Jail, Place

LARGEST = 64 * 1024 * 1024
"""Bytes of one file that are looked at."""

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file as it is now: its first `LARGEST` bytes (`whole` if that is all), and how it lies on disk.

    `unsaved`: the data is what the editor shows and has not written to disk yet.
    """

    data: bytes
    size: int
    mode: int
    links: int
    disk_digest: str
    unsaved: bool = False

    @property
    def whole(self) -> bool:
        return len(self.data) >= self.size or self.unsaved

    @property
    def digest(self) -> str:
        return digest(self.data) if self.unsaved else self.disk_digest


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load(jail: Jail, place: Place, limit: int = LARGEST) -> Loaded:
    """Raises `ToolProblem` when it is no readable regular file."""
    chunks: list[bytes] = []
    left = limit
    with jail.file(place) as (fd, status):
        while left > 0 and (chunk := os.read(fd, min(left, _CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    data = b"".join(chunks)
    size = len(data) if left > 0 else max(status.st_size, len(data))
    return Loaded(data, size, status.st_mode, status.st_nlink, digest(data))


def replace(jail: Jail, place: Place, data: bytes, before: Loaded | None) -> None:
    """Put `data` in the place of what was there `before` (None: nothing), at once or not at all.

    The new file is written beside the old one, flushed to disk and renamed over it; owner, mode and extended
    attributes stay. Raises `ToolProblem`, and then nothing has changed.
    """
    check_unchanged(jail, place, before)
    with jail.parent(place, create=before is None) as directory:
        name = place.parts[-1]
        temporary = f".acp-{secrets.token_hex(8)}.tmp"
        fd = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o666 if before is None else 0o600,
            dir_fd=directory,
        )
        try:
            try:
                _write(fd, data)
                if before is not None:
                    _copy_status(jail, place, fd)
                os.fsync(fd)
            finally:
                os.close(fd)
            check_unchanged(jail, place, before)
            _put(temporary, name, directory, new=before is None)
        except OSError as error:
            raise ToolProblem(f"{place.shown} could not be written: {error.strerror or error}") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        with suppress(OSError):  # some file systems cannot flush a directory
            _flush(directory)


def check_unchanged(jail: Jail, place: Place, before: Loaded | None) -> None:
    """Raises `ToolProblem` unless the disk still holds what it held `before`."""
    if before is None:
        unchanged = jail.status(place) is None
    else:
        try:
            unchanged = load(jail, place).disk_digest == before.disk_digest
        except ToolProblem:
            unchanged = False
    if not unchanged:
        raise ToolProblem(f"{place.shown} changed since it was read; read it again")


def check_writable(jail: Jail, place: Place) -> None:
    """Raises `ToolProblem` when the file is there and marked read-only for everybody."""
    status = jail.status(place)
    if status is not None and stat.S_ISREG(status.st_mode) and not status.st_mode & 0o222:
        raise ToolProblem(f"{place.shown} is read-only")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy_status(jail: Jail, place: Place, fd: int) -> None:
    with jail.file(place) as (old, status):
        with suppress(OSError):
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, status.st_uid, status.st_gid)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        if hasattr(os, "listxattr"):
            with suppress(OSError):
                for key in os.listxattr(old):
                    os.setxattr(fd, key, os.getxattr(old, key))


def _put(temporary: str, name: str, directory: int, *, new: bool) -> None:
    """Give the new file its name. One that must not be there yet is linked, which never overwrites."""
    if new:
        try:
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            pass
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _flush(directory: int) -> None:
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
