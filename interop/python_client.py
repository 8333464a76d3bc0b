"""The official Python SDK's client against an agent: `python python_client.py CWD COMMAND [ARG ...]`.

Prints one JSON object: what each step answered and which updates came.
"""

import asyncio
import json
import sys
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


async def main(cwd: str, command: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    recorder = Recorder()
    async with acp.spawn_agent_process(recorder, command[0], *command[1:], cwd=cwd) as (agent, _process):
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
    return seen | {"updates": recorder.updates, "permissions": recorder.permissions}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2:]))))
