# pyright: basic, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# (`acp` is the peer's here; pyright finds ours)
"""The official Python SDK's agent of version 1. A prompt is a list of words, as in typescript_agent.mjs."""

import asyncio
import socket
import sys
from typing import Any

from acp.schema import AgentCapabilities, PermissionOption, ToolCallUpdate

import acp


class Interop(acp.Agent):
    def __init__(self) -> None:
        self.cancelled: dict[str, asyncio.Event] = {}

    def on_connect(self, conn: acp.Client) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> acp.InitializeResponse:
        capabilities = AgentCapabilities(load_session=True)
        return acp.InitializeResponse(protocol_version=1, agent_capabilities=capabilities)

    async def new_session(self, cwd: str, **_: Any) -> acp.NewSessionResponse:
        return acp.NewSessionResponse(session_id="s1")

    async def load_session(self, cwd: str, session_id: str, **_: Any) -> acp.LoadSessionResponse:
        await self.client.session_update(session_id, acp.update_user_message_text("before"))
        await self.client.session_update(session_id, acp.update_agent_message_text("indeed"))
        return acp.LoadSessionResponse()

    async def cancel(self, session_id: str, **_: Any) -> None:
        if session_id in self.cancelled:
            self.cancelled[session_id].set()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> acp.PromptResponse:
        for word in prompt[0].text.split(" "):
            if word == "ask":
                await self.client.session_update(session_id, acp.start_tool_call("c1", "Touch", kind="edit"))
                answer = await self.client.request_permission(
                    session_id=session_id,
                    tool_call=ToolCallUpdate(tool_call_id="c1", title="Touch"),
                    options=[
                        PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
                        PermissionOption(option_id="no", name="No", kind="reject_once"),
                    ],
                )
                await self.client.session_update(session_id, acp.update_tool_call("c1", status="completed"))
                outcome = answer.outcome
                await self.say(session_id, f"{outcome.outcome}:{getattr(outcome, 'option_id', '')} ")
            elif word.startswith("read:"):
                file = await self.client.read_text_file(session_id=session_id, path=word[5:])
                await self.say(session_id, file.content)
            elif word == "wait":
                self.cancelled[session_id] = asyncio.Event()
                await self.say(session_id, "waiting")
                await self.cancelled[session_id].wait()
                return acp.PromptResponse(stop_reason="cancelled")
            else:
                await self.say(session_id, f"{word} ")
        return acp.PromptResponse(stop_reason="end_turn")

    async def say(self, session_id: str, text: str) -> None:
        await self.client.session_update(session_id, acp.update_agent_message_text(text))


def of_connection(connection: Any) -> Interop:
    agent = Interop()
    agent.client = connection
    return agent


def serve() -> None:
    """Over HTTP and WebSocket, at a URL that is printed."""
    import uvicorn
    from acp.http.asgi import create_asgi_app

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/acp", flush=True)
    uvicorn.Server(uvicorn.Config(create_asgi_app(of_connection), log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    serve() if "--network" in sys.argv else asyncio.run(acp.run_agent(Interop()))
