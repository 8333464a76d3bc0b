"""Agents with one defect each: what goes in and out of the agent without one, changed. Beside each, what catches it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Out = Callable[[Any, Message], "Iterable[Message | bytes] | None"]
"""What is said in the place of a message; None: the message, which may have been changed."""
Into = Callable[[Any, Message], "bool | None"]
"""Is a message dealt with? It may have been changed."""
V1, V2, BOTH = (1,), (2,), (1, 2)


@dataclass(frozen=True)
class Defect:
    """One thing that an agent does wrong."""

    name: str
    check: str
    versions: tuple[int, ...] = BOTH
    out: Out | None = None
    into: Into | None = None
    cut: Callable[[Any, bytes], bytes] | None = None
    start: Callable[[Any], None] | None = None
    carrier: str = "stdio"

    def said(self, agent: Any, message: Message) -> Iterable[Message | bytes]:
        replaced = self.out(agent, message) if self.out else None
        return [message] if replaced is None else replaced

    def heard(self, agent: Any, message: Message) -> bool:
        return bool(self.into and self.into(agent, message))

    def bytes(self, agent: Any, data: bytes) -> bytes:
        return self.cut(agent, data) if self.cut else data

    def begin(self, agent: Any) -> None:
        if self.start:
            self.start(agent)


# What is said otherwise ------------------------------------------------------------------------------------------


def result(method: str, change: Callable[[Message], Any]) -> Out:
    """A result of a method is changed."""

    def out(agent: Any, message: Message) -> None:
        if agent.about == method and "result" in message:
            change(message["result"])

    return out


def told(kind: str, change: Callable[[Message], Any], **where: Any) -> Out:
    """An update of a kind, with these members, is changed; a change that gives a list replaces it."""

    def out(agent: Any, message: Message) -> Any:
        update = message.get("params", {}).get("update", {})
        if update.get("sessionUpdate") == kind and where.items() <= update.items():
            found = change(update)
            return found if isinstance(found, list) else None
        return None

    return out


def unsaid(kind: str, **where: Any) -> Out:
    """An update of a kind is not sent."""
    return told(kind, lambda update: [], **where)


def ends(message: Message) -> bool:
    update = message.get("params", {}).get("update", {})
    return "stopReason" in message.get("result", {}) or update.get("state") == "idle"


def with_end(*more: Message | bytes, after: bool = False) -> Out:
    """Something is said before the end of each turn, or after it. `$s` is the session, `$e` the words of an update."""

    def out(agent: Any, message: Message) -> Any:
        if not ends(message):
            return None
        extra = [
            each if isinstance(each, bytes) else json.loads(json.dumps(each).replace("$s", last(agent)))
            for each in more
        ]
        return [message, *extra] if after else [*extra, message]

    return out


def last(agent: Any) -> str:
    """The newest session."""
    return list(agent.sessions)[-1] if agent.sessions else "none"


def update(session: str = "$s", **update: Any) -> Message:
    return {"method": "session/update", "params": {"sessionId": session, "update": update}}


def chunk(**more: Any) -> Message:
    return update(sessionUpdate="agent_message_chunk", **more)


def asks(method: str, change: Callable[[Message], Any]) -> Out:
    """The params of what is asked or told under a method are changed; a change that gives a list replaces it."""

    def out(agent: Any, message: Message) -> Any:
        if message.get("method") == method:
            found = change(message["params"])
            return found if isinstance(found, list) else None
        return None

    return out


def drop(name: str) -> Callable[[Message], Any]:
    return lambda value: value.pop(name, None)


def put(**members: Any) -> Callable[[Message], Any]:
    return lambda value: value.update(members)


def stale(rows: list[Message]) -> None:
    """The first option, the mode's, stays what it was."""
    rows[0]["currentValue"] = "ask"


def forgets_mode(agent: Any, message: Message) -> Any:
    """Changes of the mode's option are not told, and nowhere to be seen in a session that is loaded."""
    if agent.about == "session/load" and "result" in message:
        stale(message["result"]["configOptions"])
    return unsaid("config_option_update")(agent, message)


# What is heard otherwise -----------------------------------------------------------------------------------------


def when(wanted: Callable[[Any, Message], Any], act: Callable[[Any, Message], Any]) -> Into:
    """What is wanted is dealt with, unless the act gives False."""

    def into(agent: Any, message: Message) -> bool:
        return bool(wanted(agent, message)) and act(agent, message) is not False

    return into


def call(method: str, **where: Any) -> Callable[[Any, Message], Any]:
    """A request or notification for a method, with these params if any are named."""
    return lambda agent, message: message.get("method") == method and where.items() <= message["params"].items()


def prompt(*words: str) -> Callable[[Any, Message], Any]:
    def wanted(agent: Any, message: Message) -> Any:
        return message.get("method") == "session/prompt" and message["params"]["prompt"][0]["text"].split()[0] in words

    return wanted


def has(kind: str) -> Callable[[Any, Message], Any]:
    return lambda agent, message: any(
        block.get("type") == kind for block in message.get("params", {}).get("prompt", [])
    )


def bare(wanted: Callable[[Any, Message], Any]) -> Callable[[Any, Message], Any]:
    return lambda agent, message: not agent.client and wanted(agent, message)


def outcome(**where: Any) -> Callable[[Any, Message], Any]:
    """An answer to a permission request."""
    return lambda agent, message: where.items() <= (message.get("result") or {}).get("outcome", {}).items()


def action(name: str) -> Callable[[Any, Message], Any]:
    return lambda agent, message: (message.get("result") or {}).get("action") == name


def unknown(method: str) -> Callable[[Any, Message], Any]:
    return lambda agent, message: (
        message.get("method") == method and message["params"].get("sessionId") not in agent.sessions
    )


def ignore(agent: Any, message: Message) -> None:
    pass


def die(agent: Any, message: Message) -> None:
    raise SystemExit


def refuse(code: int) -> Callable[[Any, Message], Any]:
    return lambda agent, message: agent.error(message, code)


def accept(value: Any = None) -> Callable[[Any, Message], Any]:
    return lambda agent, message: agent.result(message, value)


def change(**params: Any) -> Callable[[Any, Message], Any]:
    """The params are changed, and then it is as ever."""
    return lambda agent, message: message["params"].update(params) is not None


def leave_out(name: str) -> Callable[[Any, Message], Any]:
    return lambda agent, message: bool(message["params"].pop(name, None)) and False


def permit(agent: Any, message: Message) -> bool:
    message["result"]["outcome"] = {"outcome": "selected", "optionId": "o-allow_once"}
    return False


def line(text: bytes, into: bytes | None) -> Callable[[Any, bytes], bytes]:
    """A line that begins so is taken for another; None: the agent dies of it."""

    def cut(agent: Any, data: bytes) -> bytes:
        if not data.startswith(text):
            return data
        if into is None:
            raise SystemExit
        return into

    return cut


def does_array(agent: Any, data: bytes) -> bytes:
    if not data.startswith(b"["):
        return data
    for message in json.loads(data):
        agent.handle(message)
    return b""


def stale_id(agent: Any, message: Message) -> None:
    """A message that is told again has another id."""
    changed = message.get("params", {}).get("update", {})
    if "messageId" in changed and agent.memo.get("resumes"):
        changed["messageId"] += "-again"


def plain_again(agent: Any, message: Message) -> None:
    """Content that is not known is left out when it is told again."""
    changed = message.get("params", {}).get("update", {})
    if changed.get("sessionUpdate") == "user_message" and agent.memo.get("resumes"):
        changed["content"] = [block for block in changed["content"] if not block["type"].startswith("_")]


def resumes(agent: Any, message: Message) -> bool:
    agent.memo["resumes"] = True
    return False


def twice(agent: Any, message: Message) -> Any:
    return [message, message] if agent.about == "session/prompt" else None


def numbers(agent: Any, message: Message) -> None:
    if "method" not in message and str(message.get("id")).isdigit():
        message["id"] = int(message["id"])


def closes_first(agent: Any, message: Message) -> None:
    agent.result(message)
    agent.stop(message["params"]["sessionId"])


def closes_hard(agent: Any, message: Message) -> None:
    session = agent.sessions[message["params"]["sessionId"]]
    for held in session.queue:
        agent.error(held, -32603)
    session.queue = []
    agent.handle(message)


def closes_loudly(agent: Any, message: Message) -> None:
    agent.handle(message)
    agent.text(message["params"]["sessionId"], "agent_message", "one more thing")


def replays_first(agent: Any, message: Message) -> bool:
    agent.replay(message["params"]["sessionId"])
    return False


def replays_last(agent: Any, message: Message) -> None:
    agent.result(message)
    agent.replay(message["params"]["sessionId"])


def remembers_servers(agent: Any, message: Message) -> bool:
    """The servers of an earlier request are connected to when a session is resumed without them."""
    params = message.get("params", {})
    if params.get("mcpServers"):
        agent.memo["servers"] = params["mcpServers"]
    elif message.get("method") == "session/resume":
        params["mcpServers"] = agent.memo.get("servers", [])
    return False


def only_others(agent: Any, message: Message) -> bool:
    params = message.get("params", {})
    params["mcpServers"] = [row for row in params.get("mcpServers") or [] if row.get("type") != "acp"]
    return False


def takes_any_value(agent: Any, message: Message) -> None:
    params = message["params"]
    agent.sessions[params["sessionId"]].options[params["configId"]] = params["value"]
    agent.result(message, {"configOptions": agent.options(params["sessionId"])})


def steals_session(agent: Any, message: Message) -> bool:
    message["params"] |= {"sessionId": message["params"]["_meta"].get("session_id", "")}
    return False


def gives_up_own(agent: Any, message: Message) -> None:
    for id in list(agent.sessions):
        agent.stop(id)


def shows_late(agent: Any, message: Message) -> None:
    """A terminal is shown when it is released already."""
    said = message.get("params", {}).get("update", {})
    if said.get("sessionUpdate") == "tool_call" and said["toolCallId"] == "run":
        agent.memo["terminal"] = said.pop("content")
    elif said.get("status") == "completed" and said["toolCallId"] == "run":
        said["content"] = agent.memo["terminal"]


def keeps_terminal(agent: Any, message: Message) -> Any:
    """It is done with a terminal and does not say so."""
    if message.get("method") != "terminal/release":
        return None
    agent.finish(message["params"]["sessionId"])
    return []


def orphan(agent: Any, message: Message) -> Any:
    """A subagent speaks before it was told of."""
    changed = message.get("params", {}).get("update", {})
    if changed.get("sessionUpdate") != "subagent_update":
        return None
    early = chunk(messageId="early", content={"type": "text", "text": "1"})
    early["params"]["sessionId"] = "child"
    return [early, message]


def locks(agent: Any) -> None:
    agent.locked = True


def dies_after_error(agent: Any, message: Message) -> None:
    agent.error(message, -32602)
    raise SystemExit


def one_option(value: Message) -> None:
    del value["configOptions"][1:]


def no_login(value: Message) -> None:
    value["authMethods"] = []


def same_logins(value: Message) -> None:
    value["authMethods"] *= 2


def typed(kind: str) -> Callable[[Message], Any]:
    def change(value: Message) -> None:
        id = "id" if value["protocolVersion"] == 1 else "methodId"
        value["authMethods"].append({id: "other", "name": "Other", "type": kind, "args": [], "env": []})

    return change


def able(**more: Any) -> Callable[[Message], Any]:
    return lambda value: value["agentCapabilities" if value["protocolVersion"] == 1 else "capabilities"].update(more)


def boolean_marker(value: Message) -> None:
    value["capabilities"]["session"]["delete"] = True


FORM = {"type": "object", "properties": {"password": {"type": "string", "title": "Password"}}}
ASK = {"sessionId": "$s", "message": "Which?", "mode": "form", "requestedSchema": FORM}
CALL = {"toolCallId": "odd", "title": "Odd"}
TEXT = {"type": "text", "text": "x"}
NO_TERMINAL = {"type": "terminal", "terminalId": "none"}
NEW, LOAD, RESUME, CLOSE = (f"session/{name}" for name in ("new", "load", "resume", "close"))
LOCKED = Defect("locked", "", start=locks)
"""No defect: it wants a login, and takes one."""
DEFECTS = (
    # How it begins
    Defect("says-2", "init.version", V1, result("initialize", put(protocolVersion=2))),
    Defect("says-1", "init.version", V2, result("initialize", put(protocolVersion=1))),
    Defect("echoes", "init.unspoken", V1, result("initialize", put(protocolVersion=65535))),
    Defect("echoes-newest", "init.newest", V2, result("initialize", put(protocolVersion=65535))),
    Defect("any-age", "init.too-old", V2, into=when(call("initialize", protocolVersion=0), change(protocolVersion=2))),
    Defect("no-first", "init.first", start=lambda agent: setattr(agent, "ready", True)),
    Defect("no-info", "init.info", V2, result("initialize", drop("info"))),
    Defect(
        *("agrees-anew", "init.repeat", V2),
        into=when(lambda agent, m: m.get("method") == "initialize" and agent.sessions, accept({"protocolVersion": 2})),
    ),
    Defect("dies-of-meta", "init.rich", into=when(call("initialize", _meta={"check": 1}), die)),
    Defect(
        *("strict", "init.malformed", BOTH),
        into=when(lambda agent, m: "annotations" in str(m.get("params", {}).get("prompt")), refuse(-32602)),
    ),
    Defect("knows-you", "carrier.anew", start=lambda agent: setattr(agent, "ready", True), carrier="websocket"),
    Defect("no-big", "rpc.big", into=when(lambda agent, m: len(str(m)) > 2**20, ignore)),
    Defect("decodes-chunks", "rpc.split", cut=lambda agent, data: data.decode(errors="replace").encode()),
    Defect("one-a-chunk", "rpc.joined", cut=lambda agent, data: b"".join(data.splitlines(keepends=True)[:1])),
    Defect(
        "flattens-meta",
        "rpc.meta",
        into=when(lambda a, m: "session_id" in m["params"].get("_meta", {}), steals_session),
    ),
    Defect("stays", "end.stdin"),
    Defect("stays-locked", "auth.needed", V1, into=when(call("authenticate"), accept()), start=locks),
    Defect("stays-locked-2", "auth.needed", V2, into=when(call("auth/login"), accept()), start=locks),
    Defect("locked-oddly", "auth.needed", into=when(call(NEW), refuse(-32603))),
    Defect("no-login-method", "auth.methods", V2, into=when(call("auth/login"), refuse(-32601))),
    Defect("no-logout-method", "auth.methods", V2, into=when(call("auth/logout"), refuse(-32601))),
    Defect("shy-status", "auth.status", into=when(call("auth/status"), refuse(-32000))),
    # Messages
    Defect("number-ids", "rpc.ids", out=numbers),
    Defect("null-for-unknown", "rpc.unknown-method", into=when(call("no/such_method"), accept())),
    Defect("custom-silent", "rpc.custom-method", into=when(call("_check/nothing"), ignore)),
    Defect("dies-of-notification", "rpc.unknown-notification", into=when(call("_check/told"), die)),
    Defect("dies-of-error", "rpc.after-error", into=when(call(NEW, cwd=5), dies_after_error)),
    Defect("dies-of-json", "rpc.no-json", cut=line(b'{"jsonrpc":\n', None)),
    Defect("silent-json", "rpc.no-json-told", cut=line(b'{"jsonrpc":\n', b"")),
    Defect("dies-of-message", "rpc.no-message", cut=line(b"17", None)),
    Defect("silent-message", "rpc.no-message-told", cut=line(b"17", b"")),
    Defect("dies-of-array", "rpc.array", cut=line(b"[", None)),
    Defect("does-array", "rpc.array-told", V2, cut=does_array),
    Defect("dies-of-cancel", "cancel.unknown", into=when(call("$/cancel_request", requestId=4711), die)),
    Defect("answers-cancel", "cancel.idle", into=when(call("session/cancel"), lambda a, m: a.error(None, -32600))),
    # Sessions
    Defect("one-id", "session.distinct", out=result(NEW, put(sessionId="s"))),
    Defect("any-cwd", "session.relative", into=when(call(NEW, cwd="not/absolute"), change(cwd="/"))),
    Defect("wants-login", "session.no-auth", out=result("initialize", no_login), into=when(call(NEW), refuse(-32000))),
    Defect(
        "needs-servers",
        "session.no-servers",
        V2,
        into=when(lambda a, m: m.get("method") == NEW and "mcpServers" not in m["params"], refuse(-32602)),
    ),
    Defect(
        "one-directory",
        "session.directories",
        into=when(lambda a, m: "additionalDirectories" in m.get("params", {}), refuse(-32602)),
    ),
    Defect("no-replay", "load.replay", V1, into=when(call(LOAD), accept())),
    Defect("late-replay", "load.replay", V1, into=when(call(LOAD), replays_last)),
    Defect(
        "half-replay",
        "load.replay",
        V1,
        into=when(prompt("say"), lambda a, m: bool(a.sessions[m["params"]["sessionId"]].history.clear())),
    ),
    Defect("no-replay-2", "resume.replay", V2, into=when(call(RESUME), leave_out("replayFrom"))),
    Defect(
        "replays",
        "resume.silent",
        into=when(lambda a, m: m.get("method") == RESUME and not m["params"].get("replayFrom"), replays_first),
    ),
    Defect("new-ids", "resume.ids", V2, stale_id, when(call(RESUME), resumes)),
    Defect("no-state", "resume.state", V2, into=when(call(RESUME), accept())),
    Defect("any-cursor-type", "resume.from", V2, into=when(call(RESUME), change(replayFrom={"type": "start"}))),
    Defect(
        "old-notices",
        "resume.notices",
        V2,
        into=when(
            call(RESUME),
            lambda a, m: a.say(update(last(a), sessionUpdate="notice", severity="info", title="x")) is not None,
        ),
    ),
    Defect("drops-unknown", "resume.unknown", V2, plain_again, when(call(RESUME), resumes)),
    Defect("close-forgets", "close.cancels", V1, into=when(call(CLOSE), accept())),
    Defect("close-first", "close.cancels", V2, into=when(call(CLOSE), closes_first)),
    Defect("close-hard", "close.pending", V2, into=when(call(CLOSE), closes_hard)),
    Defect("close-loud", "close.quiet", V2, into=when(call(CLOSE), closes_loudly)),
    Defect("close-strict", "close.unknown", V2, into=when(unknown(CLOSE), refuse(-32002))),
    Defect("keeps-deleted", "delete.gone", into=when(call("session/delete"), accept())),
    Defect("delete-once", "delete.twice", into=when(unknown("session/delete"), refuse(-32002))),
    Defect(
        "lists-all",
        "list.shape",
        into=when(lambda a, m: m.get("method") == "session/list" and "cwd" in m["params"], leave_out("cwd")),
    ),
    Defect("lists-none", "list.shape", out=result("session/list", put(sessions=[], nextCursor=None))),
    Defect(
        "any-cursor", "list.cursor", into=when(call("session/list", cursor="acp-check-made-up"), leave_out("cursor"))
    ),
    Defect("no-mcp", "mcp.stdio", V1, into=when(call(NEW), change(mcpServers=[]))),
    Defect("old-servers", "mcp.anew", V2, into=remembers_servers),
    Defect("any-server", "mcp.kind", V2, into=when(lambda a, m: "_check_pigeon" in str(m), change(mcpServers=[]))),
    Defect(
        "any-option",
        "config.unknown",
        into=when(call("session/set_config_option", configId="acp-check-none"), accept({"configOptions": []})),
    ),
    Defect("one-option", "config.set", out=result("session/set_config_option", one_option)),
    Defect("any-value", "config.value", into=when(call("session/set_config_option"), takes_any_value)),
    Defect("mode-alone", "modes.step", V1, told("config_option_update", lambda update: stale(update["configOptions"]))),
    Defect("option-alone", "modes.step", V1, told("current_mode_update", put(currentModeId="do"))),
    Defect("mode-forgotten", "modes.step", V1, forgets_mode),
    # Turns
    Defect("own-reason", "turn.tour", V1, result("session/prompt", put(stopReason="done"))),
    Defect("own-reason-2", "turn.tour", V2, told("state_update", put(stopReason="done"), state="idle")),
    *(
        Defect(f"hangs-in-{name}", f"tour.{name}", into=when(prompt(name), ignore))
        for name in ("ask", "read", "edit", "run", "plan", "background", "delegate", "notify")
    ),
    Defect("no-links", "prompt.link", into=when(has("resource_link"), refuse(-32602))),
    Defect("no-images", "prompt.content", into=when(has("image"), refuse(-32602))),
    Defect(
        "any-session",
        "prompt.unknown-session",
        V1,
        into=when(unknown("session/prompt"), accept({"stopReason": "end_turn"})),
    ),
    Defect(
        "any-session-2", "prompt.unknown-session", V2, into=when(unknown("session/prompt"), accept({"messageId": "m"}))
    ),
    Defect("other-message", "prompt.inserted", V2, told("user_message", put(messageId="other"))),
    Defect("no-message-id", "prompt.inserted", V2, result("session/prompt", put(messageId=""))),
    Defect("never-runs", "turn.states", V2, unsaid("state_update", state="running")),
    Defect("no-reason", "turn.reason", V2, told("state_update", drop("stopReason"), state="idle")),
    Defect("never-waits", "turn.waits", V2, unsaid("state_update", state="requires_action")),
    Defect("cancel-ends", "turn.cancel", V1, result("session/prompt", put(stopReason="end_turn"))),
    Defect(
        "cancel-is-error",
        "turn.cancel",
        V1,
        lambda a, m: (
            [{"id": m["id"], "error": {"code": -32603, "message": "x"}}]
            if "stopReason" in m.get("result", {})
            else None
        ),
    ),
    Defect("cancel-ends-2", "turn.cancel", V2, told("state_update", put(stopReason="end_turn"), state="idle")),
    Defect(
        "asks-on", "cancel.asking", into=when(lambda a, m: m.get("method") == "session/cancel" and a.pending, ignore)
    ),
    Defect("no-cancel-request", "request.heeded", V1, into=when(call("$/cancel_request"), ignore)),
    Defect("cancel-request-fails", "request.cancel", BOTH, into=when(prompt("cancel"), refuse(-32603))),
    Defect("leaves-nested", "cancel.nested", BOTH, asks("$/cancel_request", lambda params: [])),
    Defect(
        "cancels-own",
        "cancel.own",
        V2,
        into=when(
            lambda a, m: m.get("method") == "$/cancel_request" and m["params"]["requestId"] in a.pending, gives_up_own
        ),
    ),
    # Permissions, forms, files, terminals
    Defect("hangs-when-allowed", "permission.allowed", into=when(outcome(outcome="selected"), ignore)),
    Defect("does-rejected", "permission.rejected", into=when(outcome(optionId="o-reject_once"), permit)),
    Defect("does-other", "permission.other", into=when(outcome(optionId="acp-check-never-offered"), permit)),
    Defect("does-tomorrow", "permission.tomorrow", into=when(outcome(outcome="_check_outcome"), permit)),
    Defect("hangs-when-declined", "form.answers", into=when(action("decline"), ignore)),
    Defect("dies-of-tomorrow", "form.tomorrow", into=when(action("_check_action"), die)),
    Defect("needs-forms", "form.bare", into=when(bare(prompt("form")), ignore)),
    Defect("hangs-at-visit", "form.visit", into=when(action("accept"), ignore)),
    Defect("needs-terminals", "bare.works", into=when(bare(prompt("run")), ignore)),
    Defect("keeps-terminal", "terminal.release", V1, keeps_terminal),
    Defect("any-call", "call.none", V2, into=when(call("tool_call/cancel"), accept())),
    Defect("never-confirms", "call.cancel", V2, into=when(call("terminal/cancel"), accept())),
    # Drafts
    Defect("lists-archived", "archive.hides", into=when(call("session/list"), change(archived="include"))),
    Defect("any-archive", "archive.refuses", into=when(unknown("session/archive"), accept())),
    Defect("any-status", "status.asks", into=when(unknown("session/status"), accept({"status": "saved"}))),
    Defect("no-title", "title.keeps", into=when(call("session/set_title"), accept())),
    Defect("any-prompt", "prompt.system", into=when(call(NEW), leave_out("systemPrompt"))),
    Defect("no-mcp-acp", "mcp.acp", into=only_others),
    # What is watched
    Defect("latin-1", "wire.utf8", out=with_end(b'{"jsonrpc":"2.0","method":"_x","params":{"a":"\xe9"}}')),
    Defect("prints", "wire.purity", out=with_end(b"thinking about it")),
    Defect("both", "wire.envelope", out=with_end({"id": 99, "method": "_x", "result": {}})),
    Defect("answers-twice", "wire.unasked", out=twice),
    Defect(
        "answers-notification",
        "wire.unasked",
        into=when(call("session/cancel"), lambda a, m: a.say({"id": "c", "result": {}}) is not None),
    ),
    Defect("null-id", "wire.ids", out=with_end({"id": None, "method": "_mine", "params": {}})),
    Defect("own-method", "wire.names", out=with_end({"method": "my/method", "params": {}})),
    Defect(
        "agents-method", "wire.names", out=with_end({"id": 9, "method": NEW, "params": {"cwd": "/", "mcpServers": []}})
    ),
    Defect("no-content", "wire.schema", out=with_end(chunk(messageId="x"))),
    Defect("list-null", "wire.schema", out=result("session/list", put(sessions=None, nextCursor=None))),
    Defect("own-member", "wire.members", out=result("initialize", put(mine=1))),
    Defect("own-capability", "wire.capabilities", out=result("initialize", able(mine={}))),
    Defect("boolean-marker", "wire.markers", V2, result("initialize", boolean_marker)),
    Defect("own-kind", "wire.values", V2, with_end(update(sessionUpdate="tool_call_update", kind="special", **CALL))),
    Defect("meta-list", "wire.meta", out=result("initialize", put(_meta=[]))),
    Defect(
        "relative-path",
        "wire.paths",
        out=with_end(update(sessionUpdate="tool_call", locations=[{"path": "a.txt"}], **CALL)),
    ),
    Defect(
        "two-lines", "wire.error-line", out=lambda a, m: m["error"].update(message="no\nno") if "error" in m else None
    ),
    Defect(
        "other-session",
        "wire.session",
        out=with_end(
            chunk(messageId="x", content=TEXT)
            | {"params": {"sessionId": "nowhere", "update": chunk(messageId="x", content=TEXT)["params"]["update"]}}
        ),
    ),
    Defect("late", "wire.late", out=with_end(chunk(messageId="x", content=TEXT), after=True)),
    Defect(
        "call-order",
        "wire.call-order",
        V1,
        with_end(update(sessionUpdate="tool_call_update", toolCallId="none", status="completed")),
    ),
    Defect(
        "reads-files",
        "wire.ungated",
        V1,
        with_end({"id": 7, "method": "fs/read_text_file", "params": {"sessionId": "$s", "path": "/a"}}),
    ),
    Defect("shows-forms", "wire.ungated", V2, with_end({"id": 7, "method": "elicitation/create", "params": ASK})),
    Defect("notices", "wire.notices", V1, with_end(update(sessionUpdate="notice", severity="info", title="x"))),
    Defect("no-options", "wire.options", out=asks("session/request_permission", put(options=[]))),
    Defect(
        "same-options",
        "wire.options",
        out=asks("session/request_permission", lambda params: params.update(options=[params["options"][0]] * 2)),
    ),
    Defect(
        "no-command",
        "wire.command-subject",
        V2,
        asks("session/request_permission", lambda params: drop("command")(params["subject"])),
    ),
    Defect(
        "bad-config", "wire.config", out=result(NEW, lambda value: value["configOptions"][0].update(currentValue="z"))
    ),
    Defect(
        "booleans",
        "wire.booleans",
        V1,
        result(
            NEW,
            lambda value: value["configOptions"].append(
                {"id": "b", "name": "B", "type": "boolean", "currentValue": True}
            ),
        ),
    ),
    Defect(
        "bad-command",
        "wire.commands",
        V2,
        told("available_commands_update", lambda u: u["availableCommands"][0].update(name="/a b")),
    ),
    Defect("same-logins", "wire.auth-ids", out=result("initialize", same_logins)),
    Defect("odd-login", "wire.auth-types", V2, result("initialize", typed("magic"))),
    Defect("any-terminal", "wire.auth-terminal", out=result("initialize", typed("terminal"))),
    Defect(
        "same-status",
        "wire.auth-status",
        out=with_end(*[{"method": "auth/status_update", "params": {"state": "unknown"}}] * 2),
    ),
    Defect("asks-password", "wire.secrets", out=asks("elicitation/create", put(mode="form", requestedSchema=FORM))),
    Defect(
        "plain-http",
        "wire.secrets",
        out=asks("elicitation/create", put(mode="url", url="http://example.org/", elicitationId="e")),
    ),
    Defect(
        "completes-any",
        "wire.complete",
        out=with_end({"method": "elicitation/complete", "params": {"elicitationId": "never"}}),
    ),
    Defect(
        "one-message-id",
        "wire.message-ids",
        V2,
        lambda a, m: [m | {"result": {"messageId": "p"}}] if "messageId" in m.get("result", {}) else None,
    ),
    Defect("no-message-ids", "wire.message-ids", V2, told("agent_message_chunk", drop("messageId"))),
    Defect("no-titles", "wire.calls", V2, told("tool_call_update", drop("title"))),
    Defect("other-names", "wire.calls", V2, told("tool_call_update", put(name="other"), status="completed")),
    Defect(
        "git-prefixes",
        "wire.diffs",
        V2,
        lambda a, m: [json.loads(json.dumps(m).replace("+++ /", "+++ b/"))] if "+++" in json.dumps(m) else None,
    ),
    Defect("raw-output", "wire.terminals", V2, told("terminal_output_chunk", put(data="up!"))),
    Defect("no-terminal", "wire.terminals", V2, unsaid("terminal_update", terminalId="t-run")),
    Defect(
        "asks-with-terminal",
        "wire.shown-terminals",
        V1,
        asks("session/request_permission", lambda params: params["toolCall"].update(content=[NO_TERMINAL])),
    ),
    Defect("shows-no-terminal", "wire.shown-terminals", V1, told("tool_call", put(content=[NO_TERMINAL]))),
    Defect("shows-released", "wire.shown-terminals", V1, shows_late),
    Defect("nameless-plan", "wire.plans", V2, told("plan_update", lambda u: u["plan"].update(planId=""))),
    Defect(
        "untold-work",
        "wire.background",
        V2,
        told("state_update", put(background=[{"type": "terminal", "terminalId": "none"}])),
    ),
    Defect("forgets-work", "wire.background", V2, told("terminal_update", drop("exitStatus"), terminalId="t-back")),
    Defect("orphan", "wire.subagents", out=orphan),
    Defect("other-server", "wire.mcp", out=asks("mcp/message", put(serverId="other"))),
)
