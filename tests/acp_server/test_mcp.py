"""MCP servers of a session: real ones of the `mcp` package, by every way to reach one, and raw ones that misbehave."""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from test_sessions import connected, initialize, of_kind, open_again, take_turn
from wire_client import Message, WireClient

from acp_server.agent import Agent
from acp_server.mcp import link, servers
from acp_server.mcp.offer import Offer
from acp_server.mcp.tool import parameters
from acp_server.model import ModelInfo
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio
both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
HERE = Path(__file__).parent
SECRET = "tok-0123456789"
NOTICES = {"session": {"notices": {}}}


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """One loop, where a test does not ask for both: a server's process costs most of a second."""
    return request.param


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes long to start a server; only one test is about what is told then."""
    monkeypatch.setattr(servers, "SILENCE", 60.0)


class Watching(ScriptedBackend):
    """The scripted model, which keeps the tools that it was told of."""

    def __init__(self, *, context: int = 32768) -> None:
        super().__init__(info=ModelInfo("scripted", context))
        self.told: list[list[Any]] = []

    def generate(self, conversation: Any, tools: Any, sampling: Any) -> Any:
        self.told.append([*tools])
        return super().generate(conversation, tools, sampling)

    @property
    def theirs(self) -> list[Any]:
        """The servers' tools, in the last step."""
        return [spec for spec in self.told[-1] if "__" in spec.name]


def stdio(script: str, *args: str, name: str = "notes", env: dict[str, str] | None = None) -> Message:
    pairs = [{"name": key, "value": value} for key, value in (env or {}).items()]
    return {
        "type": "stdio", "name": name, "command": sys.executable, "args": [str(HERE / script), *args], "env": pairs,
    }  # fmt: skip


def raw(mode: str, *args: str, name: str = "raw", env: dict[str, str] | None = None) -> Message:
    return stdio("raw_mcp_server.py", mode, *args, name=name, env=env)


async def start(client: WireClient, cwd: Path, version: int, *servers: Message) -> str:
    await initialize(client, version, NOTICES if version == 1 else None)
    answer = await client.call("session/new", {"cwd": str(cwd), "mcpServers": list(servers)})
    return answer["result"]["sessionId"]


async def call(client: WireClient, session: str, name: str, arguments: Message, version: int) -> Message:
    """A turn that makes one call; how the call ended."""
    assert await take_turn(client, session, f"call {name} {json.dumps(arguments)}", version) == "end_turn"
    return of_kind(client, "tool_call_update")[-1]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what happens in another process."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


def shown(update: Message) -> str:
    return update["content"][0]["content"]["text"]


# Real servers ----------------------------------------------------------------------------------------------


async def test_a_server_that_is_a_command_is_a_part_of_the_session(tmp_path: Path, version: int) -> None:
    model = Watching()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "ours")
        async with connected(Agent(model)) as client:
            server = stdio("mcp_server.py", "stdio", env={"NOTES_TOKEN": SECRET})
            session = await start(client, tmp_path, version, server)
            added = await call(client, session, "notes__add", {"a": 2, "b": 3}, version)
            assert (added["status"], shown(added), added["rawOutput"]) == ("completed", "5", {"result": 5})
            failed = await call(client, session, "notes__fail", {"why": "no ink"}, version)
            assert failed["status"] == "failed"
            assert "no ink" in shown(failed)
            missing = await call(client, session, "notes__add", {"a": 2}, version)
            assert (missing["status"], "needs 'b'" in shown(missing)) == ("failed", True)
            where = await call(client, session, "notes__where", {}, version)
            assert shown(where) == f"{tmp_path} {SECRET} None"  # its own secret and none of ours
            picture = await call(client, session, "notes__picture", {}, version)
            assert picture["content"][0]["content"]["data"] == "iVBORw0KGgo="
    questions = [m["params"] for m in client.received if m.get("method") == "session/request_permission"]
    assert len(questions) == 4  # a call that cannot be made is not asked for
    call_asked = questions[0]["toolCall"] if version == 1 else questions[0]["subject"]["toolCall"]
    assert call_asked["title"] == "notes: add"
    assert call_asked["rawInput"] == {"a": 2, "b": 3}
    add = next(spec for spec in model.theirs if spec.name == "notes__add")
    assert (add.description, add.parameters["required"]) == ("Add two numbers.", ["a", "b"])


@both_loops
async def test_cancelling_a_turn_cancels_the_call_at_the_server(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with connected() as client:
        session = await start(client, tmp_path, 1, stdio("mcp_server.py", "stdio"))
        prompt = await client.begin_prompt(session, f"call notes__slow {json.dumps({'mark': str(mark)})}")
        await client.until_output("half way")
        await client.notify("session/cancel", {"sessionId": session})
        assert (await client.response(prompt))["result"]["stopReason"] == "cancelled"
        await eventually(lambda: mark.read_text() == "cancelled")
        again = await call(client, session, "notes__add", {"a": 1, "b": 1}, 1)
        assert shown(again) == "2"


@pytest.fixture(scope="module", params=["sse", "streamable-http"])
def served(request: pytest.FixtureRequest) -> Iterator[Message]:
    """A server of that kind on the network, as it is offered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kind: str = request.param
    process = subprocess.Popen([sys.executable, str(HERE / "mcp_server.py"), kind, str(port)])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.02)
        path = "sse" if kind == "sse" else "mcp"
        headers = [{"name": "X-Token", "value": SECRET}]
        url = f"http://127.0.0.1:{port}/{path}"
        yield {"type": "sse" if kind == "sse" else "http", "name": "notes", "url": url, "headers": headers}
    finally:
        process.kill()
        process.wait()


async def test_a_server_on_the_network_is_reached_with_the_headers_of_its_offer(
    served: Message, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mark = tmp_path / "mark"
    async with connected() as client:
        session = await start(client, tmp_path, 1, served)
        if served["type"] == "http":
            assert shown(await call(client, session, "notes__header", {"name": "x-token"}, 1)) == SECRET
        assert shown(await call(client, session, "notes__add", {"a": 2, "b": 3}, 1)) == "5"
        prompt = await client.begin_prompt(session, f"call notes__slow {json.dumps({'mark': str(mark)})}")
        await client.until_output("half way")
        await client.notify("session/cancel", {"sessionId": session})
        assert (await client.response(prompt))["result"]["stopReason"] == "cancelled"
        await eventually(lambda: mark.read_text() == "cancelled")
    assert SECRET not in caplog.text


async def test_version_2_knows_no_sse_and_refuses_what_it_does_not_reach(tmp_path: Path) -> None:
    async with connected() as client:
        await initialize(client, 2)
        for server in (
            {"type": "sse", "name": "a", "url": "http://127.0.0.1:1/sse", "headers": []},
            {"type": "acp", "name": "a", "serverId": "s"},
        ):
            answer = await client.call("session/new", {"cwd": str(tmp_path), "mcpServers": [server]})
            assert answer["error"]["code"] == -32602


async def test_without_the_package_nothing_is_advertised_and_a_server_costs_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_is = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name == "acp_server.mcp.transports":
            raise ModuleNotFoundError("No module named 'mcp'", name="mcp")
        return there_is(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr("acp_server.surface_v1.mcp_is_installed", lambda: False)
    async with connected() as client:
        hello = await initialize(client, 1, NOTICES)
        assert "mcpCapabilities" not in hello["agentCapabilities"]
        answer = await client.call("session/new", {"cwd": str(tmp_path), "mcpServers": [raw("ok")]})
        assert await take_turn(client, answer["result"]["sessionId"], "say fine", 1) == "end_turn"
        [notice] = of_kind(client, "notice")
        assert notice["description"] == "raw: install acp-laguna[mcp] to use MCP servers"


# Servers that misbehave --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (raw("hang"), "it was not ready within 1 seconds"),
        (raw("dead"), "it exited with status 1; its last lines on stderr: cannot find the notes"),
        (raw("huge"), "is over the limit"),
        ({**raw("ok"), "command": "/no/such/command"}, "there is no command /no/such/command"),
        ({"type": "http", "name": "raw", "url": "http://127.0.0.1:9/mcp", "headers": []}, ""),
    ],
    ids=["hang", "dead", "huge", "no command", "no listener"],
)
async def test_a_server_that_cannot_be_used_costs_its_tools_and_no_more(
    server: Message, words: str, tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "START", 10.0 if server["args" if "args" in server else "url"][-1] != "hang" else 1.0)
    async with connected() as client:
        session = await start(client, tmp_path, version, server)
        assert await take_turn(client, session, "say fine", version) == "end_turn"
        assert client.text() == "fine"
        [notice] = of_kind(client, "notice")
        assert (notice["severity"], notice["title"]) == ("warning", "An MCP server cannot be used")
        assert notice["description"].startswith("raw: ")
        assert words in notice["description"]
        assert await take_turn(client, session, "say on", version) == "end_turn"
        assert len(of_kind(client, "notice")) == 1  # told once


async def test_the_user_is_told_what_a_turn_waits_for(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "SILENCE", 0.05)
    monkeypatch.setattr(link, "START", 60.0)
    title = "Waiting for the MCP server two, three"
    async with connected() as client:
        offered = [{**raw("ok"), "command": "/no/such/command"}, raw("hang", name="two"), raw("hang", name="three")]
        session = await start(client, tmp_path, version, *offered)
        await client.begin_prompt(session, "say never")
        told = await client.until(lambda m: "Waiting for" in str(m))
        assert told["params"]["update"] == {
            "sessionUpdate": "notice",
            "severity": "warning",
            "title": title,
            "description": "The turn goes on without its tools after 20 seconds.",
        }
        await client.notify("session/cancel", {"sessionId": session})
        await client.until(lambda m: "'cancelled'" in str(m))
        assert str(client.received).count("Waiting for") == 1


async def test_a_client_without_notices_is_told_in_a_thought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SILENCE", 0.05)
    async with connected() as client:
        await initialize(client, 1)
        params = {"cwd": str(tmp_path), "mcpServers": [raw("hang")]}
        session = (await client.call("session/new", params))["result"]["sessionId"]
        await client.begin_prompt(session, "say never")
        told = await client.until(lambda m: "Waiting for" in str(m))
        assert told["params"]["update"]["sessionUpdate"] == "agent_thought_chunk"
        await client.notify("session/cancel", {"sessionId": session})
        await client.until(lambda m: "'cancelled'" in str(m))


async def test_a_turn_that_waits_for_a_server_can_be_cancelled(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, version, raw("hang"))
        prompt = await client.begin_prompt(session, "say never")
        await client.until(lambda m: m.get("id") == prompt or "state" in str(m)) if version == 2 else None
        await client.notify("session/cancel", {"sessionId": session})
        if version == 1:
            assert (await client.response(prompt))["result"]["stopReason"] == "cancelled"
        else:
            ended = await client.until(lambda m: "'idle'" in str(m))
            assert ended["params"]["update"]["stopReason"] == "cancelled"


async def test_a_server_that_ends_in_a_call_fails_it_with_its_last_words_and_is_started_again(
    tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with connected() as client:
        session = await start(client, tmp_path, version, raw("crash", env={"TOKEN": SECRET}))
        for _ in range(2):
            ended = await call(client, session, "raw__go", {"to": "Rome"}, version)
            assert ended["status"] == "failed"
            assert "the MCP server raw failed: it exited with status 3" in shown(ended)
            assert "segmentation fault, said [secret]" in shown(ended)
    wire = json.dumps(client.received)
    assert SECRET not in wire
    assert SECRET not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("acp_server"))


async def test_noise_on_stderr_and_stdout_disturbs_nothing(
    tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    async with connected() as client:
        session = await start(client, tmp_path, version, raw("flood", env={"TOKEN": SECRET}))
        assert "Rome" in shown(await call(client, session, "raw__go", {"to": "Rome"}, version))
    assert "mumbling" not in caplog.text + "".join(capfd.readouterr())


@both_loops
async def test_a_result_is_shown_without_escape_sequences(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 1, raw("ok"))
        assert shown(await call(client, session, "raw__go", {"to": "Rome"}, 1)) == 'go {"to": "Rome"}'


async def test_of_five_hundred_tools_those_that_fit_are_told_and_the_rest_can_be_found(tmp_path: Path) -> None:
    model = Watching(context=16384)
    async with connected(Agent(model, policy="all")) as client:
        session = await start(client, tmp_path, 1, raw("many"))
        found = await call(client, session, "find_tools", {"query": "thing 477"}, 1)
        assert found["status"] == "completed"
        assert shown(found).splitlines()[0] == "raw__tool_477"
        assert 10 < len(model.theirs) < 200
        assert model.told[-1][-1].name == "find_tools"
        result = next(m for m in reversed(model.seen[-1]) if getattr(m, "name", "") == "find_tools")
        assert json.loads(result.text.splitlines()[0])["name"] == "raw__tool_477"
        assert shown(await call(client, session, "raw__tool_477", {"a": "x"}, 1)) == 'tool_477 {"a": "x"}'
        assert (await call(client, session, "find_tools", {"query": " "}, 1))["status"] == "failed"


async def test_names_and_schemas_that_are_trouble_are_made_fit(tmp_path: Path) -> None:
    model = Watching()
    async with connected(Agent(model, policy="all")) as client:
        one, two = raw("odd", name="my server"), raw("odd", name="my.server")
        session = await start(client, tmp_path, 1, one, two)
        assert await take_turn(client, session, "say fine", 1) == "end_turn"
        specs = {spec.name: spec for spec in model.theirs}
        assert len(specs) == len(model.theirs) == 14
        assert all(len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() for name in specs)
        assert "my_server__a_b" in specs
        tree = specs["my_server__tree"].parameters
        assert tree["properties"]["root"] == {"$ref": "#/$defs/node"}  # as it was: nobody follows it
        assert specs["my_server__deep"].parameters["properties"] == {"inner": {"type": "object"}}
        assert len(specs["my_server__wide"].parameters["properties"]) == 64
        for name in specs:
            assert (await call(client, session, name, {}, 1))["status"] == "completed"


async def test_tools_that_change_are_told_anew_at_the_next_turn(tmp_path: Path) -> None:
    model = Watching()
    async with connected(Agent(model)) as client:
        session = await start(client, tmp_path, 1, raw("changing"))
        names: list[str] = []
        for _ in range(2):
            await take_turn(client, session, "say fine", 1)
            names += [spec.name for spec in model.theirs]
        assert names[0] != names[1]


# The set of a session ----------------------------------------------------------------------------------------


async def test_the_servers_of_a_session_are_those_of_the_last_request_that_opened_it(
    tmp_path: Path, version: int
) -> None:
    model = Watching()
    agent = Agent(model)
    async with connected(agent) as client:
        session = await start(client, tmp_path, version, raw("ok", name="one"))
        await take_turn(client, session, "say fine", version)
        assert [spec.name for spec in model.theirs] == ["one__go"]
        method, params = open_again(session, tmp_path, version, replay=False)
        pid = tmp_path / "pid"
        await client.call(method, params | {"mcpServers": [raw("ok", str(pid), name="two")]})
        await take_turn(client, session, "say fine", version)
        assert [spec.name for spec in model.theirs] == ["two__go"]
        kept = pid.read_text()
        await client.call(method, params | {"mcpServers": [raw("ok", str(pid), name="two")]})
        await take_turn(client, session, "say fine", version)
        assert pid.read_text() == kept  # the same server goes on
    async with connected(agent) as client:
        await initialize(client, version)
        await client.call(*open_again(session, tmp_path, version, replay=True))
        await take_turn(client, session, "say fine", version)
        assert model.theirs == []


async def test_always_is_for_one_tool_of_one_server_as_it_is_offered_now(tmp_path: Path) -> None:
    async with connected() as client:
        client.answer = lambda message: {"outcome": {"outcome": "selected", "optionId": "allow_always"}}
        session = await start(client, tmp_path, 1, raw("ok"))
        for _ in range(2):
            await call(client, session, "raw__go", {"to": "Rome"}, 1)
        questions = [m["params"] for m in client.received if m.get("method") == "session/request_permission"]
        assert [o["name"] for o in questions[0]["options"]][1] == "Always allow go of raw this session"
        assert len(questions) == 1
        # Another command under the same name has to ask again.
        changed = {**raw("ok"), "args": [*raw("ok")["args"], str(tmp_path / "pid")]}
        resume, params = open_again(session, tmp_path, 1, replay=False)
        await client.call(resume, params | {"mcpServers": [changed]})
        await call(client, session, "raw__go", {"to": "Rome"}, 1)
        questions = [m for m in client.received if m.get("method") == "session/request_permission"]
        assert len(questions) == 2


async def test_no_server_outlives_its_session_or_its_client(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two")]
    began = time.monotonic()
    async with connected() as client:
        first = await start(client, tmp_path, 1, raw("deaf", str(files[0])))
        second = await client.call(
            "session/new", {"cwd": str(tmp_path), "mcpServers": [raw("deaf", str(files[1]))]}
        )  # the client just goes away
        await take_turn(client, first, "say fine", 1)
        await take_turn(client, second["result"]["sessionId"], "say fine", 1)
        await client.call("session/close", {"sessionId": first})
        pids = [int(file.read_text()) for file in files]
        await eventually(lambda: not _is_alive(pids[0]))
        assert _is_alive(pids[1])
    assert not _is_alive(pids[1])
    assert time.monotonic() - began < 60


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Pieces -----------------------------------------------------------------------------------------------------


def test_an_offer_tells_nobody_what_it_holds() -> None:
    given = Offer("n", "http", url="https://h/?key=abcdef", headers=(("Authorization", f"Bearer {SECRET}"),))
    assert repr(given) == "Offer(name='n', kind='http')"
    assert given.without_secrets(f"401 for {SECRET}, Bearer {SECRET}") == "401 for [secret], [secret]"
    short = Offer("n", "stdio", env=(("CI", "1"),))
    assert short.without_secrets("exit 1") == "exit 1"


def test_a_schema_that_is_no_schema_is_an_empty_object() -> None:
    assert parameters({"type": "array", "properties": 3, "required": "x"})["properties"] == {}
    assert parameters({})["type"] == "object"
