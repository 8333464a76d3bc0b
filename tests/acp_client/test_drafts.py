"""What the protocol may still change: our client asks our agent, in both versions, by names that both have opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from acp.errors import LocalProtocolError, RequestError
from acp.transports.memory import memory_pair
from acp.unstable import Unstable
from acp.updates import TurnEnded, TurnStarted
from acp_client import AuthStatus, Client, Host, Provider, SessionStatus, SystemPrompt, allow_all, connect
from acp_server.agent import Agent, serve
from acp_server.auth import AuthMethod
from acp_server.model import System
from acp_server.openai.endpoint import Endpoint
from acp_server.openai.routed import RoutedBackend
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio
ALL = get_args(Unstable)
OURS = tuple(name for name in ALL if name != "subagents")
"""What our agent can have."""


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@asynccontextmanager
async def connected(
    version: int, agent: Agent | None = None, *, ours: Any = ALL, theirs: Any = OURS, **parts: Any
) -> AsyncGenerator[Client]:
    one, other = memory_pair()
    agent = agent or Agent(ScriptedBackend(), unstable=theirs, **parts)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, agent, other)
        async with connect(one, host=Host(ask=allow_all, unstable=ours), version=version) as client:
            yield client


async def every_draft(client: Client) -> list[str]:
    """The methods that are open, by asking for each of them."""
    asked = {
        "archive": lambda: client.drafts.archive("s"),
        "unarchive": lambda: client.drafts.unarchive("s"),
        "status": lambda: client.drafts.status("s"),
        "title": lambda: client.drafts.set_title("s", "t"),
        "auth": client.drafts.auth_status,
        "providers": client.drafts.providers,
        "set": lambda: client.drafts.set_provider("main", "openai", "http://127.0.0.1:1/v1", None),
        "disable": lambda: client.drafts.disable_provider("main"),
        "fork": lambda: client.fork_session("s", "/tmp"),
        "list": lambda: client.list_sessions(archived="only"),
        "prompt": lambda: client.new_session("/tmp", system_prompt=SystemPrompt("x")),
    }
    found: list[str] = []
    for name, ask in asked.items():
        try:
            await ask()
        except LocalProtocolError:
            continue
        except RequestError as error:
            if error.code == -32601:
                raise
        found.append(name)
    return found


async def test_nothing_of_it_is_open_unless_both_sides_have_named_it(version: int) -> None:
    for ours, theirs in ((ALL, ()), ((), OURS)):
        model = RoutedBackend(None)
        async with connected(version, Agent(model, providers=model, unstable=theirs), ours=ours) as client:
            assert await every_draft(client) == []
    model = RoutedBackend(None)
    async with connected(version, Agent(model, providers=model, unstable=OURS)) as client:
        assert len(await every_draft(client)) == 11


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(ValueError, match="teleport"):
        Host(unstable=["teleport"])  # type: ignore[list-item]


# Sessions ---------------------------------------------------------------------------------------------------


async def test_a_session_is_archived_found_again_and_brought_back(tmp_path: Path, version: int) -> None:
    async with connected(version) as client:
        session = await client.new_session(tmp_path)
        await session.close()
        await client.drafts.archive(session.id)
        assert await client.list_sessions() == []
        [card] = await client.list_sessions(archived="only")
        assert (card.id, card.archived) == (session.id, True)
        await client.drafts.unarchive(session.id)
        assert [card.archived for card in await client.list_sessions(archived="include")] == [False]
        with pytest.raises(RequestError) as unknown:
            await client.drafts.archive("unknown")
        assert (unknown.value.code, unknown.value.data) == (-32002, {"sessionId": "unknown"})


async def test_the_status_tells_what_a_session_does_and_changes_nothing(tmp_path: Path, version: int) -> None:
    async with connected(version) as client:
        session = await client.new_session(tmp_path)
        idle = await client.drafts.status(session.id)
        running: list[SessionStatus] = []
        async with session.prompt("say hi\nhang") as turn:
            async for _ in turn:
                running.append(await client.drafts.status(session.id))
                await turn.cancel()
        if version == 2:
            assert isinstance(running[0].state, TurnStarted)
            assert idle.state == TurnEnded(None, background=())
        assert (idle.status, running[0].status) == ("open", "open")
        await session.close()
        assert await client.drafts.status(session.id) == SessionStatus("saved")
        with pytest.raises(RequestError, match="not found"):
            await client.drafts.status("unknown")


async def test_a_title_is_trimmed_kept_and_told(tmp_path: Path, version: int) -> None:
    async with connected(version) as client:
        session = await client.new_session(tmp_path)
        assert await client.drafts.set_title(session.id, "  My work\n") == "My work"
        async with session.prompt("say hi") as turn:
            await turn.text()
        assert session.title == "My work"  # and not what the prompt would make of it
        [card] = await client.list_sessions()
        assert card.title == "My work"
        with pytest.raises(RequestError) as empty:
            await client.drafts.set_title(session.id, " \n ")
        assert empty.value.code == -32602


# Instructions -----------------------------------------------------------------------------------------------


def told(model: ScriptedBackend) -> str:
    """The system prompt of the last step."""
    first = model.seen[-1][0]
    assert isinstance(first, System)
    return first.text


async def test_instructions_of_the_application_are_told_to_the_model(tmp_path: Path, version: int) -> None:
    model = ScriptedBackend()
    agent = Agent(model, unstable=OURS)
    async with connected(version, agent) as client:
        session = await client.new_session(tmp_path, system_prompt=SystemPrompt("Answer in rhymes."))
        async with session.prompt("say one") as turn:
            await turn.text()
        assert "You are a coding agent" in told(model)
        assert told(model).count("Answer in rhymes.") == 1
        fork = await client.fork_session(session.id, tmp_path)  # which keeps what was stored with its source
        async with fork.prompt("say two") as turn:
            await turn.text()
        assert "Answer in rhymes." in told(model)
        for opened in (session, fork):
            await opened.close()
        again = await client.load_session(session.id, tmp_path, replay=False)
        async with again.prompt("say three") as turn:
            await turn.text()
        assert "Answer in rhymes." in told(model)
        await again.close()
        new = SystemPrompt("You are a poet.", "override")
        again = await client.load_session(session.id, tmp_path, system_prompt=new)
        async with again.prompt("say four") as turn:
            await turn.text()
        assert told(model).startswith("You are a poet.")
        assert "coding agent" not in told(model)
        assert "rhymes" not in told(model)
        assert len(model.seen[-1]) == 6  # what was said before is there all the same


@pytest.mark.parametrize(
    "prompt",
    [
        {"mode": "prepend", "content": [{"type": "text", "text": "x"}]},
        {"mode": "append", "content": [{"type": "image", "data": "", "mimeType": "image/png"}]},
        {"mode": "append", "content": [{"type": "_chart", "rows": 3}]},
        {"mode": "append", "content": []},
        {"mode": "append", "content": [{"type": "text", "text": " "}]},
        {"mode": "append", "content": [{"type": "text", "text": "x" * 100_000}]},
    ],
)
async def test_instructions_that_cannot_be_applied_are_an_error_and_open_nothing(
    tmp_path: Path, version: int, prompt: Any
) -> None:
    async with connected(version) as client:
        method = client.dialect.methods["session/new"]
        params = {"cwd": str(tmp_path), "mcpServers": [], "systemPrompt": prompt}
        with pytest.raises(RequestError) as refused:
            await client.connection.call(method, method.params.decode(params))
        assert refused.value.code == -32602
        assert await client.list_sessions() == []


async def test_an_agent_that_has_not_opened_them_refuses_instructions(tmp_path: Path, version: int) -> None:
    async with connected(version, theirs=()) as client:
        method = client.dialect.methods["session/new"]
        prompt = {"mode": "append", "content": [{"type": "text", "text": "x"}]}
        params = {"cwd": str(tmp_path), "mcpServers": [], "systemPrompt": prompt}
        with pytest.raises(RequestError, match="takes no system prompt"):
            await client.connection.call(method, method.params.decode(params))


# Who is there -----------------------------------------------------------------------------------------------


class Door:
    """Somebody is let in who asks."""

    methods = (AuthMethod("knock", "Knock"),)

    def __init__(self) -> None:
        self.logged_in = False

    @property
    def accounts(self) -> list[dict[str, Any]]:
        return [{"label": "Knocker", "active": True}] if self.logged_in else []

    async def login(self, method_id: str) -> None:
        self.logged_in = True

    async def logout(self) -> None:
        self.logged_in = False


async def test_who_is_logged_in_is_asked_and_told_when_it_changes(version: int) -> None:
    agent = Agent(ScriptedBackend(), auth=Door(), unstable=OURS)
    async with connected(version, agent) as client, connected(version, agent) as other:
        heard: list[AuthStatus] = []
        client.on_auth_status = heard.append
        assert await client.drafts.auth_status() == AuthStatus("unauthenticated")
        await other.login("knock")
        await client.login("knock")  # no change, no word
        status = await client.drafts.auth_status()
        assert status == AuthStatus("authenticated", ({"label": "Knocker", "active": True},))
        assert "Knocker" not in repr(status)
        await client.logout()
        await client.drafts.auth_status()
        assert [said.state for said in heard] == ["authenticated", "unauthenticated"]


async def test_an_agent_without_a_door_needs_no_login(version: int) -> None:
    async with connected(version) as client:
        assert await client.drafts.auth_status() == AuthStatus("not_required")


# Providers --------------------------------------------------------------------------------------------------


async def test_the_client_says_where_the_model_is(tmp_path: Path, version: int) -> None:
    model = RoutedBackend(None)
    async with connected(version, Agent(model, providers=model, unstable=OURS)) as client:
        assert await client.drafts.providers() == [Provider("main", ("openai",), False)]
        session = await client.new_session(tmp_path)
        with pytest.raises(RequestError, match="no provider is set"):
            async with session.prompt("hello") as turn:
                await turn.text()
        await client.drafts.set_provider("main", "openai", "http://127.0.0.1:9/v1", {"X-Key": "secret-word"})
        [provider] = await client.drafts.providers()
        assert (provider.api_type, provider.base_url) == ("openai", "http://127.0.0.1:9/v1")
        assert "secret-word" not in f"{provider} {model!r}"
        await client.drafts.disable_provider("main")
        await client.drafts.disable_provider("main")
        assert (await client.drafts.providers())[0].base_url is None


@pytest.mark.parametrize(
    ("id", "kind", "url", "headers"),
    [
        ("other", "openai", "http://127.0.0.1/v1", None),
        ("main", "anthropic", "http://127.0.0.1/v1", None),
        ("main", "openai", "ftp://127.0.0.1/v1", None),
        ("main", "openai", "http://user:pw@127.0.0.1/v1", None),
        ("main", "openai", "http://models.example/v1", {"Authorization": "Bearer x"}),
        ("main", "openai", "http://127.0.0.1/v1", {"X-Key": "a\r\nHost: b"}),
        ("main", "openai", "http://127.0.0.1/v1", {"Content-Length": "3"}),
    ],
)
async def test_a_provider_that_cannot_be_is_refused_and_changes_nothing(
    version: int, id: str, kind: str, url: str, headers: Any
) -> None:
    model = RoutedBackend(Endpoint("http://127.0.0.1:9/v1"))
    async with connected(version, Agent(model, providers=model, unstable=OURS)) as client:
        with pytest.raises(RequestError) as refused:
            await client.drafts.set_provider(id, kind, url, headers)
        assert refused.value.code == -32602
        assert "Bearer x" not in str(refused.value.data) + refused.value.message
        assert (await client.drafts.providers())[0].base_url == "http://127.0.0.1:9/v1"


def test_several_principals_have_no_providers_to_set() -> None:
    model = RoutedBackend(None)
    assert not Agent(model, providers=model, unstable=OURS).belonging_to("alice").opens("providers")
