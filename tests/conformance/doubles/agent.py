"""An agent of version 1 over stdio, with at most the one defect that its argument names.

It knows nothing of the packages that it tests. Prompts that speak of waiting or counting end when cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

DEFECT = sys.argv[1] if len(sys.argv) > 1 else ""
sessions: dict[str, str] = {}
talks: dict[str, list[dict[str, Any]]] = {}
waiting: dict[str, Any] = {}
ready = False


def put(text: str) -> None:
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.buffer.flush()


def say(message: dict[str, Any]) -> None:
    put(json.dumps({"jsonrpc": "2.0", **message}))


def error(id: Any, code: int, words: str = "no") -> None:
    say({"id": id, "error": {"code": code, "message": "no\nno" if DEFECT == "two-lines" else words}})


def update(session: str, value: dict[str, Any]) -> None:
    say({"method": "session/update", "params": {"sessionId": session, "update": value}})


def chunk(session: str, who: str, words: str) -> None:
    update(session, {"sessionUpdate": f"{who}_message_chunk", "content": {"type": "text", "text": words}})


def initialize(id: Any, params: dict[str, Any]) -> None:
    global ready
    ready = True
    kinds = ("list", "delete", "resume", "close")
    result: dict[str, Any] = {
        "protocolVersion": 1,
        "agentCapabilities": {"loadSession": True, "sessionCapabilities": {kind: {} for kind in kinds}},
        "authMethods": [],
    }
    if DEFECT == "echoes-version":
        result["protocolVersion"] = params["protocolVersion"]
    if DEFECT == "says-version-2":
        result["protocolVersion"] = 2
    if DEFECT == "own-member":
        result["mine"] = 1
    if DEFECT == "meta-list":
        result["_meta"] = []
    if DEFECT == "same-auth-ids":
        result["authMethods"] = [{"id": "a", "name": "A"}, {"id": "a", "name": "B"}]
    say({"id": id, "result": result})


def new(id: Any, params: dict[str, Any]) -> None:
    cwd = params.get("cwd")
    if not isinstance(cwd, str) or (not os.path.isabs(cwd) and DEFECT != "takes-relative"):
        error(id, -32602, "cwd")
        sys.exit() if DEFECT == "dies-of-error" else None
        return None
    if DEFECT == "wants-login":
        return error(id, -32000)
    name = "s0" if DEFECT == "one-id" else f"s{len(sessions)}"
    sessions[name], talks[name] = cwd, []
    result: dict[str, Any] = {"sessionId": name}
    if DEFECT == "bad-config":
        choices = [{"value": "a", "name": "A"}]
        result["configOptions"] = [{"id": "m", "name": "M", "type": "select", "currentValue": "z", "options": choices}]
    say({"id": id, "result": result})
    if DEFECT == "bad-command":
        row = {"name": "/a b", "description": ""}
        update(name, {"sessionUpdate": "available_commands_update", "availableCommands": [row]})
    return None


def prompt(id: Any, params: dict[str, Any]) -> None:
    session = params["sessionId"]
    if session not in sessions:
        if DEFECT == "any-session":
            return say({"id": id, "result": {"stopReason": "end_turn"}})
        return error(id, -32002)
    if any(part["type"] != "text" for part in params["prompt"]) and DEFECT == "no-links":
        return error(id, -32602)
    text = params["prompt"][0]["text"]
    if "ount" in text:
        waiting[session] = id
        return None
    talks[session] = [{"user": text, "agent": "hello"}]
    mangled(session)
    if DEFECT != "late-update":
        chunk("nowhere" if DEFECT == "other-session" else session, "agent", "hello")
    say({"id": id, "result": {"stopReason": "done" if DEFECT == "own-reason" else "end_turn"}})
    if DEFECT == "late-update":
        chunk(session, "agent", "hello")
    if DEFECT == "answers-twice":
        say({"id": id, "result": {"stopReason": "end_turn"}})
    return None


def mangled(session: str) -> None:
    """What a defect adds to a turn."""
    ask = {"sessionId": session, "toolCall": {"toolCallId": "c"}, "options": []}
    match DEFECT:
        case "prints":
            put("thinking about it")
        case "latin-1":
            sys.stdout.buffer.write(b'{"jsonrpc":"2.0","method":"_x","params":{"a":"\xe9"}}\n')
        case "no-update-kind":
            update(session, {"sessionUpdate": "agent_message_chunk"})
        case "own-method":
            say({"method": "my/method", "params": {}})
        case "null-id":
            say({"id": None, "method": "_mine", "params": {}})
        case "call-order":
            update(session, {"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "completed"})
        case "relative-path":
            place = [{"path": "a.txt"}]
            update(session, {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "C", "locations": place})
        case "reads-files":
            params = {"sessionId": session, "path": "/a"}
            say({"id": 1, "method": "fs/read_text_file", "params": params})
        case "no-options":
            say({"id": 1, "method": "session/request_permission", "params": ask})
        case "both":
            say({"id": 99, "method": "_x", "result": {}})
        case _:
            pass


def stop(session: str, id: Any = None) -> None:
    """The end of a turn that waits."""
    waits = waiting.pop(session, None)
    if DEFECT == "answers-cancel" and id is None and waits is None:
        say({"id": None, "error": {"code": -32600, "message": "no turn"}, "result": None})
    if waits is None:
        return
    if DEFECT == "cancel-is-error":
        error(waits, -32603)
    else:
        say({"id": waits, "result": {"stopReason": "end_turn" if DEFECT == "cancel-ends" else "cancelled"}})


def replay(session: str) -> None:
    for turn in talks[session]:
        chunk(session, "user", turn["user"])
        chunk(session, "agent", turn["agent"])


def session_call(id: Any, method: str, params: dict[str, Any]) -> None:
    session = params.get("sessionId", "")
    if method == "session/list":
        if "cursor" in params and DEFECT != "any-cursor":
            return error(id, -32602)
        rows = [{"sessionId": s, "cwd": "b" if DEFECT == "list-other" else cwd} for s, cwd in sessions.items()]
        rows = [row for row in rows if DEFECT == "list-other" or row["cwd"] == params.get("cwd", row["cwd"])]
        return say({"id": id, "result": {"sessions": None if DEFECT == "list-null" else rows}})
    if method == "session/load" and DEFECT not in ("no-replay", "late-replay"):
        replay(session)
    if method == "session/resume" and DEFECT == "resume-replays":
        replay(session)
    if method == "session/delete" and DEFECT != "keeps-deleted":
        sessions.pop(session, None)
    if method == "session/close" and DEFECT != "close-forgets":
        stop(session, id)
    say({"id": id, "result": {}})
    if method == "session/load" and DEFECT == "late-replay":
        replay(session)
    return None


def receive(line: str) -> None:
    try:
        message = json.loads(line)
    except ValueError:
        return None if DEFECT == "no-parse-error" else error(None, -32700)
    if not isinstance(message, dict):
        silent = "no-array" if isinstance(message, list) else "no-invalid"
        return None if silent == DEFECT else error(None, -32600)
    method, id, params = message.get("method"), message.get("id"), message.get("params") or {}
    if "id" not in message:
        if method == "session/cancel":
            stop(params["sessionId"])
        elif method == "$/cancel_request":
            if DEFECT != "ignores-cancel-request":
                stop(next((s for s, waits in waiting.items() if waits == params["requestId"]), ""), 0)
            if DEFECT == "dies-of-cancel" and not waiting:
                sys.exit()
        elif DEFECT == "answers-notification":
            error("?", -32601)
        elif DEFECT == "dies-of-notification":
            sys.exit()
        return None
    if method is None:
        return None
    if DEFECT == "number-ids" and isinstance(id, str):
        id = int(id)
    if method == "initialize":
        return initialize(id, params)
    if not ready and DEFECT != "no-initialize":
        return error(id, -32600)
    if method == "session/new":
        return new(id, params)
    if method == "session/prompt":
        return prompt(id, params)
    if method in {f"session/{kind}" for kind in ("load", "resume", "list", "delete", "close")}:
        return session_call(id, method, params)
    if method == "_check/nothing" and DEFECT == "custom-silent":
        return None
    if DEFECT == "null-for-unknown" or (method == "session/set_config_option" and DEFECT == "sets-anything"):
        return say({"id": id, "result": {"configOptions": []}})
    return error(id, -32601)


for line in sys.stdin:
    receive(line)
while DEFECT == "stays":
    signal.pause()
