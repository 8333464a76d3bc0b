"""An MCP server made with the `mcp` package, for tests: `python mcp_server.py stdio|sse|streamable-http [PORT]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ImageContent

server = MCPServer("notes", log_level="WARNING")


def leave(mark: str, word: str) -> None:
    Path(mark).write_text(word)


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(title="Fail on purpose")
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def where() -> str:
    """The server's working directory, and what it was told."""
    return f"{Path.cwd()} {os.environ.get('NOTES_TOKEN')} {os.environ.get('OPENAI_API_KEY')}"


@server.tool()
def picture() -> list[ImageContent]:
    """A picture of one dot."""
    return [ImageContent(type="image", data="iVBORw0KGgo=", mime_type="image/png")]


@server.tool()
async def slow(mark: str, ctx: Context) -> str:
    """Run until cancelled; leaves a mark when it began and when it was cancelled."""
    await ctx.report_progress(1, 2, "half way")
    leave(mark, "began")
    try:
        await anyio.sleep_forever()
    finally:
        leave(mark, "cancelled")
    return ""


@server.tool()
def header(name: str, ctx: Context) -> str:
    """A header of the request."""
    request = ctx.request_context.request
    return str(request.headers.get(name)) if request is not None else "no request"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    elif sys.argv[1] == "sse":
        server.run("sse", port=int(sys.argv[2]))
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
