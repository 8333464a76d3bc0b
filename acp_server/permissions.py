"""When to ask the user, what may be answered, and what an answer means for later calls.

Nothing here talks to anyone: the turn loop asks `allows`, shows `options` if not, and hands the answer to
`decide`. An answer that was not offered is a rejection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .action import Permission

Policy = Literal["ask", "edits", "all"]
"""What goes without asking: nothing, edits in the workspace, or everything but protected paths."""

POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True, slots=True)
class Option:
    """One answer the user can give."""

    id: str
    name: str
    kind: Literal["allow_once", "allow_always", "reject_once"]


class Permissions:
    """One session's permissions: the policy it began with and every "always" since."""

    def __init__(self, policy: Policy = "ask") -> None:
        self.policy = policy
        self._always: set[tuple[str, str]] = set()

    def allows(self, permission: Permission | None) -> bool:
        """Whether the action may run without asking. A protected path always asks until its own "always"."""
        if permission is None or (permission.scope, permission.key) in self._always:
            return True
        if permission.scope == "protected":
            return False
        return self.policy == "all" or (self.policy == "edits" and permission.scope == "edit")

    def options(self, permission: Permission) -> tuple[Option, ...]:
        """What the user is offered, the narrowest permission first."""
        always = permission.always_name
        return (
            Option("allow_once", "Allow once", "allow_once"),
            *((Option("allow_always", always, "allow_always"),) if always else ()),
            Option("reject_once", "Reject", "reject_once"),
        )

    def decide(self, permission: Permission, option_id: str | None) -> bool:
        """Whether the answer allows the action; remembers an "always".

        Only an option that was offered can allow.
        """
        offered = {option.id: option.kind for option in self.options(permission)}
        kind = offered.get(option_id) if option_id is not None else None
        if kind == "allow_always":
            self._always.add((permission.scope, permission.key))
        return kind in ("allow_once", "allow_always")

    def __repr__(self) -> str:
        return f"<Permissions {self.policy}, {len(self._always)} remembered>"
