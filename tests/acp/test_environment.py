"""The environment of commands."""

from __future__ import annotations

import os

from acp.environment import clean_environment


def test_secrets_and_shell_settings_are_kept_from_commands() -> None:
    secret = ["GITHUB_TOKEN", "X_API_KEY", "aws_secret", "DB_PASSWORD", "AWS_REGION", "OPENAI_BASE", "LD_PRELOAD"]
    acting = ["BASH_ENV", "ENV", "PROMPT_COMMAND", "GIT_DIR", "SSH_AUTH_SOCK", "BASH_FUNC_ls%%"]
    kept = clean_environment({"HOME": "/home/x", "MONKEY": "m", **dict.fromkeys([*secret, *acting], "s")})
    assert "s" not in kept.values()
    assert (kept["HOME"], kept["MONKEY"], kept["PATH"]) == ("/home/x", "m", os.defpath)


def test_nothing_pages_prompts_or_colours() -> None:
    kept = clean_environment({"PAGER": "less", "TERM": "xterm", "PATH": "/bin"})
    assert (kept["PAGER"], kept["TERM"], kept["CI"], kept["PATH"]) == ("cat", "dumb", "1", "/bin")
