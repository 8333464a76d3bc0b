# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false
"""The official Python SDK's agent on WebSocket and HTTP, served by uvicorn on asyncio.

`--plain` turns WebSocket's compression off.
"""

import socket
import sys

import uvicorn
from acp.http.asgi import create_asgi_app
from python_agent import StreamingAgent

import acp


def agent_of(conn: acp.Client) -> StreamingAgent:
    agent = StreamingAgent()
    agent.client = conn
    return agent


if __name__ == "__main__":
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/acp", flush=True)
    compress = "--plain" not in sys.argv
    app = create_asgi_app(agent_of)
    config = uvicorn.Config(app, loop="asyncio", log_level="critical", ws_per_message_deflate=compress)
    uvicorn.Server(config).run(sockets=[listening])
