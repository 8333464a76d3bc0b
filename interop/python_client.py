"""The official Python SDK's client against an agent: `python python_client.py CWD COMMAND [ARG ...]`, or CWD URL.

Prints one JSON object: what each step answered and which updates came.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from acp.schema import AllowedOutcome, ClientCapabilities, FileSystemCapabilities, RequestPermissionResponse

import acp
from acp import text_block as text


class Recorder(acp.Client):
    def __init__(self) -> None:
        self.updates: list[str] = []
        self.permissions: list[dict[str, Any]] = []
        self.first_update = asyncio.Event()

    async def request_permission(self, session_id: str, tool_call: Any, options: list[Any], **_: Any) -> Any:
        kinds = {option.kind: option.option_id for option in options}
        contents = [content.type for content in (tool_call.content or [])]
        self.permissions.append({"title": tool_call.title, "options": sorted(kinds), "content": contents})
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=kinds["allow_once"]))

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.updates.append(update.session_update)
        self.first_update.set()

    async def read_text_file(self, session_id: str, path: str, **_: Any) -> Any:
        return acp.ReadTextFileResponse(content=Path(path).read_text())  # noqa: ASYNC240

    async def write_text_file(self, content: str, path: str, session_id: str, **_: Any) -> Any:
        Path(path).write_text(content)  # noqa: ASYNC240
        return acp.WriteTextFileResponse()


@asynccontextmanager
async def reached(client: acp.Client, target: list[str], cwd: str) -> AsyncGenerator[Any]:
    """The agent, by its command or its URL."""
    if "://" not in target[0]:
        async with acp.spawn_agent_process(client, target[0], *target[1:], cwd=cwd) as (agent, _process):
            yield agent
        return
    if target[0].startswith("http"):
        from acp.http.client import create_http_stream

        transport = create_http_stream(target[0])
    else:
        from acp.ws.client import create_websocket_stream

        transport = await create_websocket_stream(target[0])
    agent = acp.connect_to_agent(client, transport)
    yield agent
    await agent.close()


async def manage(agent: Any, id: str, cwd: str) -> dict[str, Any]:
    """What becomes of a session beside its turns."""
    seen: dict[str, Any] = {}
    await agent.set_session_mode(session_id=id, mode_id="all")
    answer = await agent.set_config_option(session_id=id, config_id="mode", value="ask")
    seen["mode"] = next(option.current_value for option in answer.config_options if option.id == "mode")
    seen["listed"] = [len((await agent.list_sessions(cwd=at)).sessions) for at in (cwd, "/nowhere")]
    await agent.close_session(session_id=id)
    await agent.resume_session(session_id=id, cwd=cwd, mcp_servers=[])
    seen["resumed"] = (await agent.prompt(session_id=id, prompt=[text("run 'exit 3'")])).stop_reason
    try:
        await agent.prompt(session_id="nobody", prompt=[text("say hi")])
    except acp.RequestError as error:
        seen["nobody"] = error.code
    return seen


async def main(cwd: str, target: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    recorder = Recorder()
    async with reached(recorder, target, cwd) as agent:
        fs = FileSystemCapabilities(read_text_file=True, write_text_file=True)
        able = ClientCapabilities(fs=fs)
        hello = await agent.initialize(protocol_version=acp.PROTOCOL_VERSION, client_capabilities=able)
        seen["version"] = hello.protocol_version
        session = await agent.new_session(cwd=cwd, mcp_servers=[])
        edit = await agent.prompt(session_id=session.session_id, prompt=[text("write note.txt hello")])
        seen["edit"] = edit.stop_reason
        recorder.first_update.clear()
        hanging = asyncio.create_task(agent.prompt(session_id=session.session_id, prompt=[text("say waiting\nhang")]))
        await asyncio.wait_for(recorder.first_update.wait(), 10)
        await agent.cancel(session_id=session.session_id)
        seen["cancel"] = (await asyncio.wait_for(hanging, 10)).stop_reason
        before = len(recorder.updates)
        await agent.load_session(cwd=cwd, session_id=session.session_id, mcp_servers=[])
        seen["replayed"] = recorder.updates[before:]
        seen["again"] = (await agent.prompt(session_id=session.session_id, prompt=[text("say again")])).stop_reason
        if "://" not in target[0]:
            seen |= await manage(agent, session.session_id, cwd)
    return seen | {"updates": recorder.updates, "permissions": recorder.permissions}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2:]))))
