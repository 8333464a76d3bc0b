"""Judges agents, clients and proxies by the protocol: `acp check`, a library, and a plugin of pytest.

    facts  cases  patterns  requirements  schema_check    what is judged: data from `spec/`, and how it is read
    verdicts  coverage                                    what a check is, what came of it, what is judged by what
    side  watching  running                               a conversation, what is watched in all of them, a run
    agent/  client/  proxy/                               the three kinds of runs, and their checks
    exploring/  replay                                    conversations that nobody wrote, and one played again
    report/  pytest_plugin                                terminal, JSON, JUnit, HTML; tests

An agent is driven as a client would drive it, in a fresh process or connection for each check; a client is started
against an agent that follows a script; a proxy runs under a conductor that is both. Every text is checked against the
schema and blamed on who said it. A check that found nothing to judge says so, and none waits longer than its time.

It knows the protocol from `spec/` alone, neither from the generated models nor from the dialects, so that it is a
second opinion on both. A check judges requirements (`acp check coverage`), and for each check the tests have agents,
clients or proxies with just its defect.

In the continuous integration of another project, after `pip install 'acp-laguna[check]'`, either of

    acp check agent --protocol 1 --jobs 2 --junit acp.xml --html acp.html -- python -m my_agent
    acp check client --protocol 1 --jobs 2 --junit acp.xml -- my-client --agent '{agent}' hello
    pytest --acp-agent "python -m my_agent" --acp-protocol 1 --acp-protocol 2

ends with 0 only if nothing failed that is mandatory or was announced. As a library:

    report = await check_agent("python -m my_agent", AgentSettings(version=2, timeout=30))
    assert report.conformant, [(outcome.check.id, outcome.words) for outcome in report.failed()]

What an agent does depends on what it is told: `--ask-prompt`, `--edit-prompt` and their like (`AgentSettings.prompts`)
say what makes it ask, edit, run, plan; without what fits, the checks of that have nothing to judge.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent.reach import Address, Command, Here
    from .agent.run import check_agent
    from .agent.settings import AgentSettings
    from .client.run import check_client
    from .client.settings import ClientSettings
    from .proxy.run import ProxySettings, check_proxy
    from .verdicts import Check, Outcome, Report

__all__ = [
    "Address",
    "AgentSettings",
    "Check",
    "ClientSettings",
    "Command",
    "Here",
    "Outcome",
    "ProxySettings",
    "Report",
    "check_agent",
    "check_client",
    "check_proxy",
]
_MODULES = {
    **dict.fromkeys(("Address", "Command", "Here"), ".agent.reach"),
    **dict.fromkeys(("Check", "Outcome", "Report"), ".verdicts"),
    **dict.fromkeys(("ProxySettings", "check_proxy"), ".proxy.run"),
    "check_agent": ".agent.run",
    "AgentSettings": ".agent.settings",
    "check_client": ".client.run",
    "ClientSettings": ".client.settings",
}


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: pytest loads the plugin in here in every run of everybody who has this installed.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
