"""The searching half of grep, run as a program of its own.

A regular expression can take for ever, and Python cannot interrupt one; a process can be killed. It gets one
JSON object on stdin and answers with one on stdout. It uses nothing but the standard library, for it is
started by its file name, and it follows no links.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from typing import Any

LARGEST = 16 * 1024 * 1024
LONGEST_LINE = 500
MOST_COUNTED = 10_000


def main() -> None:
    job = json.load(sys.stdin)
    deadline = time.monotonic() + job["seconds"]
    pattern = re.compile(job["pattern"], re.IGNORECASE if job["ignore_case"] else 0)
    root = os.open(job["root"], os.O_RDONLY | os.O_DIRECTORY)
    lines: list[str] = []
    shown = total = 0
    cut = False
    for path, name in job["files"]:
        if total > MOST_COUNTED or time.monotonic() > deadline:
            cut = True
            break
        text = load(root, path.encode("utf-8", "surrogateescape"))
        if text is None:
            continue
        hits = search(pattern, text, job["most"] - shown)
        total += hits[0]
        shown += len(hits[1])
        lines += show(name, text, hits[1], job["context"]) if hits[1] else []
    answer: dict[str, Any] = {"lines": lines, "shown": shown, "total": total, "cut": cut}
    sys.stdout.write(json.dumps(answer))


def load(root: int, path: bytes) -> list[str] | None:
    """A text file's lines; None for anything else."""
    *directories, name = path.split(b"/")
    fd = os.dup(root)
    try:
        for directory in directories:
            below = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
        with open(file, "rb") as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            data = opened.read(LARGEST)
    except OSError:
        return None
    finally:
        os.close(fd)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").split("\n")
    if b"\0" in data[:8192]:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.removeprefix("\ufeff").removesuffix("\n").split("\n")


def search(pattern: re.Pattern[str], lines: list[str], most: int) -> tuple[int, list[int]]:
    """How many lines match, and the first of them."""
    found: list[int] = []
    total = 0
    for n, line in enumerate(lines):
        if pattern.search(line.removesuffix("\r")):
            total += 1
            if len(found) < most:
                found.append(n)
            if total > MOST_COUNTED:
                break
    return total, found


def show(name: str, lines: list[str], hits: list[int], context: int) -> list[str]:
    """Lines as `name:7:text`, those around a hit as `name-6-text`, groups parted by `--`."""
    wanted = sorted({n for hit in hits for n in range(hit - context, hit + context + 1) if 0 <= n < len(lines)})
    matched = set(hits)
    shown: list[str] = []
    for at, n in enumerate(wanted):
        if context and at and wanted[at - 1] != n - 1:
            shown.append("--")
        mark = ":" if n in matched else "-"
        line = lines[n].removesuffix("\r")
        cut = f" [… {len(line) - LONGEST_LINE} characters left out …]" if len(line) > LONGEST_LINE else ""
        shown.append(f"{name}{mark}{n + 1}{mark}{line[:LONGEST_LINE]}{cut}")
    return shown


if __name__ == "__main__":
    main()
