"""The ready-made answers to permission requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from acp.updates import Diff, Location, ToolCall, ToolKind
from acp_client import Option, PermissionRequest, allow_all, allow_edits, allow_edits_or, reject_all

pytestmark = pytest.mark.anyio

ONCE, ALWAYS, NO = (
    Option("o", "Once", "allow_once"),
    Option("a", "Always", "allow_always"),
    Option("n", "No", "reject_once"),
)


def request(cwd: str = "/w", *paths: str, kind: ToolKind = "edit", options: tuple[Option, ...] = (ALWAYS, ONCE, NO)):
    call = ToolCall("c", "t", kind, content=tuple(Diff(path, "new") for path in paths))
    return PermissionRequest("s", cwd, call, options)


async def test_each_policy_picks_the_narrowest_option() -> None:
    assert await allow_all(request()) == "o"
    assert await allow_all(request(options=(ALWAYS, NO))) == "a"
    assert await allow_all(request(options=(NO,))) == "n"
    assert await allow_all(request(options=())) is None
    assert await reject_all(request()) == "n"
    assert await reject_all(request(options=(ONCE,))) is None


async def test_two_options_of_one_kind_are_no_riddle() -> None:
    twice = (Option("o1", "Once", "allow_once"), Option("o2", "Once more", "allow_once"))
    assert await allow_all(request(options=twice)) == "o1"


async def test_edits_are_allowed_inside_the_session_only(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    at = str(root)
    assert await allow_edits(request(at, f"{at}/a", f"{at}/b/c")) == "o"
    for path in (f"{at}/../x", f"{at}/out/x", "/etc/passwd", "a", f"{at}/.git/hooks/pre-commit", f"{at}-evil/a"):
        assert await allow_edits(request(at, f"{at}/a", path)) == "n", path
    assert await allow_edits(request(at)) == "n"  # an edit of nothing that it names
    assert await allow_edits(request(at, f"{at}/a", kind="execute")) == "n"


async def test_locations_count_as_much_as_diffs(tmp_path: Path) -> None:
    call = ToolCall("c", "t", "edit", locations=(Location(f"{tmp_path}/a"), Location("/etc/passwd")))
    assert await allow_edits(PermissionRequest("s", str(tmp_path), call, (ONCE, NO))) == "n"


async def test_what_is_no_edit_can_be_asked_about() -> None:
    async def ask(request: PermissionRequest) -> str | None:
        return "asked"

    assert await allow_edits_or(ask)(request(kind="execute")) == "asked"
    assert await allow_edits_or(ask)(request("/w", "/w/a")) == "o"
