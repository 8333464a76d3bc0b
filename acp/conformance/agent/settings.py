"""How an agent is driven: deadlines, prompts, a login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROMPTS: Mapping[str, tuple[str, str]] = {
    "say": ("Say hello.", "a prompt that is answered soon"),
    "cancel": ("Count slowly to one thousand.", "a prompt that takes its time"),
    "ask": ("Run `echo acp-check` in a shell, and ask for permission first.", "makes the agent ask for a permission"),
    "read": ("Read the file acp-check.txt and say what is in it.", "makes it read through the client"),
    "edit": ("Create the file acp-check.txt with the line acp-check in it.", "makes it write a file"),
    "run": ("Run `echo acp-check` in a shell.", "makes it run a command"),
    "plan": ("Make a plan of three steps for a small program, and show it as a plan.", "makes it show a plan"),
    "form": ("Ask me for my favourite colour with a form.", "makes it ask with a form"),
    "visit": ("Have me sign in on a web page.", "makes it ask to visit an address"),
    "background": ("Start `sleep 5` in the background and end your turn.", "leaves work behind when the turn ends"),
    "delegate": ("Have a subagent count to three.", "makes it use a subagent"),
    "notify": ("Warn me that the disk is nearly full, as a notice.", "makes it give a notice"),
}
"""Name → the prompt, and what it is for. A check whose prompt does not bring what it needs has nothing to judge."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How an agent is driven.

    `timeout` bounds each wait in seconds, `startup_timeout` the one for the first answer (default: `timeout`),
    `test_timeout` a whole check (default: three times the longer). `prompts` replaces those of PROMPTS by name.
    Sessions work in `session_cwd`, by default a new directory for each check. `auth_method` is logged in with after
    initialize; `allow_logout` lets a check log out. `jobs` checks run at once.
    """

    version: int = 1
    timeout: float = 10.0
    startup_timeout: float | None = None
    test_timeout: float | None = None
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    session_cwd: str | None = None
    auth_method: str | None = None
    allow_logout: bool = False
    jobs: int = 1

    def prompt(self, name: str) -> str:
        return self.prompts.get(name, PROMPTS[name][0])

    @property
    def startup(self) -> float:
        return self.timeout if self.startup_timeout is None else self.startup_timeout

    @property
    def watchdog(self) -> float:
        return 3 * max(self.timeout, self.startup) if self.test_timeout is None else self.test_timeout
