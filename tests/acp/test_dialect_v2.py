"""The v2 dialect: what it can say comes back unchanged, and what it does not know is not lost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from update_values import calls, extra, roles, version_2, words

from acp.dialect import DIALECTS
from acp.errors import LocalProtocolError
from acp.updates import (
    Changes,
    Diff,
    FileChange,
    MessageChunk,
    ModeChanged,
    Other,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    TurnEnded,
    Update,
)
from acp.v2.dialect import ReportV2
from acp.v2.patch import git_patch
from acp.v2.schema import UnknownSessionUpdate, UpdateSessionNotification


def over_the_wire(update: Any) -> Any:
    """The update as the other side decodes it, by way of its JSON value."""
    sent = UpdateSessionNotification(session_id="s", update=update).encode()
    return UpdateSessionNotification.decode(sent).update


@settings(max_examples=300)
@given(version_2)
def test_what_v2_can_say_comes_back_unchanged(update: Update) -> None:
    (wire,) = DIALECTS[2].encode(update)
    assert DIALECTS[2].decode(over_the_wire(wire)) == update


@settings(max_examples=150)
@given(version_2 | calls)
def test_what_was_received_is_sent_on_as_it_came(update: Update) -> None:
    (wire,) = DIALECTS[2].encode(update)
    (again,) = DIALECTS[2].encode(DIALECTS[2].decode(over_the_wire(wire)))
    assert again.encode() == wire.encode()


def test_a_call_is_announced_by_its_first_change() -> None:
    (wire,) = DIALECTS[2].encode(ToolCall("1", "Read a", "read"))
    heard = DIALECTS[2].decode(over_the_wire(wire))
    assert heard == ToolCallUpdate("1", "Read a", "read", "pending", (), ())


def test_the_end_of_a_turn_is_the_state_idle() -> None:
    (wire,) = DIALECTS[2].encode(TurnEnded("error", extra={"error": {"code": -32603, "message": "no"}}))
    assert wire.encode() == {
        "sessionUpdate": "state_update",
        "state": "idle",
        "stopReason": "error",
        "error": {"code": -32603, "message": "no"},
    }


def test_a_mode_is_an_option_in_v2_and_has_no_update_of_its_own() -> None:
    assert list(DIALECTS[2].encode(ModeChanged("ask"))) == []


def test_a_chunk_without_an_id_cannot_be_said() -> None:
    with pytest.raises(LocalProtocolError, match="without an id"):
        DIALECTS[2].encode(MessageChunk("agent", TextBlock("x")))


def test_an_update_of_an_unknown_kind_survives() -> None:
    raw = {"sessionUpdate": "_weather", "sky": ["blue", None], "_meta": {"a": 1}}
    wire = UpdateSessionNotification.decode({"sessionId": "s", "update": raw}).update
    assert isinstance(wire, UnknownSessionUpdate)
    assert DIALECTS[2].decode(wire) == Other(raw)


def test_a_diff_becomes_a_change_of_a_file_with_its_patch() -> None:
    (wire,) = DIALECTS[2].encode(ToolCallUpdate("1", content=(Diff("/w/a", "b\n", "a\n"), Diff("/w/n", "n\n"))))
    heard = DIALECTS[2].decode(over_the_wire(wire))
    assert isinstance(heard, ToolCallUpdate)
    assert isinstance(heard.content, tuple)
    old, new = heard.content
    assert isinstance(old, Changes)
    assert isinstance(new, Changes)
    assert old.files == (FileChange("modify", "/w/a"),)
    assert new.files == (FileChange("add", "/w/n"),)
    assert "-a\n+b\n" in (old.patch or "")
    assert "--- /dev/null\n+++ /w/n\n" in (new.patch or "")


lines = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=6).map("\n".join)


@settings(max_examples=30)
@given(old=lines, new=lines)
def test_git_applies_the_patch(old: str, new: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("patch")
    (folder / "f").write_text(old, encoding="utf-8")
    patch = git_patch(Diff("/f", new, old))
    if old == new:
        assert patch == ""
        return
    # `git apply -p1` takes the leading slash of an absolute path for the prefix that git writes.
    command = ["git", "apply", "-p1", "--unsafe-paths", f"--directory={Path(folder).name}", "-"]
    subprocess.run(command, input=patch.encode(), cwd=folder.parent, check=True)
    assert (folder / "f").read_text(encoding="utf-8") == new


chunks = st.builds(MessageChunk, roles, st.builds(TextBlock, words), words)


@settings(max_examples=200)
@given(version_2 | chunks, extra)
def test_a_report_is_the_notification_whichever_way_it_is_written_and_read(
    update: Update, beside: dict[str, Any]
) -> None:
    (model,) = DIALECTS[2].encode(update)
    slow = UpdateSessionNotification(session_id="s", update=model).encode() | beside
    report = ReportV2("s", update, beside)
    assert report.encode() == slow
    heard = ReportV2.decode(slow)
    assert heard == report
    assert heard.update == DIALECTS[2].decode(UpdateSessionNotification.decode(slow).update)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"sessionId": "s", "update": 3},
        {"sessionId": 3, "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}}},
        {"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": 3}}},
        {"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text"}}},
        {"sessionId": "s", "update": {"sessionUpdate": ["x"], "content": {"type": "text", "text": "x"}}},
    ],
)
def test_a_report_that_does_not_fit_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReportV2.decode(params)
