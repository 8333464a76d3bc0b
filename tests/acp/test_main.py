"""The `acp` command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from acp.__main__ import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_no_command_and_an_unknown_one_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["fly"]) == 2
    captured = capsys.readouterr()
    assert "no command 'fly'; it is one of agent, exec" in captured.err
    assert captured.out == ""


def test_version_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("acp 0.")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_there_and_has_help(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "acp", name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"usage: acp {name}" in done.stdout


def test_the_command_imports_nothing_that_was_not_asked_for() -> None:
    code = "import sys, acp.__main__; acp.__main__.main(['--help']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "anyio", "jsonrpcserver", "acp_server", "acp_client", "argparse"} & set(modules)
