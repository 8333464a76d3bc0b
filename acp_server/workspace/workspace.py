"""A session's files: its root directories, and what the editor has open and not saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import anyio
from anyio import to_thread

from ..action import ToolProblem
from . import files
from .encoding import decode
from .files import Loaded
from .jail import Jail, Place

T = TypeVar("T")

OVERLAY_WAIT = 5.0
"""Seconds the editor may take over one file before the disk is used instead."""


class Overlay(Protocol):
    """The editor's buffers."""

    async def read_text(self, path: str) -> str | None:
        """The text the editor shows for `path`. None: it has none to offer, use the disk."""
        ...

    async def write_text(self, path: str, text: str) -> bool:
        """Write through the editor. False: it did not."""
        ...


class Workspace:
    """Where a session works: `root`, and more directories beside it. Raises `OSError` when one is not there."""

    def __init__(self, root: Path, *, extra: Sequence[Path] = (), overlay: Overlay | None = None) -> None:
        self.jail = Jail(root, extra)
        self.overlay = overlay

    @property
    def root(self) -> Path:
        return Path(self.jail.roots[0].path)

    async def resolve(self, path: str) -> Place:
        """Raises `ToolProblem`, as everything here does, when the path leads outside."""
        return await aside(self.jail.resolve, path)

    async def load(self, place: Place) -> Loaded:
        """The file as the user sees it: the editor's unsaved text where there is some, else the disk's."""
        loaded = await aside(files.load, self.jail, place)
        if self.overlay is None or not loaded.whole:
            return loaded
        text: str | None = None
        with anyio.move_on_after(OVERLAY_WAIT):
            text = await self.overlay.read_text(place.absolute)
        if text is None or not (text or not loaded.data):
            return loaded
        return _unsaved(loaded, text)

    async def store(self, place: Place, data: bytes, before: Loaded | None) -> str:
        """Replace what was there `before`, unless it is no longer there. A remark for the model, or ""."""
        if self.overlay is not None and await self._store_by_editor(place, data, before):
            return ""
        # Not abandoned when cancelled: a write is either not begun or finished.
        await to_thread.run_sync(partial(files.replace, self.jail, place, data, before))
        if before is not None and before.links > 1:
            return f"[{place.shown} had other hard links; they keep the old content]"
        return ""

    async def _store_by_editor(self, place: Place, data: bytes, before: Loaded | None) -> bool:
        """Whether the editor took it and the disk, or its buffer, now holds exactly that."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return False
        if self.overlay is None or text.startswith("\ufeff"):
            return False
        await aside(files.check_unchanged, self.jail, place, before)
        taken = False
        with anyio.move_on_after(OVERLAY_WAIT):
            taken = await self.overlay.write_text(place.absolute, text)
        try:
            after = await aside(files.load, self.jail, place)
        except ToolProblem:
            return False
        if after.data == data:
            return True
        if before is None or after.disk_digest != before.disk_digest:
            # It was changed, but not to what was asked for: an editor that normalises. Write it exactly.
            await to_thread.run_sync(partial(files.replace, self.jail, place, data, after))
            return True
        return taken and before.unsaved


def _unsaved(loaded: Loaded, text: str) -> Loaded:
    """`loaded` with the editor's text, unless that differs in nothing but line ends."""
    try:
        disk = decode(loaded.data, "")
        if disk.encoding != "utf-8":
            return loaded
        plain = text.replace("\r\n", "\n")
        if plain.lstrip("\ufeff") == disk.text.replace("\r\n", "\n").lstrip("\ufeff"):
            return loaded
        data = (plain.replace("\n", "\r\n") if disk.is_crlf else text).encode()
    except (ToolProblem, UnicodeEncodeError):
        return loaded
    return Loaded(data, len(data), loaded.mode, loaded.links, loaded.disk_digest, unsaved=True)


async def aside(function: Callable[..., T], *arguments: object) -> T:
    """What a blocking function returns, without blocking; a cancelled caller does not wait for it."""
    return await to_thread.run_sync(partial(function, *arguments), abandon_on_cancel=True)
