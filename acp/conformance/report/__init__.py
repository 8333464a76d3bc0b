"""What came of the checks: for a terminal, for machines, for a browser."""

from __future__ import annotations

from .machine import as_json, as_junit
from .page import as_html
from .text import line, shown, summary

__all__ = ["as_html", "as_json", "as_junit", "line", "shown", "summary"]
