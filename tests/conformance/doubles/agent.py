"""An agent of either version without a defect: `agent.py VERSION [DEFECT]` over stdio, `Agent` without any I/O.

It knows nothing of the packages that it tests. A prompt is a word that says what to do: `say`, `cancel` (which waits
for it), `ask`, `read`, `edit`, `run`, `plan`, `form`, `visit`, `background`, `delegate`, `notify`; what a client did
not announce is left out. It announces all that an agent can, drafts too. Defects are in `agent_defects`, which
change what goes in and out; few are in here, by name.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

Message = dict[str, Any]
Then = Callable[[Message], None]
CHOICES = [{"value": "ask", "name": "Ask"}, {"value": "do", "name": "Do"}]
SIZES = [{"value": "s", "name": "S"}, {"value": "l", "name": "L"}]
PERMISSIONS = [
    {"optionId": f"o-{kind}", "name": kind, "kind": kind} for kind in ("allow_once", "allow_always", "reject_once")
]
FORM = {"type": "object", "properties": {"colour": {"type": "string", "enum": ["red"]}}, "required": ["colour"]}


def whole(block: Message) -> Message:
    """A piece of content without members that are malformed and may be left out."""
    loose = ("annotations", "_meta")
    return {name: value for name, value in block.items() if name not in loose or isinstance(value, dict)}


class Session:
    """What is kept of one."""

    def __init__(self, cwd: str) -> None:
        self.cwd = cwd
        self.history: list[Message] = []
        self.options: dict[str, Any] = {"mode": "ask", "model": "s", "fast": False}
        self.title: str | None = None
        self.archived = False
        self.turn: Message | None = None
        self.queue: list[Message] = []
        self.background: list[Message] = []


class Agent:
    """What it hears with `feed`, it answers to `put`."""

    def __init__(self, version: int, put: Callable[[bytes], None], defect: Any = None) -> None:
        self.version, self.put, self.defect = version, put, defect
        self.sessions: dict[str, Session] = {}
        self.client: dict[str, Any] = {}
        self.pending: dict[Any, tuple[Message, Then]] = {}
        self.ready = self.locked = self.greeted = False
        self.count = 0
        self.memo: dict[str, Any] = {}
        """What a defect keeps in mind."""
        self.about = ""
        """The method that is being answered, while it is."""
        self.rest = b""

    def bad(self, name: str) -> bool:
        """Is this the defect?"""
        return self.defect is not None and self.defect.name == name

    # Saying --------------------------------------------------------------------------------------------------

    def say(self, message: Message) -> None:
        for each in [message] if self.defect is None else self.defect.said(self, message):
            self.raw(each if isinstance(each, bytes) else json.dumps({"jsonrpc": "2.0", **each}).encode())

    def raw(self, line: bytes) -> None:
        self.put(line + b"\n")

    def result(self, asked: Message, value: Any = None) -> None:
        self.answer(asked, {"id": asked["id"], "result": {} if value is None else value})

    def error(self, asked: Message | None, code: int, words: str = "no", **more: Any) -> None:
        id = asked["id"] if asked else None
        self.answer(asked, {"id": id, "error": {"code": code, "message": words, **more}})

    def answer(self, asked: Message | None, message: Message) -> None:
        self.about = asked["method"] if asked else ""
        self.say(message)
        self.about = ""

    def update(self, id: str, **update: Any) -> None:
        session = self.sessions.get(id)
        if session and update["sessionUpdate"] not in ("state_update", "notice", "config_option_update"):
            session.history.append(update)
        self.say({"method": "session/update", "params": {"sessionId": id, "update": update}})

    def ask(self, method: str, params: Message, then: Then) -> int:
        self.count += 1
        id = 1000 + self.count
        message = {"id": id, "method": method, "params": params}
        self.pending[id] = (message, then)
        self.say(message)
        return id

    def text(self, id: str, who: str, words: str) -> None:
        content = {"type": "text", "text": words}
        if self.version == 1:
            self.update(id, sessionUpdate=f"{who}_chunk", content=content)
        else:
            self.count += 1
            self.update(id, sessionUpdate=who, messageId=f"m{self.count}", content=[])
            self.update(id, sessionUpdate=f"{who}_chunk", messageId=f"m{self.count}", content=content)

    def call(self, id: str, call: str, status: str, **more: Any) -> None:
        """Tell of a tool call, for the first time as pending."""
        first = {"title": "Call", "kind": "other", "name": "tool"} if status == "pending" else {}
        kind = "tool_call" if status == "pending" and self.version == 1 else "tool_call_update"
        if self.version == 1:
            first.pop("name", None)
        self.update(id, sessionUpdate=kind, toolCallId=call, status=status, **first, **more)

    def state(self, id: str, state: str, **more: Any) -> None:
        if self.version == 2:
            self.update(id, sessionUpdate="state_update", state=state, background=self.sessions[id].background, **more)

    # Hearing -------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if self.defect is not None:
            data = self.defect.bytes(self, data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.receive(line)

    def end(self) -> bool:
        """Stdin ended. Does the agent?"""
        return not self.bad("stays")

    def receive(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return self.error(None, -32700)
        if not isinstance(message, dict) or not ("method" in message or "id" in message):
            return self.error(None, -32600)
        if self.defect is not None and self.defect.heard(self, message):
            return None
        return self.handle(message)

    def handle(self, message: Message) -> None:
        method, params = message.get("method"), message.get("params")
        if method is None:
            _, then = self.pending.pop(message["id"], (None, None))
            return then(message) if then else None
        params = params if isinstance(params, dict) else {}
        if "id" not in message:
            return self.told(method, params)
        if method == "initialize":
            return self.initialize(message, params)
        if not self.ready:
            return self.error(message, -32600)
        handler = getattr(self, "do_" + method.replace("/", "_"), None)
        old = method in ("session/load", "authenticate", "logout", "session/set_mode")
        new = method in ("auth/login", "auth/logout", "tool_call/cancel", "terminal/cancel")
        if handler is None or (old and self.version == 2) or (new and self.version == 1):
            return self.error(message, -32601)
        try:
            return handler(message, params)
        except (KeyError, TypeError, AttributeError):
            return self.error(message, -32602)

    def told(self, method: str, params: Message) -> None:
        if method == "session/cancel":
            self.stop(str(params.get("sessionId")))
        elif method == "$/cancel_request":
            for id, session in self.sessions.items():
                if self.version == 1 and session.turn and session.turn["id"] == params.get("requestId"):
                    self.stop(id, refuse=True)

    def able(self, gate: str) -> bool:
        """Did the client announce it?"""
        value: Any = self.client
        for part in gate.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value is not None and value is not False

    # How it begins -------------------------------------------------------------------------------------------

    def initialize(self, asked: Message, params: Message) -> None:
        wanted = params.get("protocolVersion")
        if self.version == 2 and int(wanted or 0) < 2:
            data = {"requested": wanted, "supported": [2]}
            return self.error(asked, -32022, "Unsupported protocol version", data=data)
        if self.version == 2 and self.sessions:
            return self.error(asked, -32600)
        client = params.get("clientCapabilities" if self.version == 1 else "capabilities")
        self.client = client if isinstance(client, dict) else {}
        names = ("agentCapabilities", "agentInfo") if self.version == 1 else ("capabilities", "info")
        self.ready = True
        return self.result(
            asked,
            {
                "protocolVersion": self.version,
                names[0]: self.capabilities(),
                names[1]: {"name": "double", "version": "1"},
                "authMethods": list(self.logins()),
                "_meta": {"double": True},
            },
        )

    def capabilities(self) -> Message:
        more = {name: {} for name in ("delete", "additionalDirectories", "archive", "status", "title", "systemPrompt")}
        status = {"status": {}}
        if self.version == 2:
            content = {"image": {}, "audio": {}, "embeddedContext": {}}
            servers = {"stdio": {}, "http": {}, "acp": {}}
            return {"session": {"prompt": content, "mcp": servers, **more}, "auth": status}
        return {
            "loadSession": True,
            "promptCapabilities": {"image": True, "audio": True, "embeddedContext": True},
            "mcpCapabilities": {"http": True, "sse": False, "acp": True},
            "sessionCapabilities": {"list": {}, "resume": {}, "close": {}, **more},
            "auth": {"logout": {}, **status},
        }

    def logins(self) -> Iterator[Message]:
        id, kind = ("id", {}) if self.version == 1 else ("methodId", {"type": "agent"})
        yield {id: "door", "name": "Door", **kind}
        if self.able("auth.terminal"):
            env: Any = {"A": "1"} if self.version == 1 else [{"name": "A", "value": "1"}]
            yield {id: "tty", "name": "Terminal", "type": "terminal", "args": ["login"], "env": env}

    def do_authenticate(self, asked: Message, params: Message) -> None:
        if params.get("methodId") != "door":
            return self.error(asked, -32602)
        told, self.locked, self.greeted = self.greeted, False, True
        self.result(asked)
        if not told:
            self.say({"method": "auth/status_update", "params": {"state": "authenticated", "accounts": []}})
        return None

    do_auth_login = do_authenticate

    def do_auth_logout(self, asked: Message, params: Message) -> None:
        self.result(asked)

    do_logout = do_auth_logout

    def do_auth_status(self, asked: Message, params: Message) -> None:
        self.result(asked, {"state": "unauthenticated" if self.locked else "authenticated"})

    # Sessions ------------------------------------------------------------------------------------------------

    def do_session_new(self, asked: Message, params: Message) -> None:
        cwd, servers = params.get("cwd"), params.get("mcpServers") or []
        if not isinstance(cwd, str) or not os.path.isabs(cwd) or not self.fits(params):
            return self.error(asked, -32602)
        if self.locked:
            return self.error(asked, -32000, "Authentication required")
        self.count += 1
        id = f"s{self.count}"
        self.sessions[id] = Session(cwd)
        modes = {"modes": self.modes(id)} if self.version == 1 else {}
        self.result(asked, {"sessionId": id, "configOptions": self.options(id), **modes})
        self.commands(id)
        self.connect(servers)
        return None

    def fits(self, params: Message) -> bool:
        """Can the servers be reached and the system prompt be applied?"""
        kinds = {server.get("type", "stdio") for server in params.get("mcpServers") or []}
        prompt = params.get("systemPrompt")
        plain = prompt is None or (
            prompt["mode"] == "append" and all(block["type"] == "text" for block in prompt["content"])
        )
        return plain and kinds <= {"stdio", "http", "acp"}

    def connect(self, servers: list[Message]) -> None:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "double", "version": "1"}}
        for server in servers:
            if server.get("type", "stdio") == "stdio":
                line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n"
                words = [server["command"], *server["args"]]
                subprocess.run(words, input=line.encode(), capture_output=True, check=True, timeout=60)
            elif server["type"] == "acp":
                params = {"serverId": server["serverId"], "requestId": "i", "method": "initialize", "params": hello}
                self.ask("mcp/message", params, lambda answer: None)

    def modes(self, id: str) -> Message:
        available = [{"id": row["value"], "name": row["name"]} for row in CHOICES]
        return {"currentModeId": self.sessions[id].options["mode"], "availableModes": available}

    def options(self, id: str) -> list[Message]:
        name, values = "id" if self.version == 1 else "configId", self.sessions[id].options
        group = {"group" if self.version == 1 else "groupId": "g", "name": "G", "options": SIZES}
        rows: list[Message] = [
            {name: "mode", "name": "Mode", "category": "mode", "type": "select", "options": CHOICES},
            {name: "model", "name": "Model", "type": "select", "options": [group]},
        ]
        if self.version == 2 or self.able("session.configOptions.boolean"):
            rows.append({name: "fast", "name": "Fast", "type": "boolean"})
        return [{**row, "currentValue": values[row[name]]} for row in rows]

    def commands(self, id: str) -> None:
        row: Message = {"name": "help", "description": "Help"}
        if self.version == 2:
            row["type"] = "command"
        self.update(id, sessionUpdate="available_commands_update", availableCommands=[row])

    def known(self, asked: Message, params: Message) -> Session | None:
        session = self.sessions.get(str(params.get("sessionId")))
        if session is None:
            self.error(asked, -32002, "Not found", data={"sessionId": params.get("sessionId")})
        return session

    def do_session_load(self, asked: Message, params: Message) -> None:
        if self.known(asked, params):
            self.replay(params["sessionId"])
            id = params["sessionId"]
            self.result(asked, {"configOptions": self.options(id), "modes": self.modes(id)})

    def do_session_resume(self, asked: Message, params: Message) -> None:
        start = params.get("replayFrom")
        if start is not None and start != {"type": "start"}:
            return self.error(asked, -32602)
        if not (session := self.known(asked, params)):
            return None
        if start is not None:
            self.replay(params["sessionId"])
        self.state(params["sessionId"], "running" if session.turn else "idle")
        self.connect(params.get("mcpServers") or [])
        return self.result(asked, {"configOptions": self.options(params["sessionId"])})

    def replay(self, id: str) -> None:
        for update in list(self.sessions[id].history):
            if "message" in update["sessionUpdate"] or "thought" in update["sessionUpdate"]:
                self.say({"method": "session/update", "params": {"sessionId": id, "update": update}})

    def do_session_list(self, asked: Message, params: Message) -> None:
        filter = params.get("archived") or "exclude"
        if params.get("cursor") not in (None, "next") or filter not in ("exclude", "include", "only"):
            return self.error(asked, -32602)
        keep = {"exclude": (False,), "include": (False, True), "only": (True,)}[filter]
        rows = [
            {"sessionId": id, "cwd": session.cwd, "title": session.title, "archived": session.archived}
            for id, session in self.sessions.items()
            if session.archived in keep and params.get("cwd") in (None, session.cwd)
        ]
        page, more = (rows[1:], {}) if params.get("cursor") else (rows[:1], {"nextCursor": "next"} if rows[1:] else {})
        return self.result(asked, {"sessions": page, **more})

    def do_session_delete(self, asked: Message, params: Message) -> None:
        self.sessions.pop(params["sessionId"], None)
        self.result(asked)

    def do_session_close(self, asked: Message, params: Message) -> None:
        if session := self.sessions.get(params["sessionId"]):
            held, session.queue = session.queue, []
            self.stop(params["sessionId"])
            for prompt in held:
                self.error(prompt, -32800)
        self.result(asked)

    def do_session_archive(self, asked: Message, params: Message) -> None:
        if session := self.known(asked, params):
            self.stop(params["sessionId"])
            session.archived = True
            self.result(asked)

    def do_session_unarchive(self, asked: Message, params: Message) -> None:
        if session := self.known(asked, params):
            session.archived = False
            self.result(asked)

    def do_session_status(self, asked: Message, params: Message) -> None:
        if self.known(asked, params):
            self.result(asked, {"status": "open"})

    def do_session_set_title(self, asked: Message, params: Message) -> None:
        if session := self.known(asked, params):
            session.title = params["title"]
            self.result(asked, {"title": session.title})

    def do_session_set_mode(self, asked: Message, params: Message) -> None:
        id = params["sessionId"]
        if params["modeId"] not in ("ask", "do"):
            return self.error(asked, -32602)
        self.sessions[id].options["mode"] = params["modeId"]
        self.result(asked)
        return self.update(id, sessionUpdate="config_option_update", configOptions=self.options(id))

    def do_session_set_config_option(self, asked: Message, params: Message) -> None:
        id, option, value = params["sessionId"], params["configId"], params["value"]
        fits = {"mode": ("ask", "do"), "model": ("s", "l"), "fast": (True, False)}.get(option, ())
        if value not in fits:
            return self.error(asked, -32602)
        self.sessions[id].options[option] = value
        self.result(asked, {"configOptions": self.options(id)})
        if option == "mode" and self.version == 1:
            self.update(id, sessionUpdate="current_mode_update", currentModeId=value)
        return None

    # Turns ---------------------------------------------------------------------------------------------------

    def do_session_prompt(self, asked: Message, params: Message) -> None:
        session = self.known(asked, params)
        if session is None:
            return None
        if session.turn is not None:
            return session.queue.append(asked)
        return self.begin(asked, session)

    def begin(self, asked: Message, session: Session) -> None:
        params = asked["params"]
        id, content = params["sessionId"], [whole(block) for block in params["prompt"]]
        session.turn = asked
        if self.version == 2:
            self.count += 1
            message = f"p{self.count}"
            self.result(asked, {"messageId": message})
            self.update(id, sessionUpdate="user_message", messageId=message, content=content)
            self.state(id, "running")
        else:
            session.history += [{"sessionUpdate": "user_message_chunk", "content": block} for block in content]
        words = str(content[0].get("text")).split() if content else []
        act = getattr(self, f"turn_{words[0]}" if words else "", self.turn_say)
        act(id)

    def finish(self, id: str, reason: str = "end_turn") -> None:
        session = self.sessions[id]
        turn, session.turn = session.turn, None
        if turn is None:
            return
        if self.version == 1:
            self.result(turn, {"stopReason": reason})
        else:
            self.state(id, "idle", stopReason=reason)
        if session.queue:
            self.begin(session.queue.pop(0), session)

    def stop(self, id: str, *, refuse: bool = False) -> None:
        """Cancel the turn that runs, and what it asked; refuse: its request was given up."""
        session = self.sessions.get(id)
        if session is None or session.turn is None:
            return
        asks = [key for key, (message, _) in self.pending.items() if message["params"].get("sessionId") == id]
        forms = [key for key in asks if self.pending[key][0]["method"] == "elicitation/create"]
        for key in asks if refuse else forms:
            self.say({"method": "$/cancel_request", "params": {"requestId": key}})
        for key in asks:
            self.pending[key] = (self.pending[key][0], lambda answer: None)
        if refuse:
            turn, session.turn = session.turn, None
            self.error(turn, -32800, "Cancelled")
        else:
            self.finish(id, "cancelled")

    def turn_say(self, id: str) -> None:
        self.text(id, "agent_thought", "hm")
        self.text(id, "agent_message", "hello")
        self.finish(id)

    def turn_cancel(self, id: str) -> None:
        self.text(id, "agent_message", "1 2 3")

    def turn_ask(self, id: str) -> None:
        self.count += 1
        call = f"c{self.count}"
        self.call(id, call, "pending")
        about: Message = {"toolCall": {"toolCallId": call}}
        if self.version == 2:
            subject = {"type": "command", "command": "true", "cwd": "/", "toolCallId": call}
            about = {"title": "May I?", "subject": subject}
            self.state(id, "requires_action")

        def then(answer: Message) -> None:
            outcome = answer.get("result", {}).get("outcome", {})
            allowed = outcome.get("outcome") == "selected" and str(outcome.get("optionId")).startswith("o-allow")
            self.state(id, "running")
            self.call(id, call, "completed" if allowed else "failed")
            self.finish(id)

        self.ask("session/request_permission", {"sessionId": id, "options": PERMISSIONS, **about}, then)

    def turn_read(self, id: str) -> None:
        if self.version == 2 or not self.able("fs.readTextFile"):
            return self.turn_say(id)
        path = os.path.join(self.sessions[id].cwd, "acp-check.txt")
        self.ask("fs/read_text_file", {"sessionId": id, "path": path}, lambda answer: self.finish(id))
        return None

    def turn_edit(self, id: str) -> None:
        path = os.path.join(self.sessions[id].cwd, "acp-check.txt")
        diff: Message = {"type": "diff", "path": path, "oldText": None, "newText": "x"}
        if self.version == 2:
            text = f"diff --git {path} {path}\nnew file mode 100644\n--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+x\n"
            patch = {"format": "git_patch", "text": text}
            diff = {"type": "diff", "changes": [{"operation": "add", "path": path}], "patch": patch}
        self.call(id, "edit", "pending", locations=[{"path": path}])

        def then(answer: Message) -> None:
            self.call(id, "edit", "completed", content=[diff])
            self.finish(id)

        if self.version == 1 and self.able("fs.writeTextFile"):
            self.ask("fs/write_text_file", {"sessionId": id, "path": path, "content": "x"}, then)
        else:
            then({})

    def turn_run(self, id: str) -> None:
        if self.version == 1 and self.able("terminal"):
            params = {"sessionId": id, "command": "true", "cwd": self.sessions[id].cwd}
            self.ask("terminal/create", params, lambda answer: self.show(id, answer["result"]["terminalId"]))
            return
        if self.version == 2:
            self.shell(id, "t-run")
            self.update(id, sessionUpdate="terminal_update", terminalId="t-run", exitStatus={"exitCode": 0})
        self.finish(id)

    def shell(self, id: str, terminal: str, **more: Any) -> None:
        cwd, data = self.sessions[id].cwd, base64.b64encode(b"up\n").decode()
        self.update(id, sessionUpdate="terminal_update", terminalId=terminal, command="true", cwd=cwd, **more)
        self.update(id, sessionUpdate="terminal_output_chunk", terminalId=terminal, data=data)

    def show(self, id: str, terminal: str) -> None:
        self.call(id, "run", "pending", content=[{"type": "terminal", "terminalId": terminal}])
        self.watch(id, terminal)

    def watch(self, id: str, terminal: str) -> None:
        params = {"sessionId": id, "terminalId": terminal}

        def released(answer: Message) -> None:
            self.call(id, "run", "completed")
            self.finish(id)

        def waited(answer: Message) -> None:
            self.ask("terminal/release", params, released)

        self.ask("terminal/wait_for_exit", params, waited)

    def turn_plan(self, id: str) -> None:
        entries = [{"content": "One", "priority": "high", "status": "pending"}]
        if self.version == 1:
            self.update(id, sessionUpdate="plan", entries=entries)
        else:
            self.update(id, sessionUpdate="plan_update", plan={"type": "items", "planId": "p", "entries": entries})
        self.finish(id)

    def turn_form(self, id: str) -> None:
        if not self.able("elicitation.form"):
            return self.turn_say(id)
        params = {"mode": "form", "sessionId": id, "message": "Which?", "requestedSchema": FORM}
        self.ask("elicitation/create", params, lambda answer: self.finish(id))
        return None

    def turn_visit(self, id: str) -> None:
        if not self.able("elicitation.url"):
            return self.turn_say(id)
        params = {"mode": "url", "sessionId": id, "message": "Go", "elicitationId": "e1", "url": "https://example.org/"}

        def then(answer: Message) -> None:
            self.say({"method": "elicitation/complete", "params": {"elicitationId": "e1"}})
            self.finish(id)

        self.ask("elicitation/create", params, then)
        return None

    def turn_background(self, id: str) -> None:
        if self.version == 2:
            self.shell(id, "t-back", capabilities={"cancel": {}})
            self.sessions[id].background = [{"type": "terminal", "terminalId": "t-back"}]
        self.finish(id)

    def turn_delegate(self, id: str) -> None:
        if self.version == 2 or self.able("subagents"):
            self.update(id, sessionUpdate="subagent_update", sessionId="child", title="Child")
            self.text("child", "agent_message", "1")
        self.finish(id)

    def turn_notify(self, id: str) -> None:
        if self.version == 2 or self.able("session.notices"):
            self.update(id, sessionUpdate="notice", severity="warning", title="Full")
        self.finish(id)

    def do_tool_call_cancel(self, asked: Message, params: Message) -> None:
        self.error(asked, -32602)

    def do_terminal_cancel(self, asked: Message, params: Message) -> None:
        session, terminal = self.sessions[params["sessionId"]], params["terminalId"]
        if terminal not in [row["terminalId"] for row in session.background]:
            return self.error(asked, -32602)
        self.result(asked)
        exit = {"signal": "SIGTERM"}
        self.update(params["sessionId"], sessionUpdate="terminal_update", terminalId=terminal, exitStatus=exit)
        session.background = []
        return self.state(params["sessionId"], "idle")


def main() -> None:
    def put(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    defect = None
    if sys.argv[2:]:
        from agent_defects import DEFECTS

        defect = next(row for row in DEFECTS if row.name == sys.argv[2])
    agent = Agent(int(sys.argv[1]), put, defect)
    if defect is not None:
        defect.begin(agent)
    while data := os.read(0, 65536):
        agent.feed(data)
    while not agent.end():
        signal.pause()


if __name__ == "__main__":
    main()
