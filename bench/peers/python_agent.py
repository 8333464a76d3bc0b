# pyright: basic, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# (`acp` is the peer's here; pyright finds ours)
"""The official Python SDK's agent: a prompt `N` streams N updates; `_ping` and `session/new` answer at once."""

import asyncio
from typing import Any

import acp


class StreamingAgent(acp.Agent):
    def on_connect(self, conn: acp.Client) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> acp.InitializeResponse:
        return acp.InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, cwd: str, **_: Any) -> acp.NewSessionResponse:
        return acp.NewSessionResponse(session_id="s1")

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> acp.PromptResponse:
        for number in range(int(prompt[0].text)):
            await self.client.session_update(session_id, acp.update_agent_message_text(f"{number} "))
        return acp.PromptResponse(stop_reason="end_turn")


if __name__ == "__main__":
    asyncio.run(acp.run_agent(StreamingAgent()))
