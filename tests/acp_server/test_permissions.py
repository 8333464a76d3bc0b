"""Who may do what without asking, and what an answer means."""

from __future__ import annotations

import pytest

from acp_server.action import Permission
from acp_server.permissions import Permissions

EDIT = Permission("edit", "/ws", "Always allow edits in /ws this session")
RUN = Permission("execute", "pytest", "Always allow `pytest` this session")
HOOK = Permission("protected", "/ws/.git/hooks/x")


@pytest.mark.parametrize(
    ("policy", "edit", "run", "hook"),
    [("ask", False, False, False), ("edits", True, False, False), ("all", True, True, False)],
)
def test_a_policy_allows_what_it_says_and_protected_paths_always_ask(
    policy: str, edit: bool, run: bool, hook: bool
) -> None:
    permissions = Permissions(policy)  # type: ignore[arg-type]
    assert [permissions.allows(p) for p in (EDIT, RUN, HOOK)] == [edit, run, hook]
    assert permissions.allows(None)


def test_allow_once_allows_once() -> None:
    permissions = Permissions()
    assert permissions.decide(EDIT, "allow_once")
    assert not permissions.allows(EDIT)


def test_always_holds_for_its_own_key_and_scope_only() -> None:
    permissions = Permissions()
    assert permissions.decide(RUN, "allow_always")
    assert permissions.allows(RUN)
    assert not permissions.allows(Permission("execute", "pytest -x"))
    assert not permissions.allows(Permission("edit", "pytest"))


def test_the_options_say_what_always_would_remember() -> None:
    options = Permissions().options(RUN)
    assert [(o.id, o.kind) for o in options] == [
        ("allow_once", "allow_once"),
        ("allow_always", "allow_always"),
        ("reject_once", "reject_once"),
    ]
    assert options[1].name == RUN.always_name


@pytest.mark.parametrize("answer", ["reject_once", "", "allow", "ALLOW_ONCE", None])
def test_anything_but_an_offered_permission_rejects(answer: str | None) -> None:
    assert not Permissions().decide(EDIT, answer)


def test_always_cannot_be_chosen_where_it_was_not_offered() -> None:
    permissions = Permissions("all")
    assert not permissions.decide(HOOK, "allow_always")
    assert not permissions.allows(HOOK)
