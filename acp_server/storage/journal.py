"""Sessions on disk: in one directory, for each session `ID.jsonl`, its log, and `ID.json`, its card.

A log only grows, a write for each update before it is told, so that a process that is killed loses nothing it has said.
A line that a crash tore is cut off when the log is opened again; a damaged one in the middle is skipped, and the log
file says so. The lock on the log lets one writer hold a session, of whatever process; the system releases it when the
process dies. What a turn has said is on the disk, fsync and all, when the turn has ended.

The processes of one machine may share a directory, but none can ask another for a session that it holds; `sqlite` and
`postgres` are for that. `format` in the directory says in which form all this is; without it, it is the first.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from acp.json_text import dumps

from .record import card_of, card_text, entries_of_texts
from .store import ID, Card, Entry, Log, Query, SessionBusy, SessionUnknown, StoreTooNew, checked

try:
    import fcntl
except ImportError:  # Windows has other locks; there a session is not guarded against a second process
    fcntl = None

log = logging.getLogger(__name__)

FORMAT = 1
"""The form in which sessions are written, counted up when an older release could not read them."""
MOST_UNWRITTEN = 16 * 2**20
"""Bytes of a log that wait for room on the disk; of a longer one the rest is lost."""


def default_directory() -> Path:
    """Where sessions are kept if nobody says otherwise: the user's state directory (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    root = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return root / "acp-laguna" / "sessions"


class FileStore:
    """A `Store` in a directory, which is made when the first session is, readable by its owner only.

    Raises StoreTooNew.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._format = self.directory / "format"
        if (found := _read_format(self._format)) > FORMAT:
            raise StoreTooNew(f"{directory} is of format {found}; this release knows formats up to {FORMAT}")

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        checked(card.id)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._format.exists():
            _put(self._format, b"%d\n" % FORMAT)
        held = _FileLog(self._log(card.id), self._card(card.id), new=True)
        held.append(*entries)
        held.sync(card)
        return held

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        self._known(id)
        held = _FileLog(self._log(id), self._card(id))
        try:
            return (*self.read(id), held)
        except BaseException:
            held.close()
            raise

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        self._known(id)
        try:
            lines = self._log(id).read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
        except FileNotFoundError:
            raise SessionUnknown(id) from None
        return _read_card(self._card(id)), entries_of_texts(id, lines)

    def card(self, id: str) -> Card:
        self._known(id)
        return _read_card(self._card(id))

    def cards(self, query: Query = Query()) -> list[Card]:  # noqa: B008 - it is frozen
        found: list[Card] = []
        for path in self.directory.glob("*.json") if self.directory.is_dir() else ():
            with suppress(SessionUnknown, OSError):
                found.append(_read_card(path))
        return query.of(found)

    def set_card(self, card: Card) -> None:
        self._known(card.id)
        held = _FileLog(self._log(card.id), self._card(card.id))
        try:
            _write_card(self._card(card.id), card)
        finally:
            held.close()

    def want(self, id: str, *, at_once: bool = False) -> bool:
        return False

    def delete(self, id: str) -> None:
        if not ID.fullmatch(id):
            return
        held: _FileLog | None = None
        with suppress(SessionUnknown):  # of a card without a log there is nothing to hold
            held = _FileLog(self._log(id), self._card(id))
        try:
            self._card(id).unlink(missing_ok=True)
            self._log(id).unlink(missing_ok=True)
        finally:
            if held is not None:
                held.close()

    def close(self) -> None:
        pass

    def _known(self, id: str) -> None:
        """Raise SessionUnknown for an id that names no session, or no file of ours."""
        if not ID.fullmatch(id) or not self._card(id).exists():
            raise SessionUnknown(id)

    def _log(self, id: str) -> Path:
        return self.directory / f"{id}.jsonl"

    def _card(self, id: str) -> Path:
        return self.directory / f"{id}.json"


class _FileLog:
    """A log that is held: locked, and without a torn line at its end."""

    def __init__(self, path: Path, card: Path, *, new: bool = False) -> None:
        self._card = card
        self._unwritten = bytearray()
        self._full = False
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        try:
            self._file: IO[bytes] = os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)
        except FileNotFoundError:
            raise SessionUnknown(path.stem) from None
        try:
            self._lock(path.stem)
            self._cut_torn_line(path)
        except BaseException:
            self._file.close()
            raise

    def append(self, *entries: Entry) -> None:
        if self._file.closed:
            return
        if not self._full:
            self._unwritten += b"".join(dumps(entry) + b"\n" for entry in entries)
        self._write()

    async def kept(self) -> None:
        """What was written outlives the process: it is the system's."""

    def sync(self, card: Card) -> None:
        if not self._file.closed:
            self._write()
            os.fsync(self._file.fileno())
            if os.fstat(self._file.fileno()).st_nlink:  # not deleted meanwhile
                _write_card(self._card, card)

    def watch(self, taken: Callable[[], None], wanted: Callable[[bool], None]) -> None:
        """Nobody takes what is locked, or asks for it."""

    def close(self) -> None:
        try:
            if not self._file.closed:
                self._write()
        finally:
            self._file.close()  # which releases the lock

    def _write(self) -> None:
        """Write what waits. What a full disk does not take is tried again the next time, from where it broke off."""
        try:
            while self._unwritten:
                del self._unwritten[: self._file.write(self._unwritten)]
        except OSError:
            if len(self._unwritten) > MOST_UNWRITTEN:
                self._full = True
            raise
        if self._full:
            raise OSError(errno.ENOSPC, "a part of the log was lost; it ends before that")

    def _lock(self, id: str) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SessionBusy(id) from None

    def _cut_torn_line(self, path: Path) -> None:
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            log.warning("the last line of %s was torn and is cut off", path)
            os.ftruncate(self._file.fileno(), data.rfind(b"\n") + 1)


def _read_card(path: Path) -> Card:
    """The card in a file. Raises SessionUnknown where there is none, or none that can be read."""
    try:
        return card_of(path.stem, path.read_bytes())
    except (ValueError, FileNotFoundError) as error:
        raise SessionUnknown(path.stem) from error


def _read_format(path: Path) -> int:
    """The form that a directory is in. Raises ValueError."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 1
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} does not say which format it is: {error}") from error


def _write_card(path: Path, card: Card) -> None:
    """Put the card in its file, whole or not at all."""
    _put(path, card_text(card) + b"\n")


def _put(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".card-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
