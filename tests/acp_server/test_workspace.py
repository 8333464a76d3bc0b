"""The editor's unsaved text over the disk: seen when it is there, never trusted further than it answers."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from toolbench import Bench

from acp_server.action import ToolProblem
from acp_server.workspace.workspace import Workspace

pytestmark = pytest.mark.anyio


class Editor:
    """An editor with `buffers`. What it writes goes through `saves`: None says no, else the bytes on disk."""

    def __init__(self) -> None:
        self.buffers: dict[str, str | None] = {}
        self.hangs = False
        self.save = True
        self.normalise = False
        self.written: list[tuple[str, str]] = []

    async def read_text(self, path: str) -> str | None:
        if self.hangs:
            await anyio.sleep_forever()
        return self.buffers.get(path)

    async def write_text(self, path: str, text: str) -> bool:
        if self.hangs:
            await anyio.sleep_forever()
        self.written.append((path, text))
        if self.save:
            await anyio.Path(path).write_bytes((text.replace("\r\n", "\n") if self.normalise else text).encode())
        return True


@pytest.fixture
def editor() -> Editor:
    return Editor()


@pytest.fixture
def bench(tmp_path: Path, editor: Editor) -> Bench:
    (tmp_path / "f").write_text("disk\n")
    return Bench(tmp_path, overlay=editor)


async def test_unsaved_text_is_read_and_said_to_be_unsaved(bench: Bench, editor: Editor) -> None:
    editor.buffers[str(bench.root / "f")] = "buffer\n"
    assert await bench.call("read", path="f") == (
        "1\tbuffer\n[as in the editor, with unsaved changes; grep and shell see the saved file]"
    )


@pytest.mark.parametrize("buffer", [None, "", "disk\r\n", "disk\n"])
async def test_an_editor_with_nothing_new_leaves_the_disk_in_charge(
    bench: Bench, editor: Editor, buffer: str | None
) -> None:
    editor.buffers[str(bench.root / "f")] = buffer
    assert await bench.call("read", path="f") == "1\tdisk"


async def test_an_edit_of_unsaved_text_goes_through_the_editor(bench: Bench, editor: Editor) -> None:
    path = str(bench.root / "f")
    editor.buffers[path] = "buffer\n"
    await bench.call("read", path="f")
    text = await bench.call("edit", path="f", old_string="buffer", new_string="new")
    assert text.startswith("edited f: 1 replacement")
    assert editor.written == [(path, "new\n")]
    assert (bench.root / "f").read_text() == "new\n"


async def test_text_typed_between_question_and_answer_is_not_lost(bench: Bench, editor: Editor) -> None:
    path = str(bench.root / "f")
    editor.buffers[path] = "buffer\n"
    await bench.call("read", path="f")
    action = await bench.prepare("edit", path="f", old_string="buffer", new_string="new")
    editor.buffers[path] = "buffer, and more\n"
    with pytest.raises(ToolProblem, match="f changed since it was read; read it again"):
        await action.run(bench.report)
    assert not editor.written


async def test_text_typed_into_a_clean_buffer_meanwhile_is_not_lost(bench: Bench, editor: Editor) -> None:
    await bench.call("read", path="f")
    action = await bench.prepare("edit", path="f", old_string="disk", new_string="new")
    editor.buffers[str(bench.root / "f")] = "typed\n"
    with pytest.raises(ToolProblem, match="f changed since it was read; read it again"):
        await action.run(bench.report)
    assert not editor.written


async def test_an_editor_that_does_not_save_or_saves_otherwise_is_corrected(bench: Bench, editor: Editor) -> None:
    editor.save = False
    await bench.call("read", path="f")
    await bench.call("edit", path="f", old_string="disk", new_string="one")
    assert (bench.root / "f").read_bytes() == b"one\n"
    editor.save, editor.normalise = True, True
    (bench.root / "f").write_bytes(b"a\r\nb\r\n")
    await bench.call("read", path="f")
    await bench.call("edit", path="f", old_string="a", new_string="x")
    assert (bench.root / "f").read_bytes() == b"x\r\nb\r\n"


async def test_a_new_file_is_created_through_the_editor(bench: Bench, editor: Editor) -> None:
    assert await bench.call("write", path="new", content="x\n") == "created new (1 line)"
    assert editor.written == [(str(bench.root / "new"), "x\n")]
    assert (bench.root / "new").read_text() == "x\n"


async def test_an_editor_that_hangs_is_not_waited_for(
    bench: Bench, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp_server.workspace.workspace.OVERLAY_WAIT", 0.05)
    editor.hangs = True
    with anyio.fail_after(60):
        assert await bench.call("read", path="f") == "1\tdisk"
        assert (await bench.call("edit", path="f", old_string="disk", new_string="x")).startswith("edited f")
    assert (bench.root / "f").read_text() == "x\n"


async def test_the_editor_is_never_asked_about_a_file_outside(bench: Bench, editor: Editor) -> None:
    editor.buffers["/etc/passwd"] = "secret"
    assert await bench.call("read", path="/etc/passwd") == "error: /etc/passwd is outside the workspace"


async def test_a_workspace_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(NotADirectoryError):
        Workspace(tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        Workspace(tmp_path / "none")
