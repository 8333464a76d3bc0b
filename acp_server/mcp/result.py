"""What a tool of an MCP server returned, for the model and for the user."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from acp.updates import BlockContent, OtherBlock, TextBlock, ToolContent

from ..action import Outcome
from ..wording import bounded
from ..workspace.output import clean

if TYPE_CHECKING:
    from mcp_types import CallToolResult

LARGEST_BLOCK = 8 * 1024 * 1024
"""Characters of a picture or a file that are passed on to the client."""
LARGEST_RAW = 64 * 1024
"""Characters of a structured result that are."""


def outcome(result: CallToolResult, limit: int) -> Outcome:
    """`limit` bounds what the model reads, in characters. Content blocks are the same in both protocols."""
    blocks = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
    words = "\n".join(_told(blocks))
    structured = result.structured_content
    raw = None if structured is None else json.dumps(structured, ensure_ascii=False)
    text = bounded(_plain(words) or raw or "(no output)", limit)
    shown = tuple(_shown(block, limit) for block in blocks) or (BlockContent(TextBlock(text)),)
    kept = structured if raw is not None and len(raw) <= LARGEST_RAW else None
    if result.is_error:
        return Outcome(f"error: {text}", shown, kept if kept is not None else {"error": text}, failed=True)
    return Outcome(text, shown, kept)


def _told(blocks: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The blocks in words. The model sees no pictures: it is told that there was one."""
    for block in blocks:
        match block:
            case {"type": "text", "text": str(text)} | {"type": "resource", "resource": {"text": str(text)}}:
                yield text
            case {"type": "resource_link", "uri": uri}:
                yield f"[{uri}]"
            case {"type": "resource", "resource": {"uri": uri}}:
                yield f"[{uri}, binary]"
            case {"type": kind}:
                yield f"[{kind}, {block.get('mimeType', 'unknown')}, shown to the user]"
            case _:
                pass


def _shown(block: dict[str, Any], limit: int) -> ToolContent:
    if block["type"] == "text":
        return BlockContent(TextBlock(bounded(_plain(block["text"]), limit)))
    if len(json.dumps(block)) > LARGEST_BLOCK:
        return BlockContent(TextBlock(f"[{block['type']}, too large to be shown]"))
    return BlockContent(OtherBlock(block))


def _plain(text: str) -> str:
    return clean(text.encode("utf-8", "replace"))
