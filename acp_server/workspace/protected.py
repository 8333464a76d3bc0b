"""Files that are asked about even where edits are allowed: whatever is in them runs later, unasked."""

from __future__ import annotations

from itertools import pairwise

from .jail import Place

_DIRECTORIES = frozenset(
    {".git", ".ssh", ".aws", ".gnupg", ".idea", ".husky", ".circleci", ".claude", ".cursor", ".acp"}
)
_FILES = frozenset(
    {
        ".envrc",
        ".gitconfig",
        ".gitmodules",
        ".npmrc",
        ".pypirc",
        ".netrc",
        ".mcp.json",
        ".bashrc",
        ".bash_profile",
        ".bash_login",
        ".bash_logout",
        ".profile",
        ".zshrc",
        ".zshenv",
        ".zprofile",
        ".zlogin",
        ".zlogout",
        ".kshrc",
        ".cshrc",
        ".tcshrc",
        ".pre-commit-config.yaml",
        ".gitlab-ci.yml",
        ".travis.yml",
        "azure-pipelines.yml",
        "jenkinsfile",
    }
)
_PAIRS = frozenset(
    {
        (".vscode", "tasks.json"),
        (".vscode", "settings.json"),
        (".vscode", "launch.json"),
        (".github", "workflows"),
        (".github", "actions"),
        ("fish", "config.fish"),
    }
)


def is_protected(place: Place) -> bool:
    """Compares without regard to case, for there are file systems that do so too."""
    names = [name.casefold() for name in place.parts]
    return (
        any(name in _DIRECTORIES for name in names)
        or any(pair in _PAIRS for pair in pairwise(names))
        or bool(names and names[-1] in _FILES)
    )
