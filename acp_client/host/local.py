"""A host's files on this machine's disk, below one directory."""

from __future__ import annotations

import os
import tempfile
from itertools import islice
from pathlib import Path

import anyio.to_thread

LARGEST_FILE = 32 * 2**20  # bytes


class LocalFiles:
    """`Files` over a directory; paths that lead out of it, through links too, are refused."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve(strict=True)

    async def read_text(self, path: str, *, line: int | None = None, limit: int | None = None) -> str:
        return await anyio.to_thread.run_sync(self._read, path, line, limit)

    async def write_text(self, path: str, text: str) -> None:
        await anyio.to_thread.run_sync(self._write, path, text)

    def _inside(self, path: str) -> Path:
        real = Path(path).resolve()
        if not os.path.isabs(path) or not real.is_relative_to(self.root):
            raise PermissionError(f"{path} is not in {self.root}")
        return real

    def _read(self, path: str, line: int | None, limit: int | None) -> str:
        real = self._inside(path)
        if not real.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if real.stat().st_size > LARGEST_FILE:
            raise OSError(f"{path} is larger than {LARGEST_FILE} bytes")
        with real.open(encoding="utf-8", newline="") as file:
            start = max(line or 1, 1) - 1
            return "".join(islice(file, start, None if limit is None else start + limit))

    def _write(self, path: str, text: str) -> None:
        real = self._inside(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        mode = real.stat().st_mode & 0o777 if real.exists() else 0o644
        handle, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.chmod(temporary, mode)
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
