"""The command line of `acp exec`: what is refused, with status 2 and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acp_client.cli.options import LARGEST_PROMPT, parse


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a prompt"),
        (["a prompt", "-f", "file"], "give a prompt"),
        (["  \n "], "the prompt is empty"),
        (["hi", "--cwd", "no/such/directory"], "--cwd: no such directory: no/such/directory"),
        (["hi", "--cwd", "file"], "--cwd: no such directory: file"),
        (["-f", "no-such-file"], "No such file"),
        (["-f", "."], "Is a directory"),
        (["-f", "binary"], "not UTF-8 text"),
        (["-f", "huge"], "is longer than"),
        (["hi", "--timeout", "0"], "not a positive number"),
        (["hi", "--timeout", "nan"], "not a positive number"),
        (["hi", "--timeout", "soon"], "invalid float"),
        (["hi", "--allow", "everything"], "invalid choice"),
        (["hi", "--agent", "x", "--model", "m", "--backend", "b"], "--backend, --model is for our own agent"),
        (["hi", "--no-such-option"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_reason(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("a prompt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge").write_bytes(b"a" * (LARGEST_PROMPT + 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_paths_become_absolute_and_our_own_agent_gets_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("here")
    for name in (["--model", "org/name"], ["--backend", "openai", "--model", "weights"]):
        assert parse(["hi", *name]).target.agent[-len(name) :] == name  # no directories
    options = parse(["hi", "--cwd", "here", "--model", "weights", "--allow", "edits", "--device", "cpu"])
    assert options.cwd == str(tmp_path / "here")
    assert options.target.is_own
    assert options.target.agent[-6:] == ["--allow", "edits", "--model", str(tmp_path / "weights"), "--device", "cpu"]


def test_help_lists_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(status in shown for status in ("0 done", "2 wrong usage", "3 a permission", "124", "130", "143"))
