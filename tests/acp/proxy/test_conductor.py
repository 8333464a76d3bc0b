"""A whole chain in one process: the client library, a conductor, proxies and the agent, in both versions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from acp.errors import LocalProtocolError, RequestError
from acp.proxy import Passing, Proxy, conduct
from acp.transports.memory import MemoryTransport, memory_pair
from acp.updates import MessageChunk, TextBlock
from acp_client import Client, Host, allow_all, connect
from acp_server.agent import Agent, serve
from acp_server.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@asynccontextmanager
async def chained(*proxies: Proxy, version: int = 1, **options: Any) -> AsyncGenerator[Client, None]:
    async with anyio.create_task_group() as group:
        near, far = memory_pair()
        components: list[tuple[str, MemoryTransport]] = []
        for proxy in proxies:
            ours, theirs = memory_pair()
            group.start_soon(proxy.run, theirs)
            components.append((proxy.name, ours))
        ours, theirs = memory_pair()
        group.start_soon(serve, Agent(ScriptedBackend()), theirs)
        group.start_soon(conduct, far, [*components, ("the agent", ours)])
        async with connect(near, host=Host(ask=allow_all), version=version, **options) as client:
            yield client
        group.cancel_scope.cancel()


async def said(client: Client, cwd: Path, prompt: str) -> tuple[str, str | None]:
    session = await client.new_session(cwd)
    words: list[str] = []
    async with session.prompt(prompt) as turn:
        async for update in turn:
            match update:
                case MessageChunk("agent", TextBlock(text)):
                    words.append(text)
                case _:
                    pass
    return "".join(words), turn.stop_reason


async def test_a_turn_with_permissions_passes_proxies_that_do_nothing(tmp_path: Path, version: int) -> None:
    async with chained(Proxy("one"), Proxy("two"), version=version) as client:
        assert client.info.version == version
        words, reason = await said(client, tmp_path, "write a.txt hello\ncount 300")
    assert words.split()[:300] == [str(n) for n in range(1, 301)]
    assert reason == "end_turn"
    assert (tmp_path / "a.txt").read_text() == "hello"


async def test_hooks_change_what_passes_and_see_the_result(tmp_path: Path, version: int) -> None:
    proxy = Proxy("changing")
    results: list[Any] = []

    @proxy.from_client("session/prompt")
    async def prompt(passing: Passing) -> Any:
        result = await passing.forward({**passing.params, "prompt": [{"type": "text", "text": "say changed"}]})
        results.append(result)
        return result

    async with chained(Proxy("before"), proxy, Proxy("behind"), version=version) as client:
        words, reason = await said(client, tmp_path, "say plain")
    assert ("changed" in words, "plain" in words, reason) == (True, False, "end_turn")
    assert len(results) == 1


async def test_a_hook_may_answer_by_itself_refuse_and_drop(tmp_path: Path) -> None:
    proxy = Proxy("strict")

    @proxy.from_client("session/list")
    async def listed(passing: Passing) -> Any:
        return {"sessions": []}

    @proxy.from_client("session/new")
    async def new(passing: Passing) -> Any:
        if passing.params["cwd"] == "/":
            raise RequestError(-32602, "not there")
        return await passing.forward()

    @proxy.from_agent("session/update")
    async def update(passing: Passing) -> None:
        if "chunk" not in passing.params["update"]["sessionUpdate"]:
            await passing.forward()

    async with chained(proxy) as client:
        words, reason = await said(client, tmp_path, "say hello")
        assert (words, reason) == ("", "end_turn")
        assert await client.list_sessions() == []
        with pytest.raises(RequestError, match="not there"):
            await client.new_session("/")


async def test_a_hook_asks_and_tells_either_side(tmp_path: Path) -> None:
    proxy = Proxy("curious")
    seen: list[Any] = []

    @proxy.from_client("session/prompt")
    async def prompt(passing: Passing) -> Any:
        seen.append(await passing.agent.call("session/list", {}))
        with pytest.raises(RequestError, match="-32601"):
            await passing.client.call("_no/such")
        chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "from the proxy "}}
        session = passing.params["sessionId"]
        await passing.client.notify("session/update", {"sessionId": session, "update": chunk})
        return await passing.forward()

    @proxy.from_agent("session/update")
    async def update(passing: Passing) -> None:
        with pytest.raises(LocalProtocolError, match="hold"):
            await passing.agent.call("session/list", {})
        await passing.forward()

    async with chained(proxy, Proxy("other")) as client:
        words, _ = await said(client, tmp_path, "say hello")
    assert words.startswith("from the proxy hello")
    assert len(seen[0]["sessions"]) == 1


async def test_a_prompt_that_a_hook_holds_is_not_overtaken_by_its_cancelling(tmp_path: Path, version: int) -> None:
    proxy = Proxy("slow")

    @proxy.from_client("session/prompt")
    async def prompt(passing: Passing) -> Any:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        return await passing.forward()

    async with chained(Proxy("one"), proxy, version=version) as client:
        session = await client.new_session(tmp_path)
        with anyio.fail_after(60):
            async with session.prompt("slow") as turn:
                await turn.cancel()
                async for _ in turn:
                    pass
    assert turn.stop_reason == "cancelled"


async def test_cancelling_a_request_reaches_the_hook_and_the_agent_behind_it(tmp_path: Path) -> None:
    proxy = Proxy("slow")
    ends: list[str] = []

    @proxy.from_client("_ask/slowly")
    async def ask(passing: Passing) -> Any:
        try:
            return await passing.forward()
        finally:
            ends.append("the hook")

    last = Proxy("last")
    reached, behind = anyio.Event(), anyio.Event()

    @last.from_client("_ask/slowly")
    async def never(passing: Passing) -> Any:
        try:
            reached.set()
            await anyio.sleep_forever()
        finally:
            ends.append("the one behind too")
            behind.set()

    near, far = memory_pair()
    async with anyio.create_task_group() as group:
        pairs = [memory_pair() for _ in range(3)]
        group.start_soon(proxy.run, pairs[0][1])
        group.start_soon(last.run, pairs[1][1])
        group.start_soon(conduct, far, [(str(n), pair[0]) for n, pair in enumerate(pairs)])
        await near.send(b'{"jsonrpc":"2.0","id":1,"method":"_ask/slowly"}')
        with anyio.fail_after(60):
            await reached.wait()
        await near.send(b'{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":1}}')
        with anyio.fail_after(60):
            answer = await near.receive()
            assert answer == b'{"jsonrpc":"2.0","id":1,"error":{"code":-32800,"message":"Request cancelled"}}'
            await behind.wait()
        await near.aclose()
        await pairs[2][1].aclose()
    assert set(ends) == {"the hook", "the one behind too"}


async def test_a_failing_hook_says_nothing_of_its_insides(tmp_path: Path) -> None:
    proxy = Proxy("broken")

    @proxy.from_client("session/list")
    async def listed(passing: Passing) -> Any:
        raise KeyError("/home/secret")

    async with chained(proxy) as client:
        with pytest.raises(RequestError, match="Internal error") as caught:
            await client.list_sessions()
        assert set(caught.value.data) == {"reference"}
        assert (await said(client, tmp_path, "say on"))[1] == "end_turn"


async def test_when_a_component_ends_the_client_hears_which_and_the_chain_is_over() -> None:
    near, far = memory_pair()
    ours, theirs = memory_pair()
    why: list[str | None] = []

    async def run() -> None:
        why.append(await conduct(far, [("the agent", ours)]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await near.send(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}')
        await theirs.receive()
        await theirs.aclose()
        with anyio.fail_after(60):
            assert b"the agent has gone" in await near.receive()  # type: ignore[operator]
    await near.aclose()
    assert why == ["the agent has gone"]


async def test_unknown_methods_and_members_pass_untouched() -> None:
    near, far = memory_pair()
    async with anyio.create_task_group() as group:
        pairs = [memory_pair() for _ in range(2)]
        group.start_soon(Proxy("one").run, pairs[0][1])
        group.start_soon(conduct, far, [("one", pairs[0][0]), ("the agent", pairs[1][0])])
        line = (
            '{"jsonrpc":"2.0","method":"_future/thing","params":{"é":[1,null,{"_meta":{"x":true}}],"n":1e-7}}'.encode()
        )
        await near.send(line)
        with anyio.fail_after(60):
            assert await pairs[1][1].receive() == line.replace(b"1e-7", b"1e-07")
        await near.aclose()
        await pairs[1][1].aclose()


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ({"error": "too late"}, "Malformed answer (error has no integer code): too late"),
        ({"result": None, "error": {"code": -32000, "message": "no"}}, "no"),
        ({"result": {"sessionId": "s"}, "error": None}, {"sessionId": "s"}),
        ({"result": {}, "as_text": True}, "Malformed answer (its id is a string, and was a number)"),
    ],
)
@pytest.mark.parametrize("hooked", [True, False])
async def test_a_proxy_waits_for_no_malformed_answer(answer: dict[str, Any], heard: Any, hooked: bool) -> None:
    proxy = Proxy("passing on")
    if hooked:

        @proxy.from_client("session/new")
        async def new(passing: Passing) -> Any:  # pyright: ignore[reportUnusedFunction]
            return await passing.forward(passing.params)

    ours, theirs = memory_pair()
    said: dict[str, Any] = {"id": None}
    body = {name: value for name, value in answer.items() if name != "as_text"}
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(proxy.run, theirs)
            await ours.send(json.dumps({"jsonrpc": "2.0", "id": "a", "method": "session/new", "params": {}}).encode())
            asked = json.loads(await ours.receive())  # type: ignore[arg-type]
            id = str(asked["id"]) if "as_text" in answer else asked["id"]
            await ours.send(json.dumps({"jsonrpc": "2.0", "id": id, **body}).encode())
            while said["id"] is None:  # the report of a malformed message
                said = json.loads(await ours.receive())  # type: ignore[arg-type]
            await ours.aclose()
    assert said["id"] == "a"
    assert heard in (said.get("result"), (said.get("error") or {}).get("message"))
