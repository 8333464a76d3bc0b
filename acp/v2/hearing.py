"""The bodies of version 2's `session/update`, as JSON → updates: the inverse of `saying`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..activity import hear_state
from ..pieces import Object, hear_block, hear_blocks, rest, when_given
from ..updates import (
    UNSET,
    BlockContent,
    Changes,
    ExitStatus,
    FileChange,
    Json,
    Location,
    Message,
    MessageChunk,
    Other,
    OtherContent,
    Terminal,
    TerminalChunk,
    TerminalRef,
    ToolCallUpdate,
    ToolContent,
    ToolContentChunk,
    Update,
)
from .saying import ROLES, say_content


def hear_own(raw: Mapping[str, Json]) -> Update | None:
    match raw["sessionUpdate"]:
        case "user_message_chunk" | "agent_message_chunk" | "agent_thought_chunk" as tag:
            role = ROLES[tag.removesuffix("_chunk")]
            extra = rest(raw, "messageId", "content")
            return MessageChunk(role, hear_block(raw["content"]), raw["messageId"], extra=extra)
        case "user_message" | "agent_message" | "agent_thought" as tag:
            content = when_given(raw, "content", hear_blocks)
            return Message(ROLES[tag], raw["messageId"], content, extra=rest(raw, "messageId", "content"))
        case "tool_call_update":
            return hear_call(raw)
        case "tool_call_content_chunk":
            extra = rest(raw, "toolCallId", "content")
            return ToolContentChunk(raw["toolCallId"], _hear_content(raw["content"]), extra=extra)
        case "terminal_update":
            return _hear_terminal(raw)
        case "terminal_output_chunk":
            return TerminalChunk(raw["terminalId"], raw["data"], extra=rest(raw, "terminalId", "data"))
        case "state_update":
            return hear_state(raw)
        case _:
            return None


def hear_call(raw: Mapping[str, Json]) -> ToolCallUpdate:
    """A tool call's change, from an update or from the subject of a permission request."""
    get = raw.get
    return ToolCallUpdate(
        id=raw["toolCallId"],
        title=get("title", UNSET),
        kind=get("kind", UNSET),
        status=get("status", UNSET),
        content=when_given(raw, "content", lambda items: tuple(_hear_content(item) for item in items)),
        locations=when_given(raw, "locations", lambda items: tuple(_hear_location(item) for item in items)),
        raw_input=get("rawInput", UNSET),
        raw_output=get("rawOutput", UNSET),
        name=get("name", UNSET),
        capabilities=get("capabilities", UNSET),
        meta=get("_meta"),
        extra=rest(raw, *_CALL_FIELDS, *(["_meta"] if get("_meta") is not None else [])),
    )


def _hear_content(raw: Mapping[str, Json]) -> ToolContent:
    heard: ToolContent | None = None
    match raw.get("type"):
        case "content":
            heard = BlockContent(hear_block(raw["content"]), extra=rest(raw, "type", "content"))
        case "diff":
            patch: Object = raw.get("patch") or {}
            text = patch.get("text") if patch.get("format") == "git_patch" else None
            files = tuple(_hear_change(item) for item in raw["changes"])
            extra = rest(raw, "type", "changes", *(["patch"] if text is not None else []))
            heard = Changes(files, text, extra=extra)
        case "terminal":
            heard = TerminalRef(raw["terminalId"], extra=rest(raw, "type", "terminalId"))
        case _:
            pass
    # A patch with a `_meta` of its own, say, is kept as it came.
    return heard if heard is not None and say_content(heard) == raw else OtherContent(raw)


def _hear_change(raw: Mapping[str, Json]) -> FileChange:
    extra = rest(raw, "operation", "path", *(["oldPath"] if raw.get("oldPath") is not None else []))
    return FileChange(raw["operation"], raw.get("path", ""), raw.get("oldPath"), extra=extra)


def _hear_location(raw: Mapping[str, Json]) -> Location:
    extra = rest(raw, "path", *(["line"] if raw.get("line") is not None else []))
    return Location(raw["path"], raw.get("line"), extra=extra)


def _hear_terminal(raw: Mapping[str, Json]) -> Update:
    def hear_exit(exit: Mapping[str, Json]) -> ExitStatus:
        spoken = [name for name in ("exitCode", "signal") if exit.get(name) is not None]
        return ExitStatus(exit.get("exitCode"), exit.get("signal"), extra=rest(exit, *spoken))

    output: Json = when_given(raw, "output", lambda snapshot: snapshot["data"])
    if isinstance(output, str) and raw["output"].keys() != {"data"}:
        return Other(raw)  # a `_meta` of its own, say
    exit = when_given(raw, "exitStatus", hear_exit)
    able = raw.get("capabilities", UNSET)
    extra = rest(raw, "terminalId", "command", "cwd", "output", "exitStatus", "capabilities")
    return Terminal(raw["terminalId"], raw.get("command", UNSET), raw.get("cwd", UNSET), output, exit, able, extra)


_CALL_FIELDS: Final = (
    "toolCallId",
    "title",
    "kind",
    "status",
    "content",
    "locations",
    "rawInput",
    "rawOutput",
    "name",
    "capabilities",
)
