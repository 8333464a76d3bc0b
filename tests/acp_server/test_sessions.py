"""Sessions over their life, on both versions in raw JSON: kept, listed, opened again, set, closed and forgotten."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire_client import Message, WireClient, allow, silent

from acp.errors import RequestError
from acp.transports.memory import memory_pair
from acp_server.agent import Agent, serve
from acp_server.auth import AuthMethod
from acp_server.commands import Template
from acp_server.scripted import ScriptedBackend
from acp_server.storage.memory import MemoryStore

pytestmark = pytest.mark.anyio
ALL = ("fork", "archive", "status", "title", "auth_status")


@asynccontextmanager
async def connected(agent: Agent | None = None, **parts: Any) -> AsyncGenerator[WireClient, None]:
    """A client of an agent with the scripted model, which ends with the block."""
    ours, theirs = memory_pair()
    agent = agent or Agent(ScriptedBackend(), **parts)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, agent, theirs)
        yield WireClient(ours.send, ours.receive)
        await ours.aclose()


async def initialize(client: WireClient, version: int, capabilities: Message | None = None) -> Message:
    if version == 1:
        params: Message = {"protocolVersion": 1, "clientCapabilities": capabilities or {}}
    else:
        info = {"name": "test", "version": "0"}
        params = {"protocolVersion": 2, "info": info, "capabilities": capabilities or {}}
    return (await client.call("initialize", params))["result"]


async def start(client: WireClient, cwd: Path, version: int) -> str:
    """Initialize and open a session; its id."""
    await initialize(client, version)
    answer = await client.call("session/new", {"cwd": str(cwd), "mcpServers": []})
    return answer["result"]["sessionId"]


async def take_turn(client: WireClient, session: str, text: str, version: int) -> str:
    """A whole turn; why it ended."""
    answer = await client.prompt(session, text)
    if version == 1:
        return answer["result"]["stopReason"]
    ended = await client.until(is_idle)
    return ended["params"]["update"]["stopReason"]


def is_idle(message: Message) -> bool:
    return message.get("params", {}).get("update", {}).get("state") == "idle"


def of_kind(client: WireClient, *kinds: str) -> list[Message]:
    return [update for update in client.updates() if update["sessionUpdate"] in kinds]


def open_again(session: str, cwd: Path, version: int, *, replay: bool) -> tuple[str, Message]:
    params: Message = {"sessionId": session, "cwd": str(cwd), "mcpServers": []}
    if version == 1:
        return ("session/load" if replay else "session/resume"), params
    return "session/resume", params | ({"replayFrom": {"type": "start"}} if replay else {})


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


# Kept and opened again -----------------------------------------------------------------------------------


async def test_a_loaded_session_shows_all_that_was_said_before_it_is_answered(tmp_path: Path, version: int) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    agent = Agent(ScriptedBackend())
    async with connected(agent) as client:
        session = await start(client, tmp_path, version)
        assert await take_turn(client, session, "read a.py", version) == "end_turn"
        live = client.text()
        ids = {u["messageId"] for u in of_kind(client, "agent_message_chunk", "agent_thought_chunk")}
    async with connected(agent) as client:
        await initialize(client, version)
        answer = await client.call(*open_again(session, tmp_path, version, replay=True))
        seen = [m for m in client.received if m.get("method") == "session/update"]
        assert client.received.index(seen[-1]) < client.received.index(answer)
        if version == 1:
            assert [u["content"]["text"] for u in of_kind(client, "user_message_chunk")] == ["read a.py"]
            assert client.text() == live
            assert {u["messageId"] for u in of_kind(client, "agent_message_chunk", "agent_thought_chunk")} == ids
        else:
            assert [u["content"][0]["text"] for u in of_kind(client, "user_message")] == ["read a.py"]
            assert "".join(b["text"] for u in of_kind(client, "agent_message") for b in u["content"]) == live
            assert {u["messageId"] for u in of_kind(client, "agent_message", "agent_thought")} == ids
            assert client.updates()[-1]["state"] == "idle"
        [call] = of_kind(client, "tool_call", "tool_call_update")
        assert call["status"] == "completed"
        assert answer["result"]["configOptions"]


async def test_a_resumed_session_shows_nothing_of_its_past_and_knows_it(tmp_path: Path, version: int) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(agent) as client:
        session = await start(client, tmp_path, version)
        await take_turn(client, session, "say hi", version)
    async with connected(agent) as client:
        await initialize(client, version)
        await client.call(*open_again(session, tmp_path, version, replay=False))
        assert of_kind(client, "user_message_chunk", "user_message", "agent_message_chunk", "agent_message") == []
        assert [u.get("state") for u in client.updates()] == ([] if version == 1 else ["idle"])
        assert await take_turn(client, session, "say again", version) == "end_turn"
        assert {u["messageId"].split(".")[0] for u in of_kind(client, "agent_message_chunk")} == {"t2"}


@pytest.mark.parametrize("replay", [True, False], ids=["replayed", "resumed"])
async def test_a_session_that_is_opened_elsewhere_is_listed_there_at_once(
    tmp_path: Path, version: int, replay: bool
) -> None:
    agent = Agent(ScriptedBackend())
    places = [tmp_path / name for name in ("here", "there", "beside")]
    for place in places:
        place.mkdir()
    here, there, beside = map(str, places)
    async with connected(agent) as client:
        session = await start(client, places[0], version)
        await take_turn(client, session, "say hi", version)
    async with connected(agent) as client, connected(agent) as other:
        await initialize(client, version)
        await initialize(other, version)
        [old] = (await other.call("session/list", {}))["result"]["sessions"]
        method, params = open_again(session, places[1], version, replay=replay)
        await client.call(method, params | {"additionalDirectories": [beside]})
        [new] = (await other.call("session/list", {"cwd": there}))["result"]["sessions"]
        assert new == old | {"cwd": there, "additionalDirectories": [beside]}
        assert (await other.call("session/list", {"cwd": here}))["result"]["sessions"] == []


async def test_a_session_begun_in_one_version_goes_on_in_the_other(tmp_path: Path, version: int) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    agent = Agent(ScriptedBackend(), policy="all")
    other = 3 - version
    async with connected(agent) as client:
        session = await start(client, tmp_path, version)
        await take_turn(client, session, "read a.py\nedit a.py 'x = 1' 'x = 2'", version)
    async with connected(agent) as client:
        await initialize(client, other)
        await client.call(*open_again(session, tmp_path, other, replay=True))
        calls = of_kind(client, "tool_call", "tool_call_update")
        assert [call["kind"] for call in calls] == ["read", "edit"]
        assert [item["type"] for item in calls[1]["content"]] == ["diff"]
        assert await take_turn(client, session, "say more", other) == "end_turn"


async def test_a_session_that_another_connection_holds_cannot_be_opened(tmp_path: Path, version: int) -> None:
    agent = Agent(ScriptedBackend())
    async with connected(agent) as first, connected(agent) as second:
        session = await start(first, tmp_path, version)
        await initialize(second, version)
        refused = await second.call(*open_again(session, tmp_path, version, replay=True))
        assert refused["error"]["code"] == -32600
        assert refused["error"]["data"] == {"sessionId": session}
        await first.call("session/close", {"sessionId": session})
        assert "result" in await second.call(*open_again(session, tmp_path, version, replay=True))


@pytest.mark.parametrize("method", ["load", "resume", "set_config_option", "prompt"])
async def test_a_session_that_nobody_knows_is_not_found(tmp_path: Path, version: int, method: str) -> None:
    if (method, version) == ("load", 2):
        method = "resume"
    async with connected() as client:
        await initialize(client, version)
        params = {
            "sessionId": "nobody",
            "cwd": str(tmp_path),
            "mcpServers": [],
            "prompt": [{"type": "text", "text": "x"}],
            "configId": "mode",
            "value": "ask",
            "type": "id",
        }
        error = (await client.call(f"session/{method}", params))["error"]
        assert (error["code"], error["data"]) == (-32002, {"sessionId": "nobody"})


async def test_a_replay_cannot_begin_in_the_middle(tmp_path: Path) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, 2)
        params = {"sessionId": session, "cwd": str(tmp_path), "replayFrom": {"type": "middle"}}
        assert (await client.call("session/resume", params))["error"]["code"] == -32602


# Lists -----------------------------------------------------------------------------------------------------


async def test_a_list_comes_in_pages_and_by_directory(tmp_path: Path, version: int) -> None:
    (tmp_path / "other").mkdir()
    async with connected() as client:
        await initialize(client, version)
        assert (await client.call("session/list", {}))["result"]["sessions"] == []
        for number in range(60):
            where = tmp_path / "other" if number % 3 == 0 else tmp_path
            await client.call("session/new", {"cwd": str(where), "mcpServers": []})
        first = (await client.call("session/list", {}))["result"]
        second = (await client.call("session/list", {"cursor": first["nextCursor"]}))["result"]
        assert (len(first["sessions"]), len(second["sessions"])) == (50, 10)
        assert "nextCursor" not in second
        assert len({s["sessionId"] for s in first["sessions"] + second["sessions"]}) == 60
        here = (await client.call("session/list", {"cwd": str(tmp_path / "other")}))["result"]["sessions"]
        assert [s["cwd"] for s in here] == [str(tmp_path / "other")] * 20


@pytest.mark.parametrize("cursor", ["", "x", "bm9uc2Vuc2U=", "WzEsIDJd", "ä" * 300])
async def test_a_cursor_that_is_none_of_ours_is_refused(version: int, cursor: str) -> None:
    async with connected() as client:
        await initialize(client, version)
        assert (await client.call("session/list", {"cursor": cursor}))["error"]["code"] == -32602


async def test_the_first_prompt_becomes_the_title(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, version)
        await take_turn(client, session, "say  hi\nthere " + "x" * 200, version)
        [told] = of_kind(client, "session_info_update")
        [listed] = (await client.call("session/list", {}))["result"]["sessions"]
        assert listed["title"] == told["title"]
        assert listed["title"].startswith("say hi there xxx")
        assert len(listed["title"]) == 80


async def test_a_deleted_session_is_gone_and_deleting_it_again_is_fine(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, version)
        for _ in range(2):
            assert (await client.call("session/delete", {"sessionId": session}))["result"] == {}
        assert (await client.call("session/list", {}))["result"]["sessions"] == []
        assert (await client.prompt(session, "say hi"))["error"]["code"] == -32002


async def test_a_session_that_another_connection_holds_is_not_deleted_archived_or_renamed(
    tmp_path: Path, version: int
) -> None:
    agent = Agent(ScriptedBackend(), unstable=["archive", "title"])
    async with connected(agent) as holder, connected(agent) as other:
        holder.answer = silent
        session = await start(holder, tmp_path, version)
        await initialize(other, version)
        prompt = await holder.begin_prompt(session, "run echo hi\nsay hello")
        question = await holder.until_asked()
        for method, more in (("delete", {}), ("archive", {}), ("set_title", {"title": "mine"})):
            refused = await other.call(f"session/{method}", {"sessionId": session, **more})
            opened = await other.call(*open_again(session, tmp_path, version, replay=True))
            assert refused["error"] == opened["error"]
            assert refused["error"]["message"] == "The session is open elsewhere."
        await holder.send({"jsonrpc": "2.0", "id": question["id"], "result": allow(question)})
        await (holder.response(prompt) if version == 1 else holder.until(is_idle))
        assert holder.text() == "hello"
        [listed] = (await other.call("session/list", {}))["result"]["sessions"]
        assert (listed["sessionId"], listed["title"]) == (session, "run echo hi say hello")


# Closing -----------------------------------------------------------------------------------------------------


async def test_closing_ends_the_turn_and_nothing_comes_after_the_answer(tmp_path: Path, version: int) -> None:
    async with connected() as client:
        client.answer = silent
        session = await start(client, tmp_path, version)
        prompt = await client.begin_prompt(session, "say hi\nrun sleep 60")
        await client.until_asked()
        close = await client.request("session/close", {"sessionId": session})
        ended = await client.response(prompt) if version == 1 else None
        await client.response(close)
        if ended is not None:
            assert ended["result"]["stopReason"] == "cancelled"
        else:
            assert client.updates()[-1] | {"stopReason": "cancelled"} == client.updates()[-1]
        before = len(client.updates())
        assert (await client.prompt(session, "say hi"))["error"]["code"] == -32002
        assert len(client.updates()) == before


async def test_closing_a_session_that_nobody_knows_is_fine(version: int) -> None:
    async with connected() as client:
        await initialize(client, version)
        assert (await client.call("session/close", {"sessionId": "nobody"}))["result"] == {}


# Options -------------------------------------------------------------------------------------------------------


def option_id(version: int) -> str:
    return "id" if version == 1 else "configId"


async def test_options_are_listed_set_and_kept(tmp_path: Path, version: int) -> None:
    others = {"other": ScriptedBackend()}
    agent = Agent(ScriptedBackend(), model_name="main", others=others)
    async with connected(agent) as client:
        session = await start(client, tmp_path, version)
        for id, value in (("mode", "all"), ("model", "other"), ("thought_level", "off")):
            params = {"sessionId": session, "configId": id, "value": value, "type": "id"}
            options = (await client.call("session/set_config_option", params))["result"]["configOptions"]
            assert {o[option_id(version)]: o["currentValue"] for o in options}[id] == value
        assert of_kind(client, "config_option_update")[-1]["configOptions"] == options
        assert await take_turn(client, session, "run true", version) == "end_turn"
        assert not [m for m in client.received if m.get("method") == "session/request_permission"]
    async with connected(agent) as client:
        await initialize(client, version)
        answer = await client.call(*open_again(session, tmp_path, version, replay=False))
        values = [option["currentValue"] for option in answer["result"]["configOptions"]]
        assert values == ["all", "other", "off"]


@pytest.mark.parametrize(("id", "value"), [("mode", "root"), ("colour", "red"), ("mode", True), ("model", "gpt")])
async def test_a_wrong_option_or_value_is_refused_and_changes_nothing(
    tmp_path: Path, version: int, id: str, value: object
) -> None:
    async with connected() as client:
        session = await start(client, tmp_path, version)
        kind = "boolean" if value is True else "id"
        params = {"sessionId": session, "configId": id, "value": value, "type": kind}
        assert (await client.call("session/set_config_option", params))["error"]["code"] == -32602
        assert of_kind(client, "config_option_update") == []


async def test_modes_and_options_are_kept_in_step_in_v1(tmp_path: Path) -> None:
    async with connected() as client:
        await initialize(client, 1)
        opened = (await client.call("session/new", {"cwd": str(tmp_path), "mcpServers": []}))["result"]
        assert opened["modes"]["currentModeId"] == "ask"
        assert [mode["id"] for mode in opened["modes"]["availableModes"]] == ["ask", "edits", "all"]
        params = {"sessionId": opened["sessionId"], "modeId": "edits"}
        assert (await client.call("session/set_mode", params))["result"] == {}
        [mode] = of_kind(client, "current_mode_update")
        [options] = of_kind(client, "config_option_update")
        assert mode["currentModeId"] == "edits"
        assert options["configOptions"][0]["currentValue"] == "edits"
        wrong = {"sessionId": opened["sessionId"], "modeId": "chaos"}
        assert (await client.call("session/set_mode", wrong))["error"]["code"] == -32602


# Commands --------------------------------------------------------------------------------------------------------

SHOUT = Template("shout", "Say it loudly", "say {input}!", hint="what to say")


async def test_a_command_stands_for_its_text_and_clients_are_told_of_it(tmp_path: Path, version: int) -> None:
    async with connected(commands=[SHOUT]) as client:
        await initialize(client, version)
        opened = (await client.call("session/new", {"cwd": str(tmp_path), "mcpServers": []}))["result"]
        if version == 1:
            told = await client.until(lambda m: "availableCommands" in m.get("params", {}).get("update", {}))
            command, own = told["params"]["update"]["availableCommands"]
        else:
            command, own = opened["availableCommands"]
        assert own["name"] == "compact"
        assert command["name"] == "shout"
        assert command["input"]["hint"] == "what to say"
        await take_turn(client, opened["sessionId"], "/shout hello", version)
        assert client.text() == "hello!"


# Who is there -----------------------------------------------------------------------------------------------------


class Door:
    """A way to log in that takes nobody but the one who knows it."""

    methods = (AuthMethod("key", "With a key", "Ask for one"), AuthMethod("luck", "With luck"))

    def __init__(self) -> None:
        self.logged_in = False

    async def login(self, method_id: str) -> None:
        if method_id != "key":
            raise RequestError.auth_required()
        self.logged_in = True

    async def logout(self) -> None:
        self.logged_in = False


async def test_sessions_are_refused_until_somebody_has_logged_in(tmp_path: Path, version: int) -> None:
    login, logout = ("authenticate", "logout") if version == 1 else ("auth/login", "auth/logout")
    new = ("session/new", {"cwd": str(tmp_path), "mcpServers": []})
    async with connected(auth=Door(), unstable=["auth_status"]) as client:
        methods = (await initialize(client, version))["authMethods"]
        assert [m["id" if version == 1 else "methodId"] for m in methods] == ["key", "luck"]
        assert (await client.call("auth/status", {}))["result"]["state"] == "unauthenticated"
        assert (await client.call(*new))["error"]["code"] == -32000
        assert (await client.call(login, {"methodId": "force"}))["error"]["code"] == -32602
        assert (await client.call(login, {"methodId": "luck"}))["error"]["code"] == -32000
        assert (await client.call(login, {"methodId": "key"}))["result"] == {}
        assert (await client.call("auth/status", {}))["result"]["state"] == "authenticated"
        session = (await client.call(*new))["result"]["sessionId"]
        assert (await client.call(logout, {}))["result"] == {}
        assert (await client.prompt(session, "say hi"))["error"]["code"] == -32000


async def test_an_agent_that_asks_nobody_who_he_is_has_no_way_to_log_in(version: int) -> None:
    async with connected() as client:
        assert (await initialize(client, version))["authMethods"] == []
        for method in ("authenticate", "logout", "auth/login", "auth/logout", "auth/status"):
            assert (await client.call(method, {"methodId": "x"}))["error"]["code"] == -32601


# What may still change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "archive", "unarchive", "status", "set_title"])
async def test_what_may_still_change_is_closed_until_it_is_opened_by_name(version: int, method: str) -> None:
    async with connected() as client:
        await initialize(client, version)
        assert (await client.call(f"session/{method}", {"sessionId": "s"}))["error"]["code"] == -32601


def test_a_part_that_does_not_exist_cannot_be_opened() -> None:
    with pytest.raises(ValueError, match="teleport"):
        Agent(ScriptedBackend(), unstable=["teleport"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no subagents to open"):
        Agent(ScriptedBackend(), unstable=["subagents"])


async def test_a_fork_has_the_history_and_goes_its_own_way(tmp_path: Path, version: int) -> None:
    async with connected(unstable=ALL) as client:
        session = await start(client, tmp_path, version)
        await take_turn(client, session, "say one", version)
        params = {"sessionId": session, "cwd": str(tmp_path), "mcpServers": []}
        fork = (await client.call("session/fork", params))["result"]["sessionId"]
        assert fork != session
        await take_turn(client, fork, "say two", version)
        client.received.clear()
        await client.call(*open_again(session, tmp_path, version, replay=True))
        assert "two" not in str(client.updates())
        await client.call(*open_again(fork, tmp_path, version, replay=True))
        assert "two" in str(client.updates())


async def test_an_archived_session_is_closed_and_hidden_until_it_is_shown_again(tmp_path: Path, version: int) -> None:
    async with connected(unstable=ALL) as client:
        session = await start(client, tmp_path, version)
        await client.call("session/archive", {"sessionId": session})
        assert (await client.call("session/list", {}))["result"]["sessions"] == []
        [hidden] = (await client.call("session/list", {"archived": "only"}))["result"]["sessions"]
        assert hidden["archived"] is True
        assert (await client.call("session/status", {"sessionId": session}))["result"]["status"] == "saved"
        assert (await client.call("session/list", {"archived": "_odd"}))["error"]["code"] == -32602
        await client.call("session/unarchive", {"sessionId": session})
        assert len((await client.call("session/list", {}))["result"]["sessions"]) == 1
        assert (await client.call("session/archive", {"sessionId": "nobody"}))["error"]["code"] == -32002


async def test_a_title_that_the_user_gave_stays(tmp_path: Path, version: int) -> None:
    agent = Agent(ScriptedBackend(), store=MemoryStore(), unstable=ALL)
    async with connected(agent) as client:
        session = await start(client, tmp_path, version)
        answer = await client.call("session/set_title", {"sessionId": session, "title": "Mine"})
        assert answer["result"]["title"] == "Mine"
        assert [u["title"] for u in of_kind(client, "session_info_update")] == ["Mine"]
        await take_turn(client, session, "say hi", version)
        [listed] = (await client.call("session/list", {}))["result"]["sessions"]
        assert listed["title"] == "Mine"
        assert (await client.call("session/status", {"sessionId": session}))["result"]["status"] == "open"
