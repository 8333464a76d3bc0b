"""A client of either version, with at most the one defect that is named: `client.py VERSION DEFECT AGENT-COMMAND…`.

`Client` does no I/O but what it does for its agent: files, commands, visits. It knows nothing of the packages that it
tests. It announces all that a client can, unless its defect is to do what it did not announce, prompts once, cancels on
SIGINT, and ends when the agent does or the turn has ended. A question that speaks of waiting is left open until the
turn or the question is cancelled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

FILES = {"readTextFile": True, "writeTextFile": True}
FORMS = {"form": {}, "url": {}}


class Aborted(SystemExit):
    """The client dies by a signal."""


class Client:
    """What it hears with `feed`, it answers to `put`. SystemExit is its end."""

    def __init__(self, version: int, defect: str, put: Callable[[bytes], None], cwd: str) -> None:
        self.version, self.defect, self._put, self.cwd = version, defect, put, cwd
        self.names = ("clientCapabilities", "clientInfo") if version == 1 else ("capabilities", "info")
        self.able: dict[str, Any] = {"auth": {"terminal": True if version == 1 else {}}, "elicitation": FORMS}
        if version == 1:
            self.able.update(fs=FILES, terminal=True)
        if defect in ("reads-anyway", "writes-anyway", "runs-anyway", "shows-anyway", "shy"):
            self.able.clear()
        if self.bad("own-capability"):
            self.able["mine"] = True
        self.asked: dict[Any, str] = {}
        self.questions: dict[Any, str] = {}
        self.terminals: dict[str, tuple[subprocess.Popen[bytes], int | None, bytes]] = {}
        self.session = "none"
        self.hello: dict[str, Any] = {}
        self.spoken = version
        self.last = 0
        self.state = ""
        self.raw = b""
        self.decoded = ""

    def bad(self, *names: str) -> bool:
        return self.defect in names

    # Saying --------------------------------------------------------------------------------------------------

    def put(self, text: bytes) -> None:
        try:
            self._put(text + b"\n")
        except BrokenPipeError:
            if not self.defect.startswith("stays"):
                sys.exit(1)

    def say(self, message: dict[str, Any]) -> None:
        self.put(json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode())

    def ask(self, method: str, params: Any) -> int:
        self.last += 1
        id: Any = None if self.bad("null-id") and method == "session/prompt" else self.last
        self.asked[id] = method
        self.say({"id": id, "method": method, "params": params})
        return self.last

    def result(self, id: Any, value: Any) -> None:
        both = {"error": {"code": 1, "message": "x"}} if self.bad("answers-both") else {}
        self.say({"id": id, "result": value, **both})

    def error(self, id: Any, code: int, words: str = "no") -> None:
        if self.bad("number-ids") and isinstance(id, str) and id.isdigit():
            id = int(id)
        if self.bad("answers-both"):
            self.say({"id": id, "result": None, "error": {"code": code, "message": words}})
        self.say({"id": id, "error": {"code": code, "message": "no\nno" if self.bad("two-lines") else words}})

    # How it begins -------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.bad("new-first"):
            self.new()
        info = {"name": "double", "version": "1"}
        params: dict[str, Any] = {"protocolVersion": self.version, self.names[0]: self.able, self.names[1]: info}
        params["_meta"] = {"double": True}
        if self.bad("no-info"):
            del params[self.names[1]]
        if self.bad("own-member"):
            params["mine"] = 1
        if self.bad("meta-list"):
            params["_meta"] = []
        self.ask("initialize", params)
        if self.bad("hurries"):
            self.new()

    @property
    def offers(self) -> dict[str, Any]:
        """The agent's capabilities."""
        found = self.hello.get("agentCapabilities" if self.spoken == 1 else "capabilities")
        return found if isinstance(found, dict) else {}

    def can(self, name: str) -> bool:
        """Does the agent offer this for sessions?"""
        if self.spoken == 1:
            return name in (self.offers.get("sessionCapabilities") or {})
        return name in ("list", "close") or name in (self.offers.get("session") or {})

    def new(self) -> None:
        params: dict[str, Any] = {"cwd": "." if self.bad("relative-cwd") else self.cwd, "mcpServers": self.servers()}
        if self.bad("no-cwd"):
            del params["cwd"]
        if self.bad("empty-cwd"):
            params["cwd"] = ""
        if self.spoken == 1 and self.version == 2 and self.bad("speaks-on"):
            del params["mcpServers"]
        if self.bad("any-server"):
            params["mcpServers"] = [{"type": "http", "name": "x", "url": "http://localhost/", "headers": []}]
        if self.bad("more-directories"):
            params["additionalDirectories"] = ["/"]
        if self.bad("system-prompt"):
            params["systemPrompt"] = {"mode": "append", "content": [{"type": "text", "text": "x"}]}
        self.ask("session/new", params)

    def servers(self) -> list[Any]:
        kinds = self.offers.get("mcpCapabilities") or {} if self.spoken == 1 else self.offers.get("session") or {}
        kinds = kinds if self.spoken == 1 else kinds.get("mcp") or {}
        return [{"type": "acp", "name": "double", "serverId": "mine"}] if kinds.get("acp") not in (None, False) else []

    def begin(self) -> None:
        if self.bad("lists"):
            self.ask("session/list" if self.spoken == 1 else "session/delete", {"sessionId": "x"})
        if self.bad("logs-out"):
            self.ask("logout" if self.spoken == 1 else "auth/logout", {})
        if self.bad("needs-all"):
            assert self.offers.get("checkOfTomorrow")
        if self.bad("dies-of-more"):
            assert "checkOfTomorrow" not in self.hello
        if self.bad("dies-of-malformed"):
            assert self.hello.get("agentInfo") != 5
            assert self.hello.get("authMethods") != 5
        if self.can("list") and self.offers.get("auth"):  # an agent that announces much
            self.ask("session/list", {})
        else:
            self.open()

    def open(self) -> None:
        if self.spoken == 1 and self.offers.get("loadSession"):
            self.state = "loading"
            self.ask("session/load", {"sessionId": "kept", "cwd": self.cwd, "mcpServers": self.servers()})
        else:
            self.new()

    def listed(self, value: dict[str, Any]) -> None:
        cursor = value.get("nextCursor")
        if self.bad("reads-cursors") and (cursor or value["sessions"]):
            self.defect = "lists-on"
            self.ask("session/list", {"cursor": f"{cursor} again"})
        elif cursor:
            self.ask("session/list", {"cursor": cursor})
        elif self.can("status"):
            self.ask("session/status", {"sessionId": "kept"})
        else:
            self.open()

    def opened(self, value: dict[str, Any]) -> None:
        if self.bad("dies-of-options"):
            assert "configOptions" not in value
        self.session = value["sessionId"]
        if self.bad("mangles-session"):
            self.session = self.session.encode("ascii", "replace").decode()
        self.prompt()

    def prompt(self) -> None:
        words = self.defect.removeprefix("says ") or "hello"
        content: list[dict[str, Any]] = [{"type": "text", "text": words}]
        if self.bad("any-image"):
            content.append({"type": "image", "data": "AAAA", "mimeType": "image/png"})
        if self.bad("own-content"):
            content.append({"type": "hologram"})
        if self.bad("prints"):
            self.put(b"now I prompt")
        if self.bad("latin-1"):
            self.put(b'{"jsonrpc":"2.0","method":"_x","params":{"a":"\xe9"}}')
        if self.bad("own-method"):
            self.say({"method": "my/method", "params": {}})
        if self.bad("never-prompts"):
            return
        if self.bad("sets-mode"):
            self.ask("session/set_mode", {"sessionId": self.session, "modeId": "check"})
        if self.bad("cancels-call"):
            self.ask("tool_call/cancel", {"sessionId": self.session, "toolCallId": "c"})
        session = "other" if self.bad("other-session") else self.session
        self.ask("session/prompt", {"sessionId": session, "prompt": content})
        if self.bad("one-id"):
            self.say({"id": self.last, "method": "_double/ask", "params": {}})

    def end(self) -> None:
        if self.can("close"):
            self.state = "closing"
            self.ask("session/close", {"sessionId": self.session})
        else:
            sys.exit(0)

    def answered(self, message: dict[str, Any]) -> None:
        method, value = self.asked.pop(message.get("id"), ""), message.get("result")
        if method == "initialize":
            return self.greeted(value)
        if method == "session/list":
            return self.listed(value or {"sessions": []})
        if method == "session/status":
            if self.bad("attaches"):
                self.session = "kept"
                return self.prompt()
            return self.open()
        if method == "session/new":
            return self.login() if value is None else self.opened(value)
        if method == "session/load":
            return self.opened({"sessionId": "kept"})
        if method in ("authenticate", "auth/login"):
            return self.new()
        if method == "session/prompt":
            if value is None:
                lost = message.get("error", {}).get("code") == -32000
                if self.bad("dies-of-logout" if lost else "dies-of-error"):
                    raise Aborted(-6)
                sys.exit(1)
            if self.spoken == 1:
                return self.end()
        if method == "session/close":
            sys.exit(1 if value is None and self.bad("closes-hard") else 0)
        return None

    def greeted(self, value: dict[str, Any] | None) -> None:
        if value is None:
            return self.begin() if self.bad("goes-on") else sys.exit(1)
        self.hello, self.spoken = value, value["protocolVersion"]
        if self.spoken not in (1, 2) and not self.defect.startswith("any-"):
            return None if self.bad("lingers") else sys.exit(1)
        return self.begin()

    def login(self) -> None:
        if self.bad("prompts-anyway"):
            return self.prompt()
        name = "id" if self.spoken == 1 else "methodId"
        if not self.hello.get("authMethods"):
            sys.exit(1)
        wanted = "terminal" if self.bad("logs-in-terminal") else "agent"
        [method] = [row for row in self.hello["authMethods"] if row.get("type", "agent") == wanted]
        self.ask("authenticate" if self.spoken == 1 else "auth/login", {"methodId": method[name]})
        return None

    # What it is asked ----------------------------------------------------------------------------------------

    def called(self, id: Any, method: str, params: Any) -> None:
        if self.bad("strict-params") and params.get("_meta"):
            sys.exit(1)
        if method == "session/request_permission":
            return self.permission(id, params)
        if method == "mcp/message" and self.servers():
            return self.mcp(id, params)
        able = self.able
        if self.defect.endswith("-anyway"):
            able = {"fs": FILES, "terminal": True, "elicitation": FORMS}
        try:
            if method.startswith("fs/") and able.get("fs"):
                return self.result(id, self.read(params) if "read" in method else self.write(params))
            if method.startswith("terminal/") and able.get("terminal"):
                return self.result(id, self.terminal(method.partition("/")[2], params))
        except (OSError, LookupError):
            if self.bad("dies-of-missing"):
                sys.exit(1)
            return self.result(id, {"content": ""}) if self.bad("reads-missing") else self.error(id, -32002)
        if method == "elicitation/create" and able.get("elicitation"):
            return self.elicit(id, params)
        if method.startswith("_") and self.bad("custom-silent") and method != "_check/alive":
            return None
        if method[0] != "_" and self.bad("null-for-unknown"):
            return self.result(id, None)
        self.error(id, -32601)
        if self.bad("answers-twice"):
            self.error(id, -32601)
        return None

    def permission(self, id: Any, params: Any) -> None:
        if not isinstance(params, dict) or "options" not in params:
            if self.bad("dies-of-params"):
                sys.exit(1)
            return self.error(id, -32602)
        title = params.get("title") or params["toolCall"].get("title", "")
        if "Wait" in title:
            self.questions[id] = title
            return None
        option = "other" if self.bad("other-option") else params["options"][0]["optionId"]
        if self.bad("no-outcome"):
            return self.result(id, {})
        if self.bad("never-answers"):
            return None
        return self.result(id, {"outcome": {"outcome": "selected", "optionId": option}})

    def dismiss(self, id: Any) -> None:
        if self.questions.pop(id, None) is not None:
            self.result(id, {"outcome": {"outcome": "cancelled"}})

    def elicit(self, id: Any, params: Any) -> None:
        mode = params.get("mode")
        fields = params.get("requestedSchema", {}).get("properties", {})
        if mode == "url":
            if self.bad("prefetches"):
                self.visit(params["url"])
            self.questions[id] = "visit"
            return None
        odd = mode != "form" or any(row["type"].startswith("_") for row in fields.values())
        if odd and not self.bad("fills-anything"):
            return self.result(id, {"action": "decline"})
        content: dict[str, Any] = {"name": "check", "count": 99 if self.bad("fills-wrong") else 5}
        if odd:
            content = dict.fromkeys(fields, "x")
        return self.result(id, {"action": "sure" if self.bad("own-action") else "accept", "content": content})

    def visit(self, url: str) -> None:
        where = urlsplit(url)
        with contextlib.suppress(OSError):
            socket.create_connection((where.hostname or "", where.port or 80), timeout=5).close()

    def mcp(self, id: Any, params: Any) -> None:
        if params["serverId"] != "mine":
            return self.error(id, -32602)
        both = {"error": {"code": 1, "message": "x"}} if self.bad("mcp-both") else {}
        return self.result(id, {"result": {"tools": []}, **both})

    def read(self, params: dict[str, Any]) -> dict[str, Any]:
        with open(params["path"], encoding="utf-8", newline="") as file:
            lines = file.readlines()
        if self.bad("strips"):
            return {"content": "".join(lines).strip()}
        start = params.get("line", 1) - (0 if self.bad("counts-from-0") else 1)
        return {"content": "".join(lines[start if "line" in params else 0 :][: params.get("limit")])}

    def write(self, params: dict[str, Any]) -> dict[str, Any]:
        if not self.bad("writes-nothing"):
            with open(params["path"], "w", encoding="utf-8", newline="") as file:
                file.write(params["content"])
        return {}

    def terminal(self, what: str, params: dict[str, Any]) -> dict[str, Any]:
        if what == "create":
            return self.run(params)
        if params["terminalId"] not in self.terminals and self.bad("any-terminal"):
            return {"output": "", "truncated": False}
        process, limit, output = self.terminals[params["terminalId"]]
        if what == "wait_for_exit":
            output += process.communicate()[0] if process.stdout and not process.stdout.closed else b""
            self.terminals[params["terminalId"]] = (process, limit, output)
            code = 0 if self.bad("exit-0") else process.returncode
            return {"exitCode": code} if code >= 0 else {"signal": signal.Signals(-code).name}
        if what == "output":
            short = output[:limit] if self.bad("keeps-beginning") else output[-limit:] if limit else output
            text = short.decode(errors="replace" if self.bad("cuts-characters") else "ignore")
            ended = process.returncode is not None and process.returncode >= 0
            status = {"exitStatus": {"exitCode": process.returncode}} if ended else {}
            return {"output": text, "truncated": bool(limit and len(output) > limit), **status}
        if what in ("kill", "release"):
            process.kill()
            output += process.communicate()[0] if process.stdout and not process.stdout.closed else b""
            self.terminals[params["terminalId"]] = (process, limit, output)
            if (what == "kill" and self.bad("kill-releases")) or (what == "release" and not self.bad("keeps-released")):
                del self.terminals[params["terminalId"]]
        return {}

    def run(self, params: dict[str, Any]) -> dict[str, Any]:
        env = os.environ | {row["name"]: row["value"] for row in params.get("env", [])}
        place = self.cwd if self.bad("runs-here") else params.get("cwd", self.cwd)
        words = [params["command"], *params.get("args", [])]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=place, env=env)
        id = f"t{len(self.terminals)}"
        self.terminals[id] = (process, params.get("outputByteLimit"), b"")
        return {"terminalId": id}

    # What it is told -----------------------------------------------------------------------------------------

    def told(self, method: str, params: Any) -> None:
        if method == "$/cancel_request":
            return self.withdrawn(params["requestId"])
        if method == "session/update":
            return self.updated(params)
        if method == "elicitation/complete":
            return sys.exit(1) if self.bad("dies-of-complete") else None
        if self.bad("dies-of-notification"):
            sys.exit(1)
        if self.bad("answers-notification"):
            self.say({"id": None, "error": {"code": -32601, "message": "what"}})
        return None

    def withdrawn(self, id: Any) -> None:
        if self.bad("dies-of-cancel") and id not in self.questions:
            sys.exit(1)
        if self.bad("cancels-own") and id in (*self.asked, self.last):
            self.say({"method": "session/cancel", "params": {"sessionId": self.session}})
        if self.questions.get(id) == "visit":
            del self.questions[id]
            return self.result(id, {"action": "cancel"})
        if self.bad("keeps-question"):
            return None
        if self.bad("question-is-error"):
            return self.error(id, -32603) if self.questions.pop(id, None) else None
        return self.dismiss(id)

    def updated(self, params: Any) -> None:
        try:
            update = params["update"]
            kind, owner = update["sessionUpdate"], params["sessionId"]
        except (TypeError, KeyError):
            return sys.exit(1) if self.bad("dies-of-broken") else None
        content = update.get("content")
        deadly = {
            "dies-of-plan": kind in ("plan", "plan_update") or "diff" in str(content),
            "dies-of-kind": kind in ("_check_kind", "check_kind_of_tomorrow"),
            "dies-of-member": "checkOfTomorrow" in update,
            "dies-of-meta": "_meta" in update,
            "dies-of-title": update.get("title") == 7,
            "dies-of-stranger": owner not in (self.session, "kept"),
            "dies-of-early": self.session == "none",
            "dies-of-replay": self.state == "loading" and self.session == "none",
            "dies-of-late": update.get("toolCallId") == "check-late",
            "dies-of-big": len(str(content)) > 2**20,
            "ends-at-any-state": update.get("state") == "_check_state",
        }
        if deadly.get(self.defect):
            sys.exit(1)
        if self.bad("loads-icons") and isinstance(content, dict) and "icons" in content:
            self.visit(content["icons"][0]["src"])
        if kind == "state_update" and update.get("state") == "idle":
            self.end()
        return None

    def garbage(self, code: int, line: bytes) -> None:
        what = {-32700: "json", -32600: "array" if line.startswith(b"[") else "message"}[code]
        if self.bad(f"dies-of-{what}"):
            sys.exit(1)
        if self.bad("does-array") and what == "array":
            for item in json.loads(line):
                self.called(item["id"], item["method"], {})
        elif not self.bad(f"silent-{what}"):
            self.error(None, code)

    def receive(self, line: bytes) -> None:
        try:
            message = json.loads(line.decode(errors="replace" if self.bad("decodes-chunks") else "strict"))
        except ValueError:
            return self.garbage(-32700, line)
        if not isinstance(message, dict):
            return self.garbage(-32600, line)
        if "method" not in message:
            return self.answered(message)
        if "id" in message:
            return self.called(message["id"], message["method"], message.get("params"))
        return self.told(message["method"], message.get("params"))

    def interrupt(self) -> None:
        self.say({"method": "session/cancel", "params": {"sessionId": self.session}})
        for id in list(self.questions) if not self.bad("leaves-question") else ():
            self.dismiss(id)

    def feed(self, data: bytes) -> None:
        """Bytes from the agent, as they come; some defects are those of reading."""
        if self.bad("decodes-chunks"):
            self.decoded += data.decode(errors="replace")
            *texts, self.decoded = self.decoded.split("\n")
            lines = [text.encode() for text in texts]
        elif self.bad("one-a-chunk"):
            self.raw += data
            if not self.raw.endswith(b"\n"):
                return
            lines, self.raw = [self.raw.split(b"\n")[0]], b""
        else:
            *lines, self.raw = (self.raw + data).split(b"\n")
        for line in lines:
            self.receive(line)

    def tidy(self) -> None:
        """End what is still running."""
        for process, _, _ in self.terminals.values():
            process.kill()
            if process.stdout and not process.stdout.closed:
                process.communicate()

    def left(self) -> bool:
        """The agent has gone. Does the client end?"""
        return not (self.bad("stays") or (self.bad("stays-early") and not self.hello))


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # before there are threads
    agent = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert agent.stdin is not None
    assert agent.stdout is not None
    assert agent.stderr is not None
    stdin = agent.stdin

    def put(data: bytes) -> None:
        stdin.write(data)
        stdin.flush()

    client = Client(int(sys.argv[1]), sys.argv[2], put, os.getcwd())
    if not client.bad("leaves-stderr"):
        threading.Thread(target=agent.stderr.read, daemon=True).start()
    signal.signal(signal.SIGINT, lambda *_: client.interrupt())
    try:
        client.start()
        while data := uninterrupted(agent.stdout.fileno()):
            client.feed(data)
    except Aborted:
        os.abort()
    while not client.left():
        signal.pause()


def uninterrupted(fd: int) -> bytes:
    """What can be read; an interrupt comes here and nowhere else, lest it find us writing."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    data = os.read(fd, 65536)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    return data


if __name__ == "__main__":
    main()
