"""The jail goes by the file: whatever a path is called, nothing outside is read or written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acp_server.action import ToolProblem
from acp_server.workspace.files import load, replace
from acp_server.workspace.jail import Jail


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    """A workspace `ws` beside a `ws-evil` and a `secret` that must stay unread and unchanged."""
    root = tmp_path / "ws"
    (root / "src").mkdir(parents=True)
    (root / "src" / "app.py").write_text("inside\n")
    (tmp_path / "ws-evil").mkdir()
    (tmp_path / "ws-evil" / "file").write_text("secret\n")
    (tmp_path / "secret").write_text("secret\n")
    return root


def test_a_path_may_be_relative_absolute_or_roundabout(ws: Path) -> None:
    jail = Jail(ws)
    for path in ("src/app.py", "./src//app.py", f"{ws}/src/app.py", "src/../src/app.py", f"../{ws.name}/src/app.py"):
        place = jail.resolve(path)
        assert place.parts == ("src", "app.py")
        assert place.absolute == str(ws / "src/app.py")
        assert load(jail, place).data == b"inside\n"
    assert jail.resolve(f"{ws}/src/app.py").shown == "src/app.py"


@pytest.mark.parametrize(
    "path",
    ["../secret", "src/../../secret", "/etc/passwd", "../ws-evil/file", "/", "..", "~/x", "/proc/self/root/etc/passwd"],
)
def test_a_path_that_leads_out_is_refused(ws: Path, path: str) -> None:
    with pytest.raises(ToolProblem, match="is outside the workspace"):
        Jail(ws).resolve(path)


def test_a_directory_whose_name_begins_like_the_workspace_is_outside(ws: Path) -> None:
    with pytest.raises(ToolProblem, match="is outside the workspace"):
        Jail(ws).resolve(f"{ws}-evil/file")


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "", "  ", "x" * 5000, "a/" * 2000, "\ud800", "a/" * 300 + "b"])
def test_what_is_no_path_is_refused_with_words(ws: Path, path: str) -> None:
    jail = Jail(ws)
    with pytest.raises(ToolProblem) as refused:
        load(jail, jail.resolve(path))
    assert len(str(refused.value)) < 300


def test_a_link_that_points_inside_is_followed_to_the_file_it_means(ws: Path) -> None:
    (ws / "link.py").symlink_to("src/app.py")
    (ws / "chain").symlink_to(ws / "link.py")
    (ws / "dir").symlink_to(ws / "src")
    jail = Jail(ws)
    for path in ("link.py", "chain", "dir/app.py"):
        place = jail.resolve(path)
        assert place.parts == ("src", "app.py")
        assert place.title == f"{path} → src/app.py"
    replace(jail, jail.resolve("chain"), b"new\n", load(jail, jail.resolve("chain")))
    assert (ws / "link.py").is_symlink()
    assert (ws / "chain").is_symlink()
    assert (ws / "src/app.py").read_bytes() == b"new\n"


def test_a_link_that_points_out_is_refused_and_its_target_stays(ws: Path) -> None:
    (ws / "file").symlink_to("../secret")
    (ws / "dir").symlink_to("..")
    (ws / "abs").symlink_to(ws.parent / "secret")
    (ws / "chain").symlink_to("file")
    (ws / "dangling").symlink_to("../not-there")
    jail = Jail(ws)
    for path in ("file", "dir/secret", "abs", "chain", "dangling"):
        with pytest.raises(ToolProblem, match="is outside the workspace"):
            jail.resolve(path)
    assert (ws.parent / "secret").read_text() == "secret\n"
    assert not (ws.parent / "not-there").exists()


def test_links_that_go_in_circles_end(ws: Path) -> None:
    (ws / "a").symlink_to("b")
    (ws / "b").symlink_to("a")
    (ws / "self").symlink_to("self/self")
    for path in ("a", "self", "self/x"):
        with pytest.raises(ToolProblem, match="too many symlinks"):
            Jail(ws).resolve(path)


def test_a_file_swapped_for_a_link_after_the_check_is_not_followed(ws: Path) -> None:
    jail = Jail(ws)
    place = jail.resolve("src/app.py")
    before = load(jail, place)
    (ws / "src/app.py").unlink()
    (ws / "src/app.py").symlink_to(ws.parent / "secret")
    with pytest.raises(ToolProblem):
        load(jail, place)
    with pytest.raises(ToolProblem):
        replace(jail, place, b"overwritten", before)
    assert (ws.parent / "secret").read_text() == "secret\n"


def test_a_directory_swapped_for_a_link_after_the_check_is_not_followed(ws: Path) -> None:
    jail = Jail(ws)
    old, new = jail.resolve("src/app.py"), jail.resolve("src/file")
    (ws / "src").rename(ws / "was-src")
    (ws / "src").symlink_to(ws.parent / "ws-evil")
    with pytest.raises(ToolProblem):
        load(jail, old)
    with pytest.raises(ToolProblem):
        replace(jail, new, b"overwritten", None)
    assert (ws.parent / "ws-evil/file").read_text() == "secret\n"
    assert os.listdir(ws.parent / "ws-evil") == ["file"]


def test_a_workspace_that_was_replaced_is_not_used(ws: Path) -> None:
    jail = Jail(ws)
    ws.rename(ws.parent / "moved")
    ws.symlink_to(ws.parent / "ws-evil")
    with pytest.raises(ToolProblem, match="workspace cannot be opened"):
        jail.resolve("file")
    ws.unlink()
    (ws.parent / "ws-evil").rename(ws)
    with pytest.raises(ToolProblem, match="replaced"):
        jail.resolve("file")


@pytest.mark.timeout(5)
def test_what_is_not_a_regular_file_is_refused_without_waiting(ws: Path) -> None:
    os.mkfifo(ws / "fifo")
    jail = Jail(ws)
    with pytest.raises(ToolProblem, match="not a regular file"):
        load(jail, jail.resolve("fifo"))
    with pytest.raises(ToolProblem, match="is a directory; use list_directory"):
        load(jail, jail.resolve("src"))
    with pytest.raises(ToolProblem, match="nothing does not exist"):
        load(jail, jail.resolve("nothing"))
    with pytest.raises(ToolProblem, match="does not exist"):
        load(jail, jail.resolve("src/app.py/deeper"))


@pytest.mark.timeout(5)
def test_devices_and_processes_are_refused_even_where_the_root_is_everything() -> None:
    jail = Jail(Path("/"))
    for path in ("/dev/zero", "/dev/tty", "/proc/self/environ", "/proc/kmsg"):
        with pytest.raises(ToolProblem):
            load(jail, jail.resolve(path))


def test_a_second_root_is_reached_by_its_absolute_path(ws: Path) -> None:
    jail = Jail(ws, [ws.parent / "ws-evil"])
    for path in (f"{ws}-evil/file", "../ws-evil/file"):
        assert load(jail, jail.resolve(path)).data == b"secret\n"
    with pytest.raises(ToolProblem, match="outside"):
        jail.resolve("../secret")


def test_the_workspace_may_be_named_through_a_link(ws: Path) -> None:
    alias = ws.parent / "alias"
    alias.symlink_to(ws)
    jail = Jail(alias)
    for path in ("src/app.py", f"{alias}/src/app.py", f"{ws}/src/app.py"):
        place = jail.resolve(path)
        assert place.absolute == str(alias / "src/app.py")
        assert place.shown == "src/app.py"


NAMES = st.sampled_from(["..", ".", "", "a", "b", "in", "out", "up", "loop", "file", "ws", "ws-evil", "secret"])


@settings(max_examples=150)
@given(st.lists(NAMES, max_size=8), st.booleans())
def test_whatever_a_path_is_made_of_only_files_inside_are_read(names: list[str], absolute: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "ws"
        (root / "a" / "b").mkdir(parents=True)
        for directory in (root, root / "a", root / "a/b"):
            (directory / "file").write_text("inside")
        (root.parent / "ws-evil").mkdir()
        for outside in (root.parent / "secret", root.parent / "ws-evil" / "file", root.parent / "file"):
            outside.write_text("outside")
        (root / "in").symlink_to(root / "a" / "b")
        (root / "out").symlink_to("../ws-evil")
        (root / "a" / "up").symlink_to("../..")
        (root / "loop").symlink_to("loop")
        path = ("/" if absolute else "").join([f"{root}/" if absolute else "", "/".join(names)])
        jail = Jail(root)
        try:
            data = load(jail, jail.resolve(path)).data
        except ToolProblem:
            # Refused rightly: the system, which knows no walls, finds no file inside there either.
            real = os.path.realpath(root / path)
            assert not (os.path.isfile(real) and real.startswith(f"{root}/") and os.path.isfile(root / path))
        else:
            assert data == b"inside"
