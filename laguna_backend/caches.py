"""Where this user's machine keeps what can be made again: compiled kernels, packed weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_directory(name: str) -> Path:
    """`$XDG_CACHE_HOME/acp-laguna/NAME`, or the system's own place for such. It need not be there yet."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        home = Path(named)
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path.home() / ".cache"
    return home / "acp-laguna" / name
