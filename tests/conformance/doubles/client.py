"""A client over stdio, with at most the one defect that an argument names: `client.py VERSION DEFECT AGENT-COMMAND…`.

It knows nothing of the packages that it tests. It announces all that a client can, unless its defect is to announce
nothing, prompts once, cancels on SIGINT, and ends when the agent does or the turn has ended. A permission whose title
speaks of waiting is left open until the turn or the question is cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

VERSION, DEFECT = int(sys.argv[1]), sys.argv[2]
NAMES = ("clientCapabilities", "clientInfo") if VERSION == 1 else ("capabilities", "info")
SHY = DEFECT in ("reads-anyway", "writes-anyway", "runs-anyway", "shows-anyway", "shy")
FORMS = {"form": {}}
FILES = {"readTextFile": True, "writeTextFile": True}
ABLE: dict[str, Any] = {"auth": {"terminal": True if VERSION == 1 else {}}, "elicitation": FORMS}
if VERSION == 1:
    ABLE.update(fs=FILES, terminal=True)
if SHY:
    ABLE.clear()
if DEFECT == "own-capability":
    ABLE["mine"] = True

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # before there are threads
agent = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
assert agent.stdin is not None
assert agent.stdout is not None
assert agent.stderr is not None
if DEFECT != "leaves-stderr":
    threading.Thread(target=agent.stderr.read, daemon=True).start()

asked: dict[Any, str] = {}
questions: dict[Any, str] = {}
terminals: dict[str, tuple[subprocess.Popen[bytes], int | None, bytes]] = {}
session = "none"
hello: dict[str, Any] = {}
spoken = VERSION
last = 0
state = ""


def put(text: bytes) -> None:
    assert agent.stdin is not None
    try:
        agent.stdin.write(text + b"\n")
        agent.stdin.flush()
    except BrokenPipeError:
        if not DEFECT.startswith("stays"):
            sys.exit(1)


def say(message: dict[str, Any]) -> None:
    put(json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode())


def ask(method: str, params: Any) -> int:
    global last
    last += 1
    id: Any = None if DEFECT == "null-id" and method == "session/prompt" else last
    asked[id] = method
    say({"id": id, "method": method, "params": params})
    return last


def result(id: Any, value: Any) -> None:
    if DEFECT == "answers-both":
        say({"id": id, "result": value, "error": {"code": 1, "message": "x"}})
    else:
        say({"id": id, "result": value})


def error(id: Any, code: int, words: str = "no") -> None:
    if DEFECT == "number-ids" and isinstance(id, str) and id.isdigit():
        id = int(id)
    if DEFECT == "answers-both":
        say({"id": id, "result": None, "error": {"code": code, "message": words}})
    say({"id": id, "error": {"code": code, "message": "no\nno" if DEFECT == "two-lines" else words}})


# How it begins ---------------------------------------------------------------------------------------------------


def start() -> None:
    if DEFECT == "new-first":
        new()
    params: dict[str, Any] = {"protocolVersion": VERSION, NAMES[0]: ABLE, NAMES[1]: {"name": "double", "version": "1"}}
    if DEFECT == "no-info":
        del params[NAMES[1]]
    if DEFECT == "own-member":
        params["mine"] = 1
    if DEFECT == "meta-list":
        params["_meta"] = []
    ask("initialize", params)
    if DEFECT == "hurries":
        new()


def new() -> None:
    params: dict[str, Any] = {"cwd": "." if DEFECT == "relative-cwd" else os.getcwd(), "mcpServers": []}
    if DEFECT == "no-cwd":
        del params["cwd"]
    if DEFECT == "empty-cwd":
        params["cwd"] = ""
    if DEFECT == "no-servers":
        del params["mcpServers"]
    if spoken == 1 and VERSION == 2 and DEFECT == "speaks-on":
        del params["mcpServers"]
    if DEFECT == "any-server":
        server = {"name": "x", "url": "http://localhost/", "headers": []}
        params["mcpServers"] = [{"type": "http", **server}]
    if DEFECT == "more-directories":
        params["additionalDirectories"] = ["/"]
    if DEFECT == "system-prompt":
        params["systemPrompt"] = {"mode": {"type": "append"}, "content": [{"type": "text", "text": "x"}]}
    ask("session/new", params)


def begin() -> None:
    global state
    able = hello.get("agentCapabilities") or {}
    if DEFECT == "lists":
        ask("session/list", {})
    if DEFECT == "logs-out":
        ask("logout" if spoken == 1 else "auth/logout", {})
    if DEFECT == "needs-all":
        assert hello["agentCapabilities" if VERSION == 1 else "capabilities"]["checkOfTomorrow"]
    if DEFECT == "dies-of-more":
        assert "checkOfTomorrow" not in hello
    if DEFECT == "dies-of-malformed":
        assert hello.get("agentInfo") != 5
        assert hello.get("authMethods") != 5
    if spoken == 1 and able.get("loadSession"):
        state = "loading"
        ask("session/load", {"sessionId": "kept", "cwd": os.getcwd(), "mcpServers": []})
    else:
        new()


def opened(value: dict[str, Any]) -> None:
    global session
    if DEFECT == "dies-of-options":
        assert "configOptions" not in value
    session = value["sessionId"]
    if DEFECT == "mangles-session":
        session = session.encode("ascii", "replace").decode()
    prompt()


def prompt() -> None:
    content: list[dict[str, Any]] = [{"type": "text", "text": DEFECT.removeprefix("says ") or "hello"}]
    if DEFECT == "any-image":
        content.append({"type": "image", "data": "AAAA", "mimeType": "image/png"})
    if DEFECT == "own-content":
        content.append({"type": "hologram"})
    if DEFECT == "prints":
        put(b"now I prompt")
    if DEFECT == "latin-1":
        put(b'{"jsonrpc":"2.0","method":"_x","params":{"a":"\xe9"}}')
    if DEFECT == "own-method":
        say({"method": "my/method", "params": {}})
    if DEFECT == "never-prompts":
        return
    if DEFECT == "sets-mode":
        ask("session/set_mode", {"sessionId": session, "modeId": "check"})
    if DEFECT == "cancels-call":
        ask("tool_call/cancel", {"sessionId": session, "toolCallId": "c"})
    ask("session/prompt", {"sessionId": "other" if DEFECT == "other-session" else session, "prompt": content})
    if DEFECT == "one-id":
        say({"id": last, "method": "_double/ask", "params": {}})


def end() -> None:
    global state
    if (
        spoken == 2
        or DEFECT == "closes"
        or "close" in hello.get("agentCapabilities", {}).get("sessionCapabilities", {})
    ):
        state = "closing"
        ask("session/close", {"sessionId": session})
    else:
        leave()


def leave() -> None:
    assert agent.stdin is not None
    agent.stdin.close()
    sys.exit(0)


def answered(message: dict[str, Any]) -> None:
    global hello, spoken
    method = asked.pop(message.get("id"), "")
    value = message.get("result")
    if method == "initialize":
        if value is None:
            return begin() if DEFECT == "goes-on" else sys.exit(1)
        hello, spoken = value, value["protocolVersion"]
        if spoken not in (1, 2) and not DEFECT.startswith("any-"):
            sys.exit(1)
        return begin()
    if method == "session/new":
        if value is None:
            return login()
        return opened(value)
    if method == "session/load":
        return opened({"sessionId": "kept"})
    if method in ("authenticate", "auth/login"):
        return new()
    if method == "session/prompt":
        if value is None:
            if DEFECT == "dies-of-error":
                os.abort()
            sys.exit(1)
        if spoken == 1:
            return end()
    if method == "session/close":
        if value is None and DEFECT == "closes-hard":
            sys.exit(1)
        leave()
    return None


def login() -> None:
    if DEFECT == "prompts-anyway":
        return prompt()
    name = "id" if spoken == 1 else "methodId"
    if not hello.get("authMethods"):
        sys.exit(1)
    wanted = "terminal" if DEFECT == "logs-in-terminal" else "agent"
    [method] = [row for row in hello["authMethods"] if row.get("type", "agent") == wanted]
    ask("authenticate" if spoken == 1 else "auth/login", {"methodId": method[name]})
    return None


# What it is asked ------------------------------------------------------------------------------------------------


def called(id: Any, method: str, params: Any) -> None:
    if DEFECT == "strict-params" and params.get("_meta"):
        sys.exit(1)
    if method == "session/request_permission":
        return permission(id, params)
    able: dict[str, Any] = ABLE
    if DEFECT.endswith("-anyway"):
        able = {"fs": FILES, "terminal": True, "elicitation": FORMS}
    files = able.get("fs", {})
    try:
        if method == "fs/read_text_file" and files.get("readTextFile"):
            return result(id, {"content": read(params)})
        if method == "fs/write_text_file" and files.get("writeTextFile"):
            write(params)
            return result(id, {})
        if method.startswith("terminal/") and able.get("terminal"):
            return result(id, terminal(method.partition("/")[2], params))
    except (OSError, LookupError):
        if DEFECT == "dies-of-missing":
            sys.exit(1)
        return result(id, {"content": ""}) if DEFECT == "reads-missing" else error(id, -32002)
    if method == "elicitation/create" and able.get("elicitation"):
        content = {"name": "x", "count": 99} if DEFECT == "fills-wrong" else {"name": "check", "count": 5}
        return result(id, {"action": "sure" if DEFECT == "own-action" else "accept", "content": content})
    if method.startswith("_") and DEFECT == "custom-silent" and method != "_check/alive":
        return None
    if method[0] != "_" and DEFECT == "null-for-unknown":
        return result(id, None)
    error(id, -32601)
    if DEFECT == "answers-twice":
        error(id, -32601)
    return None


def permission(id: Any, params: Any) -> None:
    if not isinstance(params, dict) or "options" not in params:
        if DEFECT == "dies-of-params":
            sys.exit(1)
        return error(id, -32602)
    title = params.get("title") or params["toolCall"].get("title", "")
    if "Wait" in title:
        questions[id] = title
        return None
    option = "other" if DEFECT == "other-option" else params["options"][0]["optionId"]
    outcome: dict[str, Any] = {"outcome": "selected", "optionId": option}
    if DEFECT == "no-outcome":
        return result(id, {})
    if DEFECT == "never-answers":
        return None
    return result(id, {"outcome": outcome})


def dismiss(id: Any) -> None:
    if questions.pop(id, None) is not None:
        result(id, {"outcome": {"outcome": "cancelled"}})


def read(params: dict[str, Any]) -> str:
    with open(params["path"], encoding="utf-8", newline="") as file:
        lines = file.readlines()
    if DEFECT == "strips":
        return "".join(lines).strip()
    start = params.get("line", 1) - (0 if DEFECT == "counts-from-0" else 1)
    return "".join(lines[start if "line" in params else 0 :][: params.get("limit")])


def write(params: dict[str, Any]) -> None:
    if DEFECT != "writes-nothing":
        with open(params["path"], "w", encoding="utf-8", newline="") as file:
            file.write(params["content"])


def terminal(what: str, params: dict[str, Any]) -> dict[str, Any]:
    if what == "create":
        env = os.environ | {row["name"]: row["value"] for row in params.get("env", [])}
        place = None if DEFECT == "runs-here" else params.get("cwd")
        words = [params["command"], *params.get("args", [])]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=place, env=env)
        terminals[f"t{len(terminals)}"] = (process, params.get("outputByteLimit"), b"")
        return {"terminalId": f"t{len(terminals) - 1}"}
    if params["terminalId"] not in terminals and DEFECT == "any-terminal":
        return {"output": "", "truncated": False}
    process, limit, output = terminals[params["terminalId"]]
    if what == "wait_for_exit":
        output += process.communicate()[0] if process.stdout and not process.stdout.closed else b""
        terminals[params["terminalId"]] = (process, limit, output)
        code = process.returncode
        if DEFECT == "exit-0":
            code = 0
        return {"exitCode": code} if code >= 0 else {"signal": signal.Signals(-code).name}
    if what == "output":
        short = output[:limit] if DEFECT == "keeps-beginning" else output[-limit:] if limit else output
        text = short.decode(errors="replace" if DEFECT == "cuts-characters" else "ignore")
        status = {"exitStatus": {"exitCode": process.returncode}} if (process.returncode or -1) >= 0 else {}
        return {"output": text, "truncated": bool(limit and len(output) > limit), **status}
    if what == "kill":
        process.kill()
        if DEFECT == "kill-releases":
            del terminals[params["terminalId"]]
    if what == "release":
        process.kill()
        if DEFECT != "keeps-released":
            del terminals[params["terminalId"]]
    return {}


# What it is told -------------------------------------------------------------------------------------------------


def told(method: str, params: Any) -> None:
    if method == "$/cancel_request":
        if DEFECT == "dies-of-cancel" and params["requestId"] not in questions:
            sys.exit(1)
        if DEFECT == "cancels-own" and params["requestId"] in (*asked, last):
            say({"method": "session/cancel", "params": {"sessionId": session}})
        if DEFECT == "keeps-question":
            return
        if DEFECT == "question-is-error":
            if questions.pop(params["requestId"], None):
                error(params["requestId"], -32603)
            return
        dismiss(params["requestId"])
    elif method == "session/update":
        updated(params)
    elif method == "elicitation/complete":
        if DEFECT == "dies-of-complete":
            sys.exit(1)
    elif DEFECT == "dies-of-notification":
        sys.exit(1)
    elif DEFECT == "answers-notification":
        say({"id": None, "error": {"code": -32601, "message": "what"}})


def updated(params: Any) -> None:
    try:
        update = params["update"]
        kind, owner = update["sessionUpdate"], params["sessionId"]
    except (TypeError, KeyError):
        return sys.exit(1) if DEFECT == "dies-of-broken" else None
    content = update.get("content")
    if DEFECT == "dies-of-plan" and (kind in ("plan", "plan_update") or "diff" in str(content)):
        sys.exit(1)
    if DEFECT == "dies-of-kind" and kind in ("_check_kind", "check_kind_of_tomorrow"):
        sys.exit(1)
    if DEFECT == "dies-of-member" and "checkOfTomorrow" in update:
        sys.exit(1)
    if DEFECT == "dies-of-meta" and "_meta" in update:
        sys.exit(1)
    if DEFECT == "dies-of-title" and update.get("title") == 7:
        sys.exit(1)
    if DEFECT == "dies-of-stranger" and owner not in (session, "kept"):
        sys.exit(1)
    if DEFECT == "dies-of-early" and session == "none":
        sys.exit(1)
    if DEFECT == "dies-of-replay" and state == "loading":
        sys.exit(1)
    if DEFECT == "dies-of-late" and update.get("toolCallId") == "check-late":
        sys.exit(1)
    if DEFECT == "dies-of-big" and len(str(content)) > 2**20:
        sys.exit(1)
    if DEFECT == "ends-early" and kind == "agent_message_chunk":
        say({"method": "session/cancel", "params": {}})
    if kind == "state_update" and update.get("state") == "idle":
        end()
    return None


def garbage(code: int, line: bytes) -> None:
    defect = {-32700: "json", -32600: "array" if line.startswith(b"[") else "message"}[code]
    if f"dies-of-{defect}" == DEFECT:
        sys.exit(1)
    if DEFECT == "does-array" and defect == "array":
        for item in json.loads(line):
            called(item["id"], item["method"], {})
    elif f"silent-{defect}" != DEFECT:
        error(None, code)


def receive(line: bytes) -> None:
    try:
        message = json.loads(line.decode(errors="replace" if DEFECT == "decodes-chunks" else "strict"))
    except ValueError:
        return garbage(-32700, line)
    if not isinstance(message, dict):
        return garbage(-32600, line)
    if "method" not in message:
        return answered(message)
    if "id" in message:
        return called(message["id"], message["method"], message.get("params"))
    return told(message["method"], message.get("params"))


def interrupted(*_: Any) -> None:
    say({"method": "session/cancel", "params": {"sessionId": session}})
    for id in list(questions) if DEFECT != "leaves-question" else ():
        dismiss(id)


def uninterrupted(fd: int) -> bytes:
    """What can be read; an interrupt comes here and nowhere else, lest it find us writing."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    data = os.read(fd, 65536)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    return data


def lines() -> Any:
    """Lines as they come; the defects are those of reading."""
    assert agent.stdout is not None
    rest = ""
    raw = b""
    while data := uninterrupted(agent.stdout.fileno()):
        if DEFECT == "decodes-chunks":
            rest += data.decode(errors="replace")
            *whole, rest = rest.split("\n")
            yield from (line.encode() for line in whole)
        elif DEFECT == "one-a-chunk":
            raw += data
            if raw.endswith(b"\n"):
                yield raw.split(b"\n")[0]
                raw = b""
        else:
            raw += data
            *whole_lines, raw = raw.split(b"\n")
            yield from whole_lines


signal.signal(signal.SIGINT, interrupted)
start()
for line in lines():
    receive(line)
while DEFECT == "stays" or (DEFECT == "stays-early" and not hello):
    signal.pause()
