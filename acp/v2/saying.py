"""Updates → the bodies of version 2's `session/update`, as JSON; what both versions say alike is in `acp.plain`."""

from __future__ import annotations

from typing import Final

from ..activity import say_state
from ..errors import LocalProtocolError
from ..pieces import TAG, Object, as_object, body, given, say_block
from ..updates import (
    UNSET,
    ActionRequired,
    BlockContent,
    Changes,
    Diff,
    ExitStatus,
    FileChange,
    Location,
    Message,
    MessageChunk,
    OtherContent,
    Role,
    StateUnknown,
    Terminal,
    TerminalChunk,
    TerminalRef,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    ToolContentChunk,
    TurnEnded,
    TurnStarted,
    Update,
)
from .patch import git_patch

ROLES: Final[dict[str, Role]] = {"user_message": "user", "agent_message": "agent", "agent_thought": "thought"}
"""The wire's words for whose message it is."""
_TAGS: Final[dict[Role, str]] = {role: tag for tag, role in ROLES.items()}


def say_own(update: Update) -> Object:
    match update:
        case Message():
            blocks = [say_block(b) for b in update.content] if isinstance(update.content, tuple) else update.content
            return body(_TAGS[update.role], update.extra, messageId=update.message_id, content=blocks)
        case ToolCall():
            return body("tool_call_update", {}, **say_call(announced(update)))
        case ToolCallUpdate():
            return body("tool_call_update", {}, **say_call(update))
        case ToolContentChunk():
            content = say_content(update.content)
            return body("tool_call_content_chunk", update.extra, toolCallId=update.id, content=content)
        case Terminal():
            output = {"data": update.output} if isinstance(update.output, str) else update.output
            exit = _say_exit(update.exit) if isinstance(update.exit, ExitStatus) else update.exit
            words: Object = {"command": update.command, "cwd": update.cwd, "output": output, "exitStatus": exit}
            words["capabilities"] = as_object(update.capabilities)
            return body("terminal_update", update.extra, terminalId=update.id, **words)
        case TerminalChunk():
            return body("terminal_output_chunk", update.extra, terminalId=update.id, data=update.data)
        case TurnStarted() | ActionRequired() | TurnEnded() | StateUnknown():
            return {TAG: "state_update", **say_state(update)}
        case _:
            raise AssertionError(f"no words for {type(update).__name__}")


def say_chunk(chunk: MessageChunk) -> Object:
    if chunk.message_id is None:
        raise LocalProtocolError("version 2 has no message without an id")
    content = say_block(chunk.content)
    return body(f"{_TAGS[chunk.role]}_chunk", chunk.extra, messageId=chunk.message_id, content=content)


def announced(call: ToolCall) -> ToolCallUpdate:
    """The change that announces a call: every field given, for what a receiver had under that id before."""
    return ToolCallUpdate(
        call.id,
        call.title,
        call.kind,
        call.status,
        call.content,
        call.locations,
        call.raw_input,
        call.raw_output,
        UNSET if call.name is None else call.name,
        call.capabilities,
        call.meta,
        call.extra,
    )


def say_call(update: ToolCallUpdate) -> Object:
    """A tool call, in an update or as the subject of a permission request."""
    content, locations = update.content, update.locations
    fields: Object = {
        "toolCallId": update.id,
        "title": update.title,
        "kind": update.kind,
        "status": update.status,
        "content": [say_content(item) for item in content] if isinstance(content, tuple) else content,
        "locations": [_say_location(item) for item in locations] if isinstance(locations, tuple) else locations,
        "rawInput": update.raw_input,
        "rawOutput": update.raw_output,
        "name": update.name,
        "capabilities": as_object(update.capabilities),
        "_meta": UNSET if update.meta is None else dict(update.meta),
    }
    return given(fields) | dict(update.extra)


def say_content(content: ToolContent) -> Object:
    match content:
        case BlockContent():
            return {"type": "content", "content": say_block(content.block), **content.extra}
        case Diff():
            operation = "add" if content.old_text is None else "modify"
            patch = {"format": "git_patch", "text": git_patch(content)}
            changes = [{"operation": operation, "path": content.path}]
            return {"type": "diff", "changes": changes, "patch": patch, **content.extra}
        case Changes():
            patch = {} if content.patch is None else {"patch": {"format": "git_patch", "text": content.patch}}
            return {"type": "diff", "changes": [_say_change(file) for file in content.files], **patch, **content.extra}
        case TerminalRef():
            return {"type": "terminal", "terminalId": content.terminal_id, **content.extra}
        case OtherContent():
            return dict(content.raw)


def _say_change(file: FileChange) -> Object:
    paths: Object = {} if file.old_path is None else {"oldPath": file.old_path}
    return {"operation": file.operation, **paths, **({"path": file.path} if file.path else {}), **file.extra}


def _say_location(location: Location) -> Object:
    line = {} if location.line is None else {"line": location.line}
    return {"path": location.path, **line, **location.extra}


def _say_exit(exit: ExitStatus) -> Object:
    words = {"exitCode": exit.code, "signal": exit.signal}
    return {**{name: value for name, value in words.items() if value is not None}, **exit.extra}
