"""What sessions do, and have others do, as JSON: states, work in the background, subagents, messages between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .pieces import Object, as_object, given, hear_blocks, rest, say_block, when_given
from .updates import (
    UNSET,
    ActionRequired,
    Background,
    Json,
    SessionMessage,
    State,
    StateUnknown,
    Subagent,
    TurnEnded,
    TurnStarted,
    Work,
)

WORK_ID: Final = {"terminal": "terminalId", "tool_call": "toolCallId", "subagent": "sessionId"}
"""Where the id of work in the background stands, by its type."""


def say_state(state: State) -> Object:
    """What foreground work a session has, as version 2 says it of every session and version 1 of subagents."""
    match state:
        case TurnStarted():
            words: Object = {"state": "running"}
        case ActionRequired():
            words = {"state": "requires_action"}
        case StateUnknown():
            words = {"state": "unknown"}
        case TurnEnded():
            words = {"state": "idle", "stopReason": UNSET if state.stop_reason is None else state.stop_reason}
            words |= {"_meta": dict(state.meta)} if state.meta else {}
    return given({**words, "background": _say_work(state.background)}) | dict(state.extra)


def hear_state(raw: Mapping[str, Json]) -> State | None:
    """None for a state of a kind we do not know."""
    spoken = ["state"]
    background: Background = None
    if raw.get("background") is not None:
        background = tuple(_hear_work(item) for item in raw["background"])
        spoken.append("background")
    match raw["state"]:
        case "running":
            return TurnStarted(background, extra=rest(raw, *spoken))
        case "requires_action":
            return ActionRequired(background, extra=rest(raw, *spoken))
        case "unknown":
            return StateUnknown(background, extra=rest(raw, *spoken))
        case "idle":
            meta: Object = raw.get("_meta") or {}
            spoken += ["_meta"] * bool(meta) + ["stopReason"] * (raw.get("stopReason") is not None)
            return TurnEnded(raw.get("stopReason"), meta, background, extra=rest(raw, *spoken))
        case _:
            return None


def _say_work(background: Background) -> Json:
    if background is None:
        return UNSET
    return [
        {"type": work.type, **({WORK_ID[work.type]: work.id} if work.type in WORK_ID else {}), **work.extra}
        for work in background
    ]


def _hear_work(raw: Mapping[str, Json]) -> Work:
    key = WORK_ID.get(raw["type"])
    return Work(raw["type"], raw[key] if key else "", extra=rest(raw, "type", *([key] if key else [])))


# Sessions among themselves -----------------------------------------------------------------------------------------


def say_subagent(child: Subagent) -> Object:
    state, directories = child.state, child.directories
    return {
        "sessionId": child.session_id,
        "title": child.title,
        "description": child.description,
        "capabilities": as_object(child.capabilities),
        "state": state if state is UNSET or state is None else say_state(state),
        "cwd": child.cwd,
        "additionalDirectories": [*directories] if isinstance(directories, tuple) else directories,
    }


def hear_subagent(raw: Mapping[str, Json]) -> Subagent | None:
    state: Json = when_given(raw, "state", hear_state)
    if state is None and raw.get("state") is not None:
        return None
    get = raw.get
    return Subagent(
        raw["sessionId"],
        get("title", UNSET),
        get("description", UNSET),
        get("capabilities", UNSET),
        state,
        get("cwd", UNSET),
        when_given(raw, "additionalDirectories", tuple),
        extra=rest(raw, "sessionId", "title", "description", "capabilities", "state", "cwd", "additionalDirectories"),
    )


def say_session_message(message: SessionMessage) -> Object:
    return {
        "messageId": message.id,
        "senderSessionId": message.sender,
        "recipientSessionId": message.recipient,
        "senderMessageId": message.sender_message,
        "recipientMessageId": message.recipient_message,
        "content": [say_block(b) for b in message.content] if isinstance(message.content, tuple) else message.content,
    }


def hear_session_message(raw: Mapping[str, Json]) -> SessionMessage:
    ends = ("senderSessionId", "recipientSessionId", "senderMessageId", "recipientMessageId")
    sender, recipient, sender_message, recipient_message = (raw.get(name, UNSET) for name in ends)
    return SessionMessage(
        raw["messageId"],
        sender,
        recipient,
        sender_message,
        recipient_message,
        when_given(raw, "content", hear_blocks),
        extra=rest(raw, "messageId", "content", *ends),
    )
