"""Unified diffs, by applying them."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from acp.updates import Diff
from acp_client.cli.diffs import SMALL, unified


def applied(old: str, rows: list[str]) -> str:
    """`old` after the diff, strictly: every context and removed row must be where its hunk says."""
    lines = old.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    result: list[str] = []
    at = 0
    previous = ""
    for row in rows:
        if header := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", row):
            start, length = int(header[1]), header[2]
            start -= 0 if length == "0" else 1
            result += lines[at:start]
            at = start
            new_start = int(header[3]) - (0 if header[4] == "0" else 1)
            assert len(result) == new_start
        elif row.startswith("\\"):
            if previous in "+ ":
                result[-1] = result[-1].removesuffix("\n")
        elif row[0] == "+":
            result.append(row[1:] + "\n")
        else:
            assert lines[at].removesuffix("\n") == row[1:]
            if row[0] == " ":
                result.append(row[1:] + "\n")
            at += 1
        previous = row[0]
    return "".join(result + lines[at:])


texts = st.lists(st.sampled_from(["a", "b", "c", "", "x\r"]), max_size=30).map("\n".join)


@given(texts, texts)
def test_applying_the_diff_gives_the_new_text(old: str, new: str) -> None:
    assert applied(old, list(unified(Diff("/f", new, old)))) == new


@given(st.integers(0, SMALL * 2), st.sampled_from(["", "mine\n", "mine\n" * (SMALL + 9)]))
def test_so_does_that_of_a_change_in_a_large_file(place: int, change: str) -> None:
    lines = [f"line {n}\n" for n in range(SMALL * 2 + 1)]
    new = "".join([*lines[:place], change, *lines[place + 1 :]])
    rows = list(unified(Diff("/f", new, "".join(lines))))
    assert applied("".join(lines), rows) == new
    assert len(rows) < 12 + change.count("\n")


def test_nothing_changed_gives_no_rows() -> None:
    assert list(unified(Diff("/f", "a\nb", "a\nb"))) == []


def test_a_new_file_is_all_plus() -> None:
    assert list(unified(Diff("/f", "a\nb\n"))) == ["@@ -0,0 +1,2 @@", "+a", "+b"]


def test_two_files_with_nothing_in_common_take_no_time() -> None:
    old, new = "".join(f"{n}\n" for n in range(60_000)), "".join(f"{n} \n" for n in range(60_000))
    began = time.monotonic()
    assert len(list(unified(Diff("/f", new, old)))) == 120_001
    assert time.monotonic() - began < 30  # a quadratic comparison takes many minutes
