"""edit and write: byte-exact, at once or not at all, and only what the model has seen."""

from __future__ import annotations

import difflib
import errno
import os
import stat
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbench import Bench

from acp.updates import Diff
from acp_server.action import ToolProblem
from acp_server.tools.diffs import hunks
from acp_server.tools.edit import substitute
from acp_server.workspace.encoding import Decoded

pytestmark = pytest.mark.anyio


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def edit(bench: Bench, data: bytes, old: str, new: str, **more: object) -> tuple[str, bytes]:
    (bench.root / "f").write_bytes(data)
    await bench.call("read", path="f")
    text = await bench.call("edit", path="f", old_string=old, new_string=new, **more)
    return text, (bench.root / "f").read_bytes()


async def test_an_edit_says_what_it_replaced_and_shows_the_hunk(bench: Bench) -> None:
    text, data = await edit(bench, b"a\nb\nc\n", "b", "B")
    assert text == "edited f: 1 replacement\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c"
    assert data == b"a\nB\nc\n"
    text, data = await edit(bench, b"x x\nx\n", "x", "yy", replace_all=True)
    assert text.startswith("edited f: 3 replacements\n@@")
    assert data == b"yy yy\nyy\n"


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", b"x\r\ny\r\nz\r\nc\r\n"),
        (b"a\r\nb\r\n", "a", "x\ny", b"x\r\ny\r\nb\r\n"),
        (b"a\r\nb\nc\n", "b", "x\ny", b"a\r\nx\ny\nc\n"),
        (b"\xef\xbb\xbfa\nb", "a", "x", b"\xef\xbb\xbfx\nb"),
        (b"caf\xe9 a\n", "a\n", "\xe8\n", b"caf\xe9 \xe8\n"),
        (b"no end", "end", "END", b"no END"),
        (b"t\tab \n", "\tab ", " ", b"t \n"),
    ],
)
async def test_only_the_bytes_that_were_meant_change(
    bench: Bench, before: bytes, old: str, new: str, after: bytes
) -> None:
    assert (await edit(bench, before, old, new))[1] == after


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("zzz", "y", "old_string was not found in f"),
        ("a", "b", "old_string occurs 2 times in f; add surrounding lines or set replace_all"),
        ("", "x", "old_string is empty; use write to create a file"),
        ("a", "a", "old_string and new_string are the same"),
        ("b\n", "\u20ac", "f is latin-1, which cannot hold the character '\\u20ac'"),
    ],
)
async def test_an_edit_that_cannot_be_made_changes_nothing(bench: Bench, old: str, new: str, problem: str) -> None:
    text, data = await edit(bench, b"a a\xe9\nb\n", old, new)
    assert text.splitlines()[0] == f"error: {problem}"
    assert data == b"a a\xe9\nb\n"


async def test_a_near_miss_is_hinted_at(bench: Bench) -> None:
    text, _ = await edit(bench, b"def total(a, b):\n    return a\n", "def totl(a, b):", "x")
    assert text.splitlines()[1] == "Line 1 is: def total(a, b):"
    text, _ = await edit(bench, b"if x:\n\treturn 1\n", "if x:\n    return 1", "x")
    assert "different spaces" in text


async def test_a_file_must_be_read_first_and_again_when_it_changed(bench: Bench) -> None:
    file = bench.root / "f"
    file.write_text("a\n")
    arguments = {"path": "f", "old_string": "a", "new_string": "b"}
    assert await bench.call("edit", **arguments) == "error: read f before editing it"
    assert await bench.call("write", path="f", content="x") == "error: f exists; read it before overwriting it"
    await bench.call("read", path="f")
    file.write_text("a!\n")
    assert await bench.call("edit", **arguments) == "error: f changed since it was read; read it again"
    await bench.call("read", path="f")
    action = await bench.prepare("edit", **arguments)
    file.write_text("a?\n")
    with pytest.raises(ToolProblem, match="f changed since it was read; read it again"):
        await action.run(bench.report)
    assert file.read_text() == "a?\n"
    file.unlink()
    with pytest.raises(ToolProblem, match="f changed since"):
        await action.run(bench.report)
    assert os.listdir(bench.root) == []


async def test_after_an_edit_the_file_counts_as_read(bench: Bench) -> None:
    await edit(bench, b"a\n", "a", "b")
    assert await bench.call("edit", path="f", old_string="b", new_string="c") == (
        "edited f: 1 replacement\n@@ -1 +1 @@\n-b\n+c"
    )


async def test_preparing_changes_nothing_and_shows_the_whole_diff(bench: Bench) -> None:
    (bench.root / "f").write_text("a\nb\n")
    await bench.call("read", path="f")
    action = await bench.prepare("edit", path="f", old_string="b", new_string="c")
    path = str(bench.root / "f")
    assert action.content == (Diff(path, "a\nc\n", "a\nb\n"),)
    assert (action.locations[0].path, action.locations[0].line) == (path, 2)
    assert (action.title, action.kind) == ("Edit f", "edit")
    assert action.permission is not None
    assert (action.permission.scope, action.permission.key) == ("edit", str(bench.root))
    assert (bench.root / "f").read_text() == "a\nb\n"
    new = await bench.prepare("write", path="n/m", content="x")
    assert new.content == (Diff(str(bench.root / "n/m"), "x", None),)
    assert not (bench.root / "n").exists()


async def test_write_creates_folders_and_counts_lines(bench: Bench) -> None:
    assert await bench.call("write", path="n/m/f", content="a\nb\n") == "created n/m/f (2 lines)"
    assert (bench.root / "n/m/f").read_bytes() == b"a\nb\n"
    assert await bench.call("write", path="n/m/f", content="a") == "overwrote n/m/f (1 line)"
    assert await bench.call("write", path="e", content="") == "created e (0 lines)"
    assert await bench.call("write", path="n", content="") == "error: n is a directory; use list_directory"


async def test_a_new_file_never_overwrites_one_that_appeared_meanwhile(bench: Bench) -> None:
    action = await bench.prepare("write", path="f", content="mine")
    (bench.root / "f").write_text("theirs")
    with pytest.raises(ToolProblem, match="f changed since"):
        await action.run(bench.report)
    assert (bench.root / "f").read_text() == "theirs"
    assert os.listdir(bench.root) == ["f"]


async def test_overwriting_keeps_mode_line_ends_and_byte_order_mark(bench: Bench) -> None:
    file = bench.root / "f"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    file.chmod(0o750)
    await bench.call("read", path="f")
    await bench.call("write", path="f", content="x\ny\n")
    assert file.read_bytes() == b"\xef\xbb\xbfx\r\ny\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o750


async def test_another_name_of_the_same_file_keeps_the_old_content_and_the_model_is_told(bench: Bench) -> None:
    (bench.root / "f").write_text("a\n")
    os.link(bench.root / "f", bench.root / "g")
    await bench.call("read", path="f")
    text = await bench.call("edit", path="f", old_string="a", new_string="b")
    assert text.endswith("[f had other hard links; they keep the old content]")
    assert (bench.root / "g").read_text() == "a\n"


async def test_a_full_disk_leaves_the_file_as_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    text, data = await edit(bench, b"a\n", "a", "b")
    assert text == "error: f could not be written: No space left on device"
    assert data == b"a\n"
    assert os.listdir(bench.root) == ["f"]


async def test_what_must_not_be_edited_is_refused(bench: Bench) -> None:
    (bench.root / "ro").write_text("a")
    (bench.root / "ro").chmod(0o444)
    (bench.root / "u16").write_text("a", encoding="utf-16")
    for name in ("ro", "u16"):
        await bench.call("read", path=name)
    assert await bench.call("edit", path="ro", old_string="a", new_string="b") == "error: ro is read-only"
    assert "can be read but not edited" in await bench.call("edit", path="u16", old_string="a", new_string="b")
    (bench.root / "bin").write_bytes(b"\0")
    assert "read it before" in await bench.call("write", path="bin", content="x")
    assert "outside the workspace" in await bench.call("write", path="../evil", content="x")
    assert "cannot hold" in await bench.call("write", path="sur", content="\ud800")
    assert not (bench.root.parent / "evil").exists()


@pytest.mark.parametrize(
    "line",
    [
        "# ... rest of the code unchanged ...",
        "// ... existing code ...",
        "    // rest of the methods remain the same ...",
        "... (rest of file unchanged)",
        "<!-- ... existing content ... -->",
    ],
)
async def test_text_left_out_is_refused(bench: Bench, line: str) -> None:
    assert "leaves text out" in await bench.call("write", path="f", content=f"a\n{line}\nb\n")
    assert not (bench.root / "f").exists()


@pytest.mark.parametrize(
    "line", ["def f(): ...", "print('and so on ...')", "...", "# wait ...", "[…]", "x = a[..., 0]"]
)
async def test_dots_that_leave_nothing_out_are_fine(bench: Bench, line: str) -> None:
    assert (await bench.call("write", path="f", content=f"{line}\n")) == "created f (1 line)"


@pytest.mark.parametrize("path", [".git/hooks/pre-commit", ".GIT/config", "a/.envrc", ".vscode/tasks.json", ".bashrc",
                                  ".github/workflows/ci.yml", "sub/.git/config"])  # fmt: skip
async def test_files_that_run_later_are_always_asked_about(bench: Bench, path: str) -> None:
    action = await bench.prepare("write", path=path, content="x")
    assert action.permission is not None
    assert action.permission.scope == "protected"


async def test_a_title_shows_what_is_hidden(bench: Bench) -> None:
    action = await bench.prepare("write", path="a\u202eyp.exe\u200b", content="")
    assert action.title == "Create a\\u202eyp.exe\\u200b"
    action = await bench.prepare("write", path="d/" * 100 + "x" * 200, content="")
    assert len(action.title) <= 256
    (bench.root / "real").write_text("a")
    (bench.root / "innocent").symlink_to("real")
    await bench.call("read", path="innocent")
    action = await bench.prepare("edit", path="innocent", old_string="a", new_string="b")
    assert action.title == "Edit innocent → real"
    assert action.locations[0].path == str(bench.root / "real")


async def test_a_large_file_is_shown_by_its_change_only(bench: Bench) -> None:
    text = "".join(f"line {n}\n" for n in range(50_000))
    (bench.root / "f").write_text(text)
    await bench.call("read", path="f")
    with anyio.fail_after(60):
        action = await bench.prepare("edit", path="f", old_string="line 40000\n", new_string="changed\n")
        outcome = await action.run(bench.report)
    (diff,) = action.content
    assert isinstance(diff, Diff)
    assert len(diff.new_text) < 200
    assert "@@ -39998,7 +39998,7 @@" in outcome.text
    assert (bench.root / "f").read_text() == text.replace("line 40000\n", "changed\n")


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "é"]), max_size=12)


@given(LINES, LINES)
def test_hunks_are_those_of_the_standard_library(a: list[str], b: list[str]) -> None:
    old, new = "\n".join(a), "\n".join(b)
    assert hunks(old, new) == list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm=""))[2:]


@settings(max_examples=60)
@given(st.binary(max_size=30).filter(lambda data: b"\0" not in data), st.data())
def test_replacing_a_piece_leaves_every_other_byte(data: bytes, draw: st.DataObject) -> None:
    """Whatever the bytes, if the edit is made then the file is before + new + after."""

    async def make() -> None:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            marked = data[: len(data) // 2] + b"@MARK@" + data[len(data) // 2 :]
            new = draw.draw(st.text("xy z", max_size=5))
            _, after = await edit(bench, marked, "@MARK@", new)
            if not marked.startswith((b"\xff\xfe", b"\xfe\xff")):
                assert after == marked.replace(b"@MARK@", new.encode())

    anyio.run(make)


@given(st.text("ab\r\n", max_size=20), st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3))
def test_without_line_ends_a_replacement_is_plain_replacement(text: str, old: str, new: str) -> None:
    try:
        result, count = substitute(Decoded(text, "utf-8"), old, new, True, "f")
    except ToolProblem:
        assert old not in text or old == new
    else:
        assert (result, count) == (text.replace(old, new), text.count(old))
