# pyright: basic, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# (`acp` is the peer's here; pyright finds ours)
"""The official Python SDK's agent of version 1. A prompt is a list of words, as in typescript_agent.mjs.

That SDK has no notices and no compaction.
"""

import asyncio
import socket
import sys
from typing import Any

from acp.schema import AgentCapabilities, PermissionOption, ToolCallUpdate

import acp
from acp import schema

STAMP = "2026-01-01T00:00:00Z"


def config_options(mode: str, loud: bool) -> list[Any]:
    choices = [schema.SessionConfigSelectOption(value=value, name=value) for value in ("ask", "all")]
    select = {"id": "mode", "name": "Mode", "category": "mode", "type": "select"}
    return [
        schema.SessionConfigOptionSelect(**select, current_value=mode, options=choices),
        schema.SessionConfigOptionBoolean(id="loud", name="Loud", type="boolean", current_value=loud),
    ]


def everything(options: list[Any]) -> list[Any]:
    """One of each update."""
    entries = [acp.plan_entry("Look", priority="high", status="pending")]
    diff = acp.tool_diff_content("/w/a", "2", "1")
    go = schema.AvailableCommand(name="go", description="Go")
    return [
        acp.update_user_message_text("x"),
        acp.update_agent_message_text("x"),
        acp.update_agent_thought_text("x"),
        acp.start_tool_call("c9", "Edit", kind="edit", status="in_progress", content=[diff]),
        acp.update_tool_call("c9", status="completed", raw_output="done"),
        acp.update_plan(entries),
        schema.AvailableCommandsUpdate(session_update="available_commands_update", available_commands=[go]),
        schema.CurrentModeUpdate(session_update="current_mode_update", current_mode_id="ask"),
        schema.ConfigOptionUpdate(session_update="config_option_update", config_options=options),
        schema.SessionInfoUpdate(session_update="session_info_update", title="A title", updated_at=STAMP),
        schema.UsageUpdate(session_update="usage_update", used=5, size=100),
    ]


class Interop(acp.Agent):
    def __init__(self) -> None:
        self.cancelled: dict[str, asyncio.Event] = {}
        self.values: dict[str, Any] = {"mode": "ask", "loud": False}

    @property
    def options(self) -> list[Any]:
        return config_options(**self.values)

    def on_connect(self, conn: acp.Client) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> acp.InitializeResponse:
        able = schema.SessionCapabilities(
            list=schema.SessionListCapabilities(),
            resume=schema.SessionResumeCapabilities(),
            close=schema.SessionCloseCapabilities(),
        )
        capabilities = AgentCapabilities(load_session=True, session_capabilities=able)
        return acp.InitializeResponse(protocol_version=1, agent_capabilities=capabilities)

    async def new_session(self, cwd: str, **_: Any) -> acp.NewSessionResponse:
        return acp.NewSessionResponse(session_id="s1", config_options=self.options)

    async def list_sessions(self, cwd: str | None = None, cursor: str | None = None, **_: Any) -> Any:
        listed = [schema.SessionInfo(session_id="s0", cwd="/w")] if cursor else []
        return schema.ListSessionsResponse(sessions=listed, next_cursor=None if cursor else "2")

    async def set_config_option(self, config_id: str, session_id: str, value: Any, **_: Any) -> Any:
        self.values[config_id] = value
        return schema.SetSessionConfigOptionResponse(config_options=self.options)

    async def resume_session(self, session_id: str, cwd: str, **_: Any) -> Any:
        return schema.ResumeSessionResponse()

    async def close_session(self, session_id: str, **_: Any) -> Any:
        return schema.CloseSessionResponse()

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
            elif word.startswith("write:"):
                await self.client.write_text_file(session_id=session_id, path=word[6:], content="from the agent")
            elif word == "run":
                await self.say(session_id, await self.run(session_id))
            elif word == "everything":
                for update in everything(self.options):
                    await self.client.session_update(session_id, update)
            elif word == "wait":
                self.cancelled[session_id] = asyncio.Event()
                await self.say(session_id, "waiting")
                await self.cancelled[session_id].wait()
                return acp.PromptResponse(stop_reason="cancelled")
            else:
                await self.say(session_id, f"{word} ")
        return acp.PromptResponse(stop_reason="end_turn")

    async def run(self, session_id: str) -> str:
        """A command in a terminal of the client's: its output and its exit code."""
        made = await self.client.create_terminal(session_id, "sh", args=["-c", "echo ran; exit 3"])
        here = {"session_id": session_id, "terminal_id": made.terminal_id}
        ended = await self.client.wait_for_terminal_exit(**here)
        shown = await self.client.terminal_output(**here)
        await self.client.kill_terminal(**here)
        await self.client.release_terminal(**here)
        return f"{shown.output.strip()} {ended.exit_code}"

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
    serve() if "--network" in sys.argv else asyncio.run(acp.run_agent(Interop(), use_unstable_protocol=True))
