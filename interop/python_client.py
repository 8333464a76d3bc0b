"""The official Python SDK's client against an agent: `python python_client.py CWD COMMAND [ARG ...]`, or CWD URL.

Prints one JSON object: what each step answered and which updates came.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from acp.schema import AllowedOutcome, RequestPermissionResponse

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


async def main(cwd: str, target: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    recorder = Recorder()
    async with reached(recorder, target, cwd) as agent:
        hello = await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
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
    return seen | {"updates": recorder.updates, "permissions": recorder.permissions}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2:]))))
