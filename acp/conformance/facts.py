"""Where the protocol's facts lie: inside the installed package, or at the top of a checkout."""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

INSTALLED = files(__package__ or "acp.conformance").joinpath("spec")
SPEC: Traversable = INSTALLED if INSTALLED.is_dir() else Path(__file__).resolve().parents[2] / "spec"
"""`v1` and `v2` (the schemas), `requirements` and `cases`. setup.py copies them into what is installed."""


def read(*names: str) -> Any:
    """A file of facts, by the names on the way to it."""
    return json.loads(SPEC.joinpath(*names).read_text(encoding="utf-8"))
