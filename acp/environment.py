"""The environment that commands are run in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET = re.compile(
    r".*(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|_KEY|APIKEY)(S|_.*)?"
    r"|(AWS|OPENAI|POOLSIDE|ANTHROPIC|LD|DYLD|GIT)_.*|BASH_FUNC_.*"
    r"|SSH_AUTH_SOCK|SSH_AGENT_PID|PYTHONSTARTUP|PYTHONHOME|PYTHONINSPECT|BASH_ENV|ENV|PROMPT_COMMAND"
    r"|PS4|IFS|CDPATH|SHELLOPTS|BASHOPTS|GLOBIGNORE|BASH_XTRACEFD",
    re.IGNORECASE | re.DOTALL,
)
_QUIET = {
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "PIP_PROGRESS_BAR": "off",
    "TQDM_DISABLE": "1",
    "PYTHONUNBUFFERED": "1",
    "CI": "1",
    "TERM": "dumb",
    "NO_COLOR": "1",
}


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without secrets and without what changes how a shell or a loader behaves; nothing pages or prompts."""
    kept = {name: value for name, value in environment.items() if not _SECRET.fullmatch(name)}
    return {"PATH": os.defpath, **kept, **_QUIET}
