"""`pytest --acp-agent COMMAND`: the checks of an agent (or a client, a proxy) as tests, one each.

A failure of what is mandatory or announced fails its test and shows the transcript; one of what is advisory is an
expected failure, with the words; what there is nothing to judge of is skipped. Nothing is imported without an option.
"""

# pytest leaves what goes through from_parent untyped.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import pytest

if TYPE_CHECKING:
    from .verdicts import Check, Outcome, Sightings

    Play = Callable[[Any], Awaitable[Outcome]]

SIDES = ("agent", "client", "proxy")


def pytest_addoption(parser: pytest.Parser) -> None:
    add = parser.getgroup("acp", "Agent Client Protocol conformance").addoption
    add("--acp-agent", metavar="COMMAND", help="judge the agent that this command starts, or the one at this URL")
    add("--acp-client", metavar="COMMAND", help="judge the client that this command, with {agent} in it, starts")
    add("--acp-proxy", metavar="COMMAND", help="judge the proxy that this command starts")
    add("--acp-protocol", metavar="N", action="append", choices=["1", "2"], help="the version to judge by; repeatable")
    add("--acp-timeout", metavar="S", type=float, default=10.0, help="seconds for each wait (10)")
    add("--acp-prompt", metavar="NAME=TEXT", action="append", default=[], help="what makes the agent do something")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    for side in SIDES:
        target: str | None = config.getoption(f"--acp-{side}")
        versions: list[str] = config.getoption("--acp-protocol") or ["1"]
        for version in versions if target else ():
            name = f"acp-{side}-v{version}"
            items.extend(
                Suite.from_parent(session, name=name, side=side, version=int(version), target=target).collect()
            )


class Suite(pytest.Collector):
    """The checks of one side in one version. Those that are watched come last, and have seen the others."""

    def __init__(self, *, side: str, version: int, target: str, **more: Any) -> None:
        super().__init__(nodeid=more["name"], **more)
        self.side, self.version, self.target = side, version, target

    def collect(self) -> Iterator[pytest.Item]:
        from .verdicts import Sightings

        seen = Sightings()
        checks, play = self._suite(seen)
        for check in sorted(checks, key=lambda check: check.run is None):
            yield CheckItem.from_parent(self, name=check.id, check=check, play=play, seen=seen)

    def _suite(self, seen: Sightings) -> tuple[Sequence[Check], Play]:
        """The checks, and what plays one."""
        timeout = float(self.config.getoption("--acp-timeout") or 10)
        if self.side == "agent":
            from .agent.checks import checks
            from .agent.reach import reach_of
            from .agent.run import run_check as run_agent_check
            from .agent.settings import AgentSettings

            pairs: list[str] = self.config.getoption("--acp-prompt", None) or []
            prompts: dict[str, str] = dict(pair.split("=", 1) for pair in pairs)
            settings = AgentSettings(self.version, timeout, prompts=prompts)
            agent = reach_of(self.target)
            return checks(self.version), lambda check: run_agent_check(agent, settings, check, seen)
        if self.side == "client":
            from .client.checks import client_checks
            from .client.run import reach_of as client_of
            from .client.run import run_check as run_client_check
            from .client.settings import ClientSettings

            client, how = client_of(self.target), ClientSettings(self.version, timeout)
            return client_checks(self.version), lambda check: run_client_check(client, how, check, seen)
        from .agent.reach import reach_of
        from .proxy.checks import proxy_checks
        from .proxy.run import ProxySettings
        from .proxy.run import run_check as run_proxy_check

        proxy, settings = reach_of(self.target), ProxySettings(self.version, timeout)
        return proxy_checks(self.version), lambda check: run_proxy_check(proxy, settings, check, seen)


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, play: Play, seen: Sightings, **more: Any) -> None:
        super().__init__(**more)
        self._check, self._play, self._seen = check, play, seen

    def runtest(self) -> None:
        from .verdicts import BINDING

        watched = self._check.run is None
        outcome: Outcome = self._seen.outcome(self._check) if watched else anyio.run(self._play, self._check)
        if outcome.verdict == "skip":
            pytest.skip(outcome.words)
        if outcome.verdict == "fail" and self._check.tier not in BINDING:
            pytest.xfail(f"{self._check.tier}: {outcome.words}")
        if outcome.verdict == "fail":
            raise Failed(outcome)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if not isinstance(excinfo.value, Failed):
            return super().repr_failure(excinfo, style)
        from .report import shown

        outcome = excinfo.value.outcome
        duties = " ".join(outcome.check.requirements)
        return f"{outcome.check.title} [{duties}]\n\n{shown(outcome.transcript)}\n\n{outcome.words}"

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, f"{self.parent.name if self.parent else ''}: {self.name}"


class Failed(Exception):
    """A check failed."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.words)
        self.outcome = outcome
