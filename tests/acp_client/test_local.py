"""The host's files on a real disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wire_agent import in_session

from acp_client import Host, LocalFiles, reject_all

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    (tmp_path / "root").mkdir()
    return LocalFiles(tmp_path / "root")


@pytest.mark.parametrize(
    ("line", "limit", "expected"),
    [
        (None, None, "a\nb\r\nc"),
        (1, None, "a\nb\r\nc"),
        (0, 1, "a\n"),
        (2, 1, "b\r\n"),
        (3, 9, "c"),
        (4, None, ""),
        (1, 0, ""),
    ],
)
async def test_a_part_of_a_file_counts_lines_from_one(
    line: int | None, limit: int | None, expected: str, files: LocalFiles
) -> None:
    (files.root / "f").write_bytes(b"a\nb\r\nc")
    assert await files.read_text(str(files.root / "f"), line=line, limit=limit) == expected


async def test_writing_makes_the_file_and_keeps_the_bytes_and_the_mode(files: LocalFiles) -> None:
    path = files.root / "deep" / "f"
    await files.write_text(str(path), "a\r\nä")
    assert path.read_bytes() == b"a\r\n\xc3\xa4"
    path.chmod(0o755)
    await files.write_text(str(path), "")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"", 0o755)
    assert os.listdir(path.parent) == ["f"]


async def test_no_way_leads_out_of_the_root(files: LocalFiles, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root-evil").mkdir()
    (files.root / "link").symlink_to(tmp_path / "secret")
    (files.root / "out").symlink_to(tmp_path)
    (files.root / "loop").symlink_to(files.root / "loop")
    for name in ("../secret", "link", "out/secret", "out/new", "../root-evil/f", "loop"):
        path = f"{files.root}/{name}"
        with pytest.raises((OSError, RuntimeError)):
            await files.read_text(path)
        with pytest.raises((OSError, RuntimeError)):
            await files.write_text(path, "mine")
    with pytest.raises(OSError, match="is not in"):
        await files.read_text("f")
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "new").exists()


async def test_what_is_no_file_is_refused(files: LocalFiles) -> None:
    os.mkfifo(files.root / "pipe")
    for name in ("pipe", "", "none"):
        with pytest.raises(OSError, match="there is no file"):
            await files.read_text(str(files.root / name))


async def test_an_agent_reads_and_writes_by_the_protocol(files: LocalFiles) -> None:
    (files.root / "f").write_text("one\ntwo\n")
    (files.root / "binary").write_bytes(b"\xff\xfe")
    async with in_session(Host(reject_all, files)) as (_, agent, _):
        assert agent.heard[0]["params"]["clientCapabilities"]["fs"] == {"readTextFile": True, "writeTextFile": True}

        async def ask(id: int, method: str, **params: object) -> object:
            await agent.say(id=id, method=method, params={"sessionId": "s1", **params})
            answer = await agent.hear_answer(id)
            return answer["result"] if "result" in answer else answer["error"]["code"]

        path = str(files.root / "f")
        read = "fs/read_text_file"
        assert await ask(1, read, path=path, line=None, limit=None) == {"content": "one\ntwo\n"}
        assert await ask(2, read, path=path, line=2, limit=1) == {"content": "two\n"}
        assert await ask(3, "fs/write_text_file", path=path, content="new") == {}
        assert await ask(4, read, path=path) == {"content": "new"}
        assert await ask(5, read, path=f"{files.root}/none") == -32002
        assert await ask(6, read, path=f"{files.root}/binary") == -32602
        assert await ask(7, read, path="/etc/passwd") == -32602
        assert await ask(8, "fs/write_text_file", path=f"{files.root}/../x", content="") == -32602
        assert await ask(9, read, path="/a\0b") == -32602
