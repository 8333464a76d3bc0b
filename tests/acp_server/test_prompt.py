"""The system prompt and the user's blocks as text."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import pytest

from acp.errors import RequestError
from acp.updates import OtherBlock, TextBlock
from acp_server.model import COMPACT_PROMPT, ModelInfo
from acp_server.prompt import INSTRUCTIONS_LIMIT, prompt_text, system_prompt

BIG = ModelInfo("big", 131072)
DAY = datetime.date(2026, 1, 2)


def test_the_system_prompt_is_the_same_bytes_each_time_and_about_450_tokens(tmp_path: Path) -> None:
    prompt = system_prompt(tmp_path, BIG, today=DAY)
    assert prompt == system_prompt(tmp_path, BIG, today=DAY)
    assert f"workspace: {tmp_path} | os: Linux | shell: bash | git: no | date: 2026-01-02" in prompt
    assert 350 < len(prompt) / 3.5 < 600


def test_a_compact_model_gets_one_short_line_whatever_the_project_says(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("Use tabs.")
    assert system_prompt(tmp_path, ModelInfo("nano", 4096, compact=True)) == COMPACT_PROMPT


def test_instructions_come_from_the_repository_down_to_the_directory_nearest_last(tmp_path: Path) -> None:
    package = tmp_path / "repo" / "package"
    package.mkdir(parents=True)
    (tmp_path / "AGENTS.md").write_text("outside")
    (tmp_path / "repo" / ".git").mkdir()
    (tmp_path / "repo" / "AGENTS.md").write_text("whole repository")
    (package / "AGENTS.md").write_text("this package")
    prompt = system_prompt(package, BIG)
    assert "outside" not in prompt
    assert prompt.index("whole repository") < prompt.index("this package")
    assert f"## {package / 'AGENTS.md'}" in prompt
    assert "git: yes" in prompt


def test_instructions_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("x" * 10_000_000)
    prompt = system_prompt(tmp_path, BIG)
    assert prompt.count("x") < INSTRUCTIONS_LIMIT + 100
    assert f"[cut after {INSTRUCTIONS_LIMIT} bytes]" in prompt


def test_instructions_that_are_no_file_of_the_project_are_not_read(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "elsewhere").write_text("a private key")
    (project / "AGENTS.md").symlink_to(tmp_path / "elsewhere")
    assert "a private key" not in system_prompt(project, BIG)
    (project / "AGENTS.md").unlink()
    os.mkfifo(project / "AGENTS.md")
    assert "Project instructions" not in system_prompt(project, BIG)


def test_text_links_and_embedded_texts_become_one_text() -> None:
    link = {"type": "resource_link", "name": "a.py", "uri": "file:///ws/a.py"}
    embedded = {"type": "resource", "resource": {"uri": "file:///ws/b.md", "text": "say ```hi```"}}
    assert prompt_text([TextBlock("Look at"), OtherBlock(link), OtherBlock(embedded)]) == (
        "Look at\n[a.py](file:///ws/a.py)\nfile:///ws/b.md\n````\nsay ```hi```\n````"
    )


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"type": "image", "data": "aGk=", "mimeType": "image/png"}, "type image is not supported"),
        ({"type": "audio", "data": "aGk=", "mimeType": "audio/wav"}, "type audio is not supported"),
        ({"type": "hologram"}, "type hologram is not supported"),
        ({"type": "resource", "resource": {"uri": "x:y", "blob": "aGk="}}, "Binary resources"),
    ],
)
def test_what_the_model_cannot_read_is_refused_and_not_dropped(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        prompt_text([TextBlock("What is this?"), OtherBlock(raw)])
    assert refused.value.code == -32602


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"]])
def test_an_empty_prompt_is_refused(texts: list[str]) -> None:
    with pytest.raises(RequestError, match="empty"):
        prompt_text([TextBlock(text) for text in texts])
